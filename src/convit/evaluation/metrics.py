"""Figures of a whole evaluation, from the scores of its images: accuracies, intervals, calibration, confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from convit.evaluation.scoring import Scores

RESAMPLES = 2000
LEVEL = 0.95
BINS = 15
_Z = 1.959964  # standard deviations that 95 % of a normal distribution lie within

Interval = tuple[float, float]
Confusion = tuple[tuple[int, int, int], ...]


def bootstrap(
    values: Mapping[str, Float64[np.ndarray[Any, Any], " images"] | Bool[np.ndarray[Any, Any], " images"]],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Confidence intervals of means over the same images, by the percentile bootstrap.

    Each resample draws as many images as there are, with replacement, and takes the mean of every column over them;
    the interval leaves out the same share of these means at both ends. (Efron 1979.)

    Args:
        values: columns with one value per image.
        level: the part of resampled means inside, 0 to 1.
        resamples: how often.
        seed: of the drawing, so that the same scores give the same interval.

    Returns:
        (lower, upper) of each column's mean.

    >>> bootstrap({"top1": np.array([True] * 50)})
    {'top1': (1.0, 1.0)}
    """
    table = np.stack([np.asarray(column, dtype=np.float64) for column in values.values()], axis=1)
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, table.shape[1]))
    for number in range(resamples):
        means[number] = table[generator.integers(len(table), size=len(table))].mean(axis=0)
    outside = (1 - level) / 2
    lower, upper = np.quantile(means, [outside, 1 - outside], axis=0)
    return {name: (float(low), float(high)) for name, low, high in zip(values, lower, upper, strict=True)}


def limits_of(right: Bool[np.ndarray[Any, Any], " images"]) -> Interval | None:
    """The 95 % interval, in percent, of a share that is 0 or 1, which resampling cannot tell from certainty.

    Source: Wilson 1927, score interval. None where some images are right and some are wrong.

    >>> [round(limit, 1) for limit in limits_of(np.array([True] * 10))]
    [72.2, 100.0]
    """
    far = len(right) / (len(right) + _Z**2)
    if right.all():
        return 100 * far, 100.0
    return None if right.any() else (0.0, 100 * (1 - far))


def calibration_bins(scores: Scores, bins: int = BINS) -> tuple[dict[str, float], ...]:
    """How often the model is right where it says how sure it is: a reliability diagram's bins.

    Args:
        scores: of the images.
        bins: equal parts of the confidences from 0 to 1; a bin holds its upper end.

    Returns:
        Of each bin its "lower" and "upper" end, "count" of images, and over these the mean "confidence" and the
        "accuracy", 0 to 1; both are 0 in an empty bin.
    """
    place = np.clip(np.ceil(scores.confidences * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    filled = np.maximum(counts, 1)
    confidence = np.bincount(place, weights=scores.confidences, minlength=bins) / filled
    accuracy = np.bincount(place, weights=scores.right(), minlength=bins) / filled
    return tuple(
        {
            "lower": number / bins,
            "upper": (number + 1) / bins,
            "count": int(counts[number]),
            "confidence": float(confidence[number]),
            "accuracy": float(accuracy[number]),
        }
        for number in range(bins)
    )


def calibration_error(bins: Sequence[Mapping[str, float]]) -> float:
    """Expected calibration error in percent: the mean gap between confidence and accuracy, weighted by images.

    Source: Guo et al. 2017 (arXiv 1706.04599), Eq. 3.

    >>> calibration_error([{"count": 4, "confidence": 0.75, "accuracy": 0.5}])
    25.0
    """
    total = sum(each["count"] for each in bins)
    return 100 * sum(each["count"] * abs(each["accuracy"] - each["confidence"]) for each in bins) / total


def confusion(scores: Scores) -> Confusion:
    """How many images of each class were taken for which: (right class, predicted class, images), where there are any.

    The classes are the model's; rows ascend by the right class and then by the predicted one.
    """
    pairs, counts = np.unique(np.stack([scores.labels, scores.predicted]), axis=1, return_counts=True)
    return tuple((int(right), int(taken), int(count)) for (right, taken), count in zip(pairs.T, counts, strict=True))


def by_class(scores: Scores, found: Confusion, names: Sequence[str] | None = None) -> tuple[dict[str, Any], ...]:
    """Accuracy of each class that has images.

    Args:
        scores: of the images.
        found: their confusion.
        names: the model's class names, None where it brings none.

    Returns:
        Of each class, by ascending number: "class" (its number), "name" (or its number as text), "count" of images,
        "top1" and "top5" in percent, and "mistaken_for", the wrong class that the most images were taken for, None
        where no image was.
    """
    wrong: dict[int, tuple[int, int]] = {}
    for right, taken, count in found:
        if taken != right and count > wrong.get(right, (0, 0))[0]:
            wrong[right] = (count, taken)
    counts = np.bincount(scores.labels)
    top1, top5 = (np.bincount(scores.labels, weights=scores.right(first)) for first in (1, 5))
    return tuple(
        {
            "class": number,
            "name": str(number) if names is None else names[number],
            "count": int(counts[number]),
            "top1": 100 * float(top1[number]) / int(counts[number]),
            "top5": 100 * float(top5[number]) / int(counts[number]),
            "mistaken_for": wrong[number][1] if number in wrong else None,
        }
        for number in np.flatnonzero(counts).tolist()
    )
