"""What came of a run: accuracy by class, what is taken for what, and the worst mistakes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from convit.data.datasets import ImageDataset
from convit.inference import Classifier

MISTAKES = 24


@dataclass(frozen=True)
class Mistake:
    """A picture that the model is wrong about.

    Attributes:
        index: its place in the validation pictures.
        name: its path or key.
        truth: its class.
        predicted: the class that the model gives.
        score: the model's probability of that class.
        true_score: its probability of the right one; None where that is not among its first five.
    """

    index: int
    name: str
    truth: int
    predicted: int
    score: float
    true_score: float | None


@dataclass(frozen=True)
class Scores:
    """A model on the validation pictures.

    Attributes:
        classes: class names in index order.
        confusion: number of pictures by (true class, predicted class).
        top5: number of pictures whose class is among the model's first five.
        mistakes: the most confident ones, worst first.
        unreadable: name and problem of pictures that could not be read; in none of the figures.
    """

    classes: tuple[str, ...]
    confusion: npt.NDArray[np.int64]
    top5: int
    mistakes: tuple[Mistake, ...]
    unreadable: dict[str, str]

    @property
    def count(self) -> int:
        """Pictures that were scored."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Pictures whose class the model puts first."""
        return int(self.confusion.trace())

    @property
    def top1(self) -> float:
        """Their share, percent."""
        return 100 * self.correct / self.count

    @property
    def mean_class(self) -> float:
        """Mean of the classes' accuracies, percent: each class counts alike, whatever its number of pictures."""
        found = [accuracy for accuracy in self.by_class() if accuracy is not None]
        return sum(found) / len(found)

    def by_class(self) -> list[float | None]:
        """Share of each class's pictures that the model is right about, percent; None for a class without any."""
        counts = self.confusion.sum(axis=1)
        return [
            100 * int(self.confusion[index, index]) / int(count) if count else None
            for index, count in enumerate(counts)
        ]

    def pairs(self, most: int) -> list[tuple[int, int, int]]:
        """(true class, predicted class, pictures) of the commonest confusions, most first."""
        wrong = self.confusion * (1 - np.eye(len(self.classes), dtype=np.int64))
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        found = [(*divmod(int(place), len(self.classes)), int(wrong.flat[place])) for place in order]
        return [pair for pair in found if pair[2]]

    def interval(self) -> tuple[float, float]:
        """Where top-1 lies with 95 % confidence, percent, for so many pictures (Wilson 1927)."""
        return wilson(self.correct, self.count)


def score_pictures(
    weights: Path, images: ImageDataset, classes: tuple[str, ...], advance: Callable[[], None] = lambda: None
) -> Scores:
    """Let the trained file, as `convit classify` reads it, label the validation pictures.

    They are prepared as in training's own validation, so that both give the same accuracy.

    Args:
        weights: the run's `weights.safetensors`.
        images: the validation pictures.
        classes: class names in index order.
        advance: called after each picture.

    Raises:
        ValueError: none of the pictures can be read.
    """
    classifier = Classifier(weights=weights, top_k=5, apply_exif=False)
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    unreadable: dict[str, str] = {}
    waiting: deque[int] = deque()
    mistakes: list[Mistake] = []
    top5 = 0

    def readable() -> Iterator[Image.Image]:
        for index in range(len(images)):
            try:
                image = images.samples.image(images.indices[index])
            except ValueError as error:
                unreadable[images.samples.names[images.indices[index]]] = str(error)
                advance()
                continue
            waiting.append(index)
            yield image

    for result in classifier.iterate(readable()):
        index = waiting.popleft()
        advance()
        name, truth = images.samples.names[images.indices[index]], images.label(index)
        if result.error is not None:
            unreadable[name] = result.error
            continue
        best = result.predictions[0]
        scores = {each.index: each.score for each in result.predictions}
        confusion[truth, best.index] += 1
        top5 += truth in scores
        if best.index != truth:
            mistakes.append(Mistake(index, name, truth, best.index, best.score, scores.get(truth)))
    if not confusion.any():
        raise ValueError(f"none of the {len(images)} validation images can be read; {next(iter(unreadable.values()))}")
    mistakes.sort(key=lambda mistake: -mistake.score)
    return Scores(classes, confusion, top5, tuple(mistakes[:MISTAKES]), unreadable)


def wilson(correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, percent.

    >>> [round(bound, 1) for bound in wilson(9, 10)]
    [59.6, 98.2]
    """
    z = 1.96
    share = correct / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, 100 * (middle - half)), min(100.0, 100 * (middle + half))


def summary(scores: Scores) -> dict[str, Any]:
    """The figures as JSON-able values."""
    counts = scores.confusion.sum(axis=1)
    low, high = scores.interval()
    return {
        "images": scores.count,
        "correct": scores.correct,
        "top1": scores.top1,
        "top1_interval_95": [low, high],
        "top5": 100 * scores.top5 / scores.count if len(scores.classes) > 5 else None,
        "mean_class_accuracy": scores.mean_class,
        "classes": [
            {"name": name, "images": int(count), "accuracy": accuracy}
            for name, count, accuracy in zip(scores.classes, counts, scores.by_class(), strict=True)
        ],
        "confusion": scores.confusion.tolist(),
        "confusions": [
            {"truth": scores.classes[truth], "predicted": scores.classes[predicted], "images": number}
            for truth, predicted, number in scores.pairs(len(scores.classes) ** 2)[:50]
        ],
        "mistakes": [
            {
                "image": mistake.name,
                "truth": scores.classes[mistake.truth],
                "predicted": scores.classes[mistake.predicted],
                "score": mistake.score,
                "true_score": mistake.true_score,
            }
            for mistake in scores.mistakes
        ],
        "unreadable": scores.unreadable,
    }
