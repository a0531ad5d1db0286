"""An evaluation as plots: calibration, confusion matrix, the accuracy of each class; and probes of a few images.

Needs matplotlib, the extra `evaluate`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from convit.evaluation.metrics import Confusion
from convit.evaluation.probes.report import TITLES as PROBES
from convit.evaluation.probes.report import Probing
from convit.evaluation.report import Evaluation, class_name, confused_pairs
from convit.output.plots import BLUE, PAPER, RED, SOFT, styled
from convit.output.text import data_name

MOST_IN_HEAT_MAP = 40  # classes; beyond, names and cells are too small to read
MOST_WITH_NUMBERS = 12
MOST_PAIRS = 20
LONGEST_NAME, LONGEST_IN_TITLE = 24, 14  # letters
TITLE_LETTERS = 84
# the marks tell them apart in print
LOOKS: dict[str, dict[str, Any]] = {
    "linear": {"color": BLUE, "marker": "o", "linestyle": "-"},
    "mean": {"color": RED, "marker": "s", "linestyle": "--"},
}


def draw_reliability(evaluation: Evaluation) -> Figure:
    """Draw a reliability diagram: accuracy against confidence, with the number of images below.

    Source: Guo et al. 2017 (arXiv 1706.04599), Fig. 1.
    """
    bins = [each for each in evaluation.calibration if each["count"]]
    left = np.array([100 * each["lower"] for each in bins])
    width = np.array([100 * (each["upper"] - each["lower"]) for each in bins])
    right, sure, count = (
        np.array([factor * each[key] for each in bins])
        for key, factor in (("accuracy", 100), ("confidence", 100), ("count", 1))
    )
    with styled():
        figure = Figure(figsize=(4.6, 4.8), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.bar(left, right, width, align="edge", color=BLUE, edgecolor=PAPER, linewidth=0.6, label="accuracy")
        above.hlines(sure, left, left + width, color=RED, linewidth=2, label="mean confidence")
        above.plot([0, 100], [0, 100], color=SOFT, linestyle=(0, (4, 2)), linewidth=1, label="perfect calibration")
        above.set(xlim=(0, 100), ylim=(0, 100), ylabel="accuracy (% of the bin's images)")
        above.set_title(reliability_title(evaluation))
        above.legend(loc="upper left")
        below.bar(left, count, width, align="edge", color=SOFT, edgecolor=PAPER, linewidth=0.6)
        below.set(xlabel="confidence (%)", ylabel="images")
        below.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    return figure


def reliability_title(evaluation: Evaluation) -> str:
    """What a reliability diagram shows, in one line."""
    bins = evaluation.calibration
    sure = 100 * sum(each["count"] * each["confidence"] for each in bins) / sum(each["count"] for each in bins)
    return f"Mean confidence {sure:.1f} %, accuracy {evaluation.top1:.1f} % (ECE {evaluation.ece:.1f} %)"


def draw_confusion(evaluation: Evaluation) -> Figure:
    """Draw what is taken for what: a heat map of up to 40 classes, else bars of the pairs confused most often."""
    with styled():
        return _draw_heat_map(evaluation) if fits_heat_map(evaluation) else _draw_pairs(evaluation)


def fits_heat_map(evaluation: Evaluation) -> bool:
    """Whether few enough classes occur for a heat map with readable names."""
    return count_classes(evaluation) <= MOST_IN_HEAT_MAP


def count_classes(evaluation: Evaluation) -> int:
    """How many classes are right or predicted somewhere."""
    return len(_classes_seen(evaluation.confusion))


def confusion_title(evaluation: Evaluation) -> str:
    """What is taken for what most often, in one line."""
    pairs = confused_pairs(evaluation, 1)
    if not pairs:
        return "No image is taken for another class"
    right, predicted, count = pairs[0]
    names = [_shortened(class_name(evaluation, number), LONGEST_IN_TITLE) for number in (right, predicted)]
    return f"Most often {names[0]} is taken for {names[1]}: {count:,} {'image' if count == 1 else 'images'}"


def draw_per_class(evaluation: Evaluation) -> Figure:
    """Draw the top-1 of each class from the lowest to the highest: named bars of up to 40 classes, else a curve."""
    rows = sorted(evaluation.per_class, key=lambda row: (row["top1"], row["class"]))
    values = np.array([row["top1"] for row in rows])
    few = len(rows) <= MOST_IN_HEAT_MAP
    with styled():
        figure = Figure(figsize=(4.6, max(2.4, 0.24 * len(rows) + 1.1) if few else 4.8), layout="constrained")
        axes = figure.subplots()
        if few:
            axes.barh(np.arange(len(rows)), values, color=BLUE, height=0.72)
            for place, value in enumerate(values):
                axes.annotate(f"{value:.0f}", (value, place), (3, 0), textcoords="offset points", va="center")
            _name_ticks(axes, "y", [row["name"] for row in rows])
            axes.tick_params(axis="y", length=0)
            axes.set(xlim=(0, 108), ylim=(len(rows) - 0.5, -0.5), xlabel="top-1 (%)")
            axes.set_xticks(range(0, 101, 20))
        else:
            axes.fill_between(np.arange(len(rows)), values, color=BLUE, alpha=0.25, linewidth=0, step="mid")
            axes.step(np.arange(len(rows)), values, where="mid", color=BLUE, linewidth=1.4)
            axes.set(xlim=(0, len(rows) - 1), ylim=(0, 100), xlabel="classes, the lowest first", ylabel="top-1 (%)")
            axes.grid(axis="y")
        _entitle(figure, per_class_title(evaluation))
    return figure


def per_class_title(evaluation: Evaluation) -> str:
    """What the figure of the classes shows, in one line."""
    values = [row["top1"] for row in evaluation.per_class]
    return f"Top-1 by class: {min(values):.0f} % to {max(values):.0f} %, mean {evaluation.mean_class_top1:.1f} %"


TITLES = {"reliability": reliability_title, "confusion": confusion_title, "per_class": per_class_title}


def draw_few_shot(probing: Probing) -> Figure:
    """Draw top-1 over the number of training images per class, with a band of one standard deviation.

    Logistic regression on all images, or what was trained on them in its stead, is a line across.

    Raises:
        ValueError: `probing` has no few-shot scores.
    """
    if not probing.few_shot:
        raise ValueError("the probes have no few-shot scores to draw; ask for some with --shots")
    with styled():
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for name, look in LOOKS.items():
            _draw_curve(axes, probing, name, look)
        # not the best one, which would be chosen on test images
        whole = next((score for score in probing.probes if score.probe == "linear"), next(iter(probing.probes), None))
        if whole is not None:
            label = f"{PROBES[whole.probe]} on all {probing.train_images:,} images"
            axes.axhline(whole.top1, color=SOFT, linewidth=1, linestyle=":", label=label)
        shots = sorted({score.shots or 0 for score in probing.few_shot})
        axes.set(xscale="log", xlabel="training images per class", ylabel="top-1 on test images (%)")
        axes.set_xticks(shots, [str(count) for count in shots])
        axes.set_xticks([], minor=True)
        axes.grid(visible=True)
        axes.legend(loc="best")
        draws = len(probing.few_shot[0].draws)
        band = f"mean of {draws} draws, band: one standard deviation" if draws > 1 else "one draw"
        tested = f"{probing.model}, tested on {data_name(probing.test)}"
        title = f"{tested}: a few images of each of {probing.classes} classes ({band})"
        _entitle(figure, textwrap.fill(title, TITLE_LETTERS))
    return figure


def _draw_heat_map(evaluation: Evaluation) -> Figure:
    seen = _classes_seen(evaluation.confusion)
    place = {number: row for row, number in enumerate(seen)}
    counts = np.zeros((len(seen), len(seen)))
    for right, predicted, count in evaluation.confusion:
        counts[place[right], place[predicted]] = count
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [class_name(evaluation, number) for number in seen]
    side = (0.34 if len(seen) <= MOST_WITH_NUMBERS else 0.21) * len(seen) + 1.5  # inches: cells, and names beside them
    figure = Figure(figsize=(max(4.6, side + 1.2), max(3.2, side + 0.4)), layout="constrained")
    axes = figure.subplots()
    # by the square root, so that a few mistakes show beside the many images that are right
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 100), interpolation="nearest")
    _name_ticks(axes, "x", names)
    _name_ticks(axes, "y", names)
    axes.tick_params(axis="x", rotation=90)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted class", ylabel="true class")
    _entitle(figure, confusion_title(evaluation))
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, ticks=[0, 1, 5, 20, 50, 100])
    bar.set_label("% of the true class's images")
    if len(seen) <= MOST_WITH_NUMBERS:
        for row, column in np.argwhere(shares >= 0.5):
            share = shares[row, column]
            color = "white" if share > 30 else "#08306b"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=color, fontsize=8)
    return figure


def _draw_pairs(evaluation: Evaluation) -> Figure:
    pairs = confused_pairs(evaluation, MOST_PAIRS)
    figure = Figure(figsize=(6.4, 0.24 * len(pairs) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.barh(np.arange(len(pairs)), [count for _, _, count in pairs], color=BLUE, height=0.72)
    names = [[_shortened(class_name(evaluation, number)) for number in pair[:2]] for pair in pairs]
    _name_ticks(axes, "y", [f"{right} as {predicted}" for right, predicted in names], shorten=False)
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(max(len(pairs), 1) - 0.5, -0.5), xlabel="images")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    _entitle(figure, confusion_title(evaluation))
    return figure


def _draw_curve(axes: Axes, probing: Probing, name: str, look: dict[str, Any]) -> None:
    scores = [score for score in probing.few_shot if score.probe == name]
    shots, middle = [score.shots or 0 for score in scores], [score.top1 for score in scores]
    axes.plot(shots, middle, label=PROBES[name], markersize=4.5, **look)
    spread = [score.top1_deviation or 0.0 for score in scores]
    low, high = np.subtract(middle, spread), np.add(middle, spread)
    axes.fill_between(shots, low, high, color=look["color"], alpha=0.2, linewidth=0)


def _classes_seen(confusion: Confusion) -> list[int]:
    """The classes that are right or predicted somewhere, ascending."""
    return sorted({number for right, predicted, _ in confusion for number in (right, predicted)})


def _name_ticks(axes: Axes, side: str, names: Sequence[str], *, shorten: bool = True) -> None:
    """Names of classes as ticks; they are not formulas."""
    axis = axes.xaxis if side == "x" else axes.yaxis
    shown = [_shortened(name) for name in names] if shorten else names
    axis.set_ticks(range(len(shown)), list(shown), parse_math=False)


def _entitle(figure: Figure, title: str) -> None:
    """A title over the whole width, since names of classes take much of it from the axes."""
    figure.suptitle(title, parse_math=False, x=0.01, ha="left", fontsize=10)


def _shortened(name: str, longest: int = LONGEST_NAME) -> str:
    plain = "".join(letter if letter.isprintable() else " " for letter in name)
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"
