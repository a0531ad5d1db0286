"""Few-shot curves as a plot. Needs matplotlib, the extra `evaluate`."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from convit.evaluation.probes.report import TITLES, Probing
from convit.output.plots import BLUE, RED, SOFT, styled
from convit.output.text import data_name

WIDTH, HEIGHT = 6.4, 4.2  # inches
TITLE_LETTERS = 84
# the marks tell them apart in print
LOOKS: dict[str, dict[str, Any]] = {
    "linear": {"color": BLUE, "marker": "o", "linestyle": "-"},
    "mean": {"color": RED, "marker": "s", "linestyle": "--"},
}


def draw_few_shot(probing: Probing) -> Figure:
    """Draw top-1 over the number of training images per class, with a band of one standard deviation.

    Logistic regression on all images, or what was trained on them in its stead, is a line across.

    Raises:
        ValueError: there are no few-shot scores.
    """
    if not probing.few_shot:
        raise ValueError("there are no few-shot scores to draw; ask for some with --shots")
    with styled():
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        for name, look in LOOKS.items():
            _draw_curve(axes, probing, name, look)
        # not the best one, which would be chosen on test images
        whole = next((score for score in probing.probes if score.probe == "linear"), next(iter(probing.probes), None))
        if whole is not None:
            label = f"{TITLES[whole.probe]} on all {probing.train_images:,} images"
            axes.axhline(whole.top1, color=SOFT, linewidth=1, linestyle=":", label=label)
        shots = sorted({score.shots or 0 for score in probing.few_shot})
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(shots))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([str(count) for count in shots])
        axes.set_xlabel("training images per class")
        axes.set_ylabel("top-1 on test images (%)")
        axes.grid(visible=True)
        axes.legend(loc="best")
        draws = len(probing.few_shot[0].draws)
        band = f"mean of {draws} draws, band: one standard deviation" if draws > 1 else "one draw"
        tested = f"{probing.model}, tested on {data_name(probing.test)}"
        title = f"{tested}: a few images of each of {probing.classes} classes ({band})"
        figure.suptitle(textwrap.fill(title, TITLE_LETTERS), x=0.01, ha="left", fontsize=10, parse_math=False)
    return figure


def _draw_curve(axes: Axes, probing: Probing, name: str, look: dict[str, Any]) -> None:
    scores = [score for score in probing.few_shot if score.probe == name]
    shots, middle = [score.shots or 0 for score in scores], [score.top1 for score in scores]
    axes.plot(shots, middle, label=TITLES[name], markersize=4.5, **look)
    spread = [score.top1_deviation or 0.0 for score in scores]
    low = [center - each for center, each in zip(middle, spread, strict=True)]
    high = [center + each for center, each in zip(middle, spread, strict=True)]
    axes.fill_between(shots, low, high, color=look["color"], alpha=0.2, linewidth=0)
