"""Metrics of a whole evaluation, from the scores of its images: accuracies, intervals, calibration, confusion.

Intervals need SciPy and calibration scikit-learn, the extra `evaluate`; both are imported when they are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from convit.evaluation.scoring import Scores
from convit.weights.labels import name_class

RESAMPLES = 2000
LEVEL = 0.95
BINS = 15
TEMPERATURES = (0.1, 10.0)  # the least and the most that is tried
LEAST_CALIBRATED, LEAST_MISTAKES, MOST_CALIBRATED = 50, 5, 20_000  # images
_AT_ONCE = 400_000  # resampled values per column that are held in memory

Interval = tuple[float, float]
Confusion = tuple[tuple[int, int, int], ...]


def top(ranks: Int64[np.ndarray[Any, Any], " images"], first: int = 1) -> float:
    """The percentage of images whose class is among the first few.

    >>> top(np.array([0, 1, 5, 0]), 5)
    75.0
    """
    return 100 * int((ranks < first).sum()) / len(ranks)


def bootstrap(
    values: Mapping[str, Float64[np.ndarray[Any, Any], " images"] | Bool[np.ndarray[Any, Any], " images"]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """95 % confidence intervals (lower, upper) of the columns' means over images, by SciPy's percentile bootstrap.

    Each resample draws as many images as there are, with replacement, the same for all columns; the interval leaves out
    the same share of these means at both ends (Efron 1979). The same seed gives the same intervals.

    >>> bootstrap({"top1": np.array([True] * 50)})
    {'top1': (1.0, 1.0)}
    """
    from scipy import stats

    table = np.stack([np.asarray(column, dtype=np.float64) for column in values.values()])
    if table.shape[1] == 1:
        table = np.repeat(table, 2, axis=1)  # SciPy asks for two observations; their mean is the one's
    found = stats.bootstrap(
        (table,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _AT_ONCE // table.shape[1]),
        axis=-1,  # the same images are drawn for all columns
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return {name: (float(low), float(high)) for name, low, high in zip(values, found.low, found.high, strict=True)}


def limits_of(right: Bool[np.ndarray[Any, Any], " images"]) -> Interval | None:
    """The 95 % interval, in percent, of a share that is 0 or 1, which resampling cannot tell from certainty.

    Source: Wilson 1927, score interval. None if some images are right and some are wrong.

    >>> [round(limit, 1) for limit in limits_of(np.array([True] * 10))]
    [72.2, 100.0]
    """
    if right.any() and not right.all():
        return None
    from scipy.stats import binomtest

    low, high = binomtest(int(right.sum()), len(right)).proportion_ci(LEVEL, method="wilson")
    return 100 * float(low), 100 * float(high)


def accuracies(scores: Scores) -> dict[str, Any]:
    """Top-1, top-5 and loss of an evaluation, with their intervals and the numbers of images behind them.

    Gives the attributes of `Evaluation` from "top1" to "intervals".
    """
    hits = {"top1": scores.right(1), "top5": scores.right(5)}
    exact = {name: limits for name, right in hits.items() if (limits := limits_of(right)) is not None}
    columns = {**{name: 100.0 * right for name, right in hits.items()}, "loss": scores.losses}
    return {
        "top1": top(scores.ranks),
        "top5": top(scores.ranks, 5),
        "loss": float(scores.losses.mean()),
        "correct_top1": int(hits["top1"].sum()),
        "correct_top5": int(hits["top5"].sum()),
        "intervals": bootstrap(columns) | exact,
    }


def calibration_bins(
    right: Bool[np.ndarray[Any, Any], " images"],
    confidences: Float64[np.ndarray[Any, Any], " images"],
    bins: int = BINS,
) -> tuple[dict[str, float], ...]:
    """How often the model is right where it says how sure it is: a reliability diagram's bins.

    Confidences are the probabilities, 0 to 1, of the classes that the model puts first; bins are equal parts of these,
    each with its upper end.

    Returns:
        Of each bin its "lower" and "upper" end, "count" of images, and over these the mean "confidence" and the
        "accuracy", 0 to 1; both are 0 in an empty bin.
    """
    from sklearn.calibration import calibration_curve

    edges = np.linspace(0, 1, bins + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], confidences), minlength=bins)
    accuracy, confidence = np.zeros(bins), np.zeros(bins)
    # scikit-learn leaves empty bins out
    accuracy[counts > 0], confidence[counts > 0] = calibration_curve(right, confidences, n_bins=bins)
    columns = (edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), confidence.tolist(), accuracy.tolist())
    names = ("lower", "upper", "count", "confidence", "accuracy")
    return tuple(dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


def calibration_error(bins: Sequence[Mapping[str, float]]) -> float:
    """Expected calibration error in percent: the mean gap between confidence and accuracy, weighted by images.

    Source: Guo et al. 2017 (arXiv 1706.04599), Eq. 3.

    >>> calibration_error([{"count": 4, "confidence": 0.75, "accuracy": 0.5}])
    25.0
    """
    total = sum(each["count"] for each in bins)
    return 100 * sum(each["count"] * abs(each["accuracy"] - each["confidence"]) for each in bins) / total


def fit_temperature(
    logits: Float32[np.ndarray[Any, Any], "images classes"], labels: Int64[np.ndarray[Any, Any], " images"]
) -> dict[str, float] | None:
    """Fit what logits are divided by so that the model is as sure as it is right: the least cross entropy.

    The model must not have been trained on the images. Source: Guo et al. 2017 (arXiv 1706.04599), Sec. 4.2.

    Returns:
        "temperature", the number of "images", and the loss and the expected calibration error (percent) before and
        after ("loss_before", "ece_after" …), each half measured with what the other half gave. None if there are
        fewer than 50 images or 5 mistakes to learn from, or where it does not lower the loss.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    images = np.arange(len(labels))
    right = logits.argmax(axis=1) == labels
    if len(labels) < LEAST_CALIBRATED or (~right).sum() < LEAST_MISTAKES:
        return None

    def fit(rows: np.ndarray[Any, Any]) -> float:
        rows = rows[:: -(-len(rows) // MOST_CALIBRATED)]  # it is one number

        def loss(log: float) -> float:
            return -float(log_softmax(logits[rows] / np.exp(log), axis=1)[np.arange(len(rows)), labels[rows]].mean())

        found: Any = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
        return float(np.exp(found.x))

    def measure(temperatures: np.ndarray[Any, Any]) -> tuple[float, float]:
        found = log_softmax(logits / temperatures[:, None], axis=1)
        bins = calibration_bins(right, np.exp(found.max(axis=1)).astype(np.float64))
        return -float(found[images, labels].mean()), calibration_error(bins)

    crossed = np.where(images % 2, fit(images[::2]), fit(images[1::2]))
    (loss_before, ece_before), (loss_after, ece_after) = measure(np.ones(len(labels))), measure(crossed)
    if loss_after >= loss_before:
        return None
    figures = {"loss_before": loss_before, "loss_after": loss_after, "ece_before": ece_before, "ece_after": ece_after}
    return {"temperature": fit(images), "images": len(labels), **figures}


def confusion(scores: Scores) -> Confusion:
    """How many images of each class were taken for which: (right class, predicted class, images), where there are any.

    The classes are the model's; rows ascend by the right class and then by the predicted one.
    """
    pairs, counts = np.unique(np.stack([scores.labels, scores.predicted]), axis=1, return_counts=True)
    return tuple((int(right), int(taken), int(count)) for (right, taken), count in zip(pairs.T, counts, strict=True))


def by_class(scores: Scores, found: Confusion, names: Sequence[str] | None = None) -> tuple[dict[str, Any], ...]:
    """Accuracy of each class that has images, from their scores and confusion.

    Returns:
        Of each class, by ascending number: "class" (its number), "name" (see `name_class`), "count" of images,
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
            "name": name_class(names, number),
            "count": int(counts[number]),
            "top1": 100 * float(top1[number]) / int(counts[number]),
            "top5": 100 * float(top5[number]) / int(counts[number]),
            "mistaken_for": wrong[number][1] if number in wrong else None,
        }
        for number in np.flatnonzero(counts).tolist()
    )
