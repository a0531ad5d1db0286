"""What is computed of each image's logits, and of all of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one image.

    Attributes:
        name: path or key of the image.
        label: its class, by the model's numbers; of several that count as right the one that the model prefers.
        rank: how many classes the model prefers to it: 0 where the model is right; None where the image failed.
        loss: cross entropy, natural logarithm; None likewise.
        predicted: the class that the model puts first; None likewise.
        confidence: the probability that the model gives it, 0 to 1; None likewise.
        error: what is wrong with the image, None where all went well.
    """

    name: str
    label: int
    rank: int | None = None
    loss: float | None = None
    predicted: int | None = None
    confidence: float | None = None
    error: str | None = None


def ranks_of(
    scores: Float[np.ndarray[Any, Any], "images classes"], labels: Int64[np.ndarray[Any, Any], " images"]
) -> Int64[np.ndarray[Any, Any], " images"]:
    """Count the classes that stand before the right one; of equal scores the class with the lower number comes first.

    Where the right class's score is not a number, all classes do.

    >>> ranks_of(np.array([[0.1, 0.9, 0.5], [0.3, 0.3, 0.3]]), np.array([2, 1])).tolist()
    [1, 1]
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    ranks = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    return np.where(np.isnan(own[:, 0]), scores.shape[1], ranks)


def score_image(name: str, labels: int | Collection[int], logits: Float32[np.ndarray[Any, Any], " classes"]) -> Outcome:
    """Compare one image's logits with its label, in float64.

    Of classes with equal logits the one with the lower number comes first, so that a model which says nothing is not
    right about everything.

    Args:
        name: path or key of the image.
        labels: its class; or all classes that count as right, of which the one that the model prefers is then taken
            (ImageNet's ReaL labels: right if the first guess is among them).
        logits: of all classes; -inf for one that does not compete.

    >>> logits = np.array([0.0, 2.0, 3.0], dtype=np.float32)
    >>> score_image("cat.jpg", 1, logits).rank
    1
    >>> score_image("cat and dog.jpg", (0, 2), logits).rank
    0
    """
    exact = logits.astype(np.float64)
    label = labels if isinstance(labels, int) else max(sorted(labels), key=lambda each: exact[each])
    rank = int(ranks_of(exact[None], np.array([label]))[0])
    predicted = int(exact.argmax())  # of equal ones the first
    log_sum = float(exact[predicted] + np.log(np.exp(exact - exact[predicted]).sum()))
    confidence = float(np.exp(exact[predicted] - log_sum))
    return Outcome(name, label, rank, float(log_sum - exact[label]), predicted, confidence)


@dataclass(frozen=True)
class Scores:
    """The outcomes of all images that could be read, column by column, in the data's order.

    Attributes:
        places: the place of each image in the data.
        names: paths or keys.
        labels: the class that is right, by the model's numbers.
        predicted: the class that the model puts first.
        ranks: how many classes the model prefers to the right one.
        losses: cross entropies, natural logarithm.
        confidences: the probability of the class that the model puts first, 0 to 1.
    """

    places: Int64[np.ndarray[Any, Any], " images"]
    names: tuple[str, ...]
    labels: Int64[np.ndarray[Any, Any], " images"]
    predicted: Int64[np.ndarray[Any, Any], " images"]
    ranks: Int64[np.ndarray[Any, Any], " images"]
    losses: Float64[np.ndarray[Any, Any], " images"]
    confidences: Float64[np.ndarray[Any, Any], " images"]

    def __len__(self) -> int:
        return len(self.names)

    def right(self, first: int = 1) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """For each image whether its class is among the model's first few."""
        return self.ranks < first


@dataclass
class Tally:
    """Outcomes with the places of their images in the data; those that failed are kept apart.

    Attributes:
        scored: (place, outcome) of the images that could be scored.
        failed: (place, outcome) of the others, which take no part in any metric.

    >>> tally = Tally()
    >>> tally.add(0, score_image("a", 1, np.array([0.0, 1.0], dtype=np.float32)))
    >>> tally.scores().ranks.tolist()
    [0]
    """

    scored: list[tuple[int, Outcome]] = field(default_factory=list[tuple[int, Outcome]])
    failed: list[tuple[int, Outcome]] = field(default_factory=list[tuple[int, Outcome]])

    def add(self, place: int, outcome: Outcome) -> None:
        """Take in one image."""
        (self.scored if outcome.error is None else self.failed).append((place, outcome))

    def places(self) -> list[int]:
        """The places of all images, ascending."""
        return sorted(place for place, _ in (*self.scored, *self.failed))

    def scores(self) -> Scores:
        """The scored images, column by column, in the order of their places."""
        ordered = sorted(self.scored, key=lambda pair: pair[0])
        outcomes = [outcome for _, outcome in ordered]

        def column(values: Sequence[Any], dtype: type) -> np.ndarray[Any, Any]:
            return np.array(values, dtype=dtype)

        return Scores(
            places=column([place for place, _ in ordered], np.int64),
            names=tuple(each.name for each in outcomes),
            labels=column([each.label for each in outcomes], np.int64),
            predicted=column([each.predicted for each in outcomes], np.int64),
            ranks=column([each.rank for each in outcomes], np.int64),
            losses=column([each.loss for each in outcomes], np.float64),
            confidences=column([each.confidence for each in outcomes], np.float64),
        )
