"""What is computed of each image's logits, and of all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one image.

    Attributes:
        name: path or key of the image.
        label: its class, by the model's numbers; of several that count as right the one that the model prefers.
        rank: how many classes the model prefers to it: 0 if the model is right; None if the image failed.
        loss: cross entropy, natural logarithm; None likewise.
        predicted: the class that the model puts first; None likewise.
        confidence: the probability that the model gives it, 0 to 1; None likewise.
        error: what is wrong with the image, None if all went well.
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


def score_image(
    name: str,
    labels: int | Collection[int],
    logits: Float32[np.ndarray[Any, Any], " classes"],
    temperature: float = 1.0,
) -> Outcome:
    """Compare one image's logits with its label, in float64.

    Of classes with equal logits the one with the lower number comes first, so that a model which says nothing is not
    right about everything.

    Args:
        name: path or key of the image.
        labels: its class; or all classes that count as right, of which the one that the model prefers is then taken
            (ImageNet's ReaL labels: right if the first guess is among them).
        logits: of all classes; -inf for one that does not compete.
        temperature: what the logits are divided by before the softmax.

    >>> logits = np.array([0.0, 2.0, 3.0], dtype=np.float32)
    >>> score_image("cat.jpg", 1, logits).rank
    1
    >>> score_image("cat and dog.jpg", (0, 2), logits).rank
    0
    """
    exact = logits.astype(np.float64) / temperature
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

    @classmethod
    def of(cls, outcomes: Iterable[tuple[int, Outcome]]) -> Scores:
        """The columns of (place, outcome) pairs in any order; images that failed are left out.

        >>> Scores.of([(0, score_image("a", 1, np.array([0.0, 1.0], dtype=np.float32)))]).ranks.tolist()
        [0]
        """
        ordered = sorted(((place, each) for place, each in outcomes if each.error is None), key=lambda pair: pair[0])

        def column(name: str, dtype: type) -> np.ndarray[Any, Any]:
            return np.array([getattr(outcome, name) for _, outcome in ordered], dtype=dtype)

        return cls(
            places=np.array([place for place, _ in ordered], dtype=np.int64),
            names=tuple(outcome.name for _, outcome in ordered),
            labels=column("label", np.int64),
            predicted=column("predicted", np.int64),
            ranks=column("rank", np.int64),
            losses=column("loss", np.float64),
            confidences=column("confidence", np.float64),
        )

    def __len__(self) -> int:
        return len(self.names)

    def right(self, first: int = 1) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """For each image whether its class is among the model's first few."""
        return self.ranks < first
