"""Few-shot curves as a figure. Needs matplotlib, the extra `evaluate`."""

from __future__ import annotations

import io
import textwrap
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from convit.evaluation.probes.report import TITLES, Probing, data_name

WIDTH, HEIGHT = 6.4, 4.2  # inches
DOTS_PER_INCH = 150
TITLE_LETTERS = 84
# Okabe and Ito's colours, which the colour-blind can tell apart; the marks do so in print
LOOKS: dict[str, dict[str, Any]] = {
    "linear": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "mean": {"color": "#D55E00", "marker": "s", "linestyle": "--"},
}
STYLE: Any = {
    "font.size": 9,
    "figure.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "legend.frameon": False,
}


def draw_few_shot(probing: Probing) -> Figure:
    """Draw top-1 over the number of training images per class, with a band of one standard deviation.

    The best probe that was trained on all images is a line across.

    Args:
        probing: a result with few-shot scores.

    Returns:
        The figure; `png_of` writes it.

    Raises:
        ValueError: there are no few-shot scores.
    """
    if not probing.few_shot:
        raise ValueError("there are no few-shot scores to draw; ask for some with --shots")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        for name, look in LOOKS.items():
            _draw_curve(axes, probing, name, look)
        best = max(probing.probes, key=lambda score: score.top1, default=None)
        if best is not None:
            label = f"{TITLES[best.probe]} on all {probing.train_images:,} images"
            axes.axhline(best.top1, color="0.35", linewidth=1, linestyle=":", label=label)
        shots = sorted({score.shots for score in probing.few_shot})
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(shots))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([str(count) for count in shots])
        axes.set_xlabel("training images per class")
        axes.set_ylabel("top-1 on test images (%)")
        axes.legend(loc="best")
        draws = len(probing.few_shot[0].draws)
        band = f"mean of {draws} draws, band: one standard deviation" if draws > 1 else "one draw"
        tested = f"{probing.model}, tested on {data_name(probing.test)}"
        title = f"{tested}: a few images of each of {probing.classes} classes ({band})"
        figure.suptitle(textwrap.fill(title, TITLE_LETTERS), x=0.01, horizontalalignment="left", parse_math=False)
    return figure


def png_of(figure: Figure) -> bytes:
    """The figure as a PNG file; the same result gives the same bytes."""
    stream = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(stream, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return stream.getvalue()


def _draw_curve(axes: Axes, probing: Probing, name: str, look: dict[str, Any]) -> None:
    scores = [score for score in probing.few_shot if score.probe == name]
    shots, middle = [score.shots for score in scores], [score.top1 for score in scores]
    axes.plot(shots, middle, label=TITLES[name], markersize=4.5, **look)
    spread = [score.top1_deviation or 0.0 for score in scores]
    low = [centre - each for centre, each in zip(middle, spread, strict=True)]
    high = [centre + each for centre, each in zip(middle, spread, strict=True)]
    axes.fill_between(shots, low, high, color=look["color"], alpha=0.2, linewidth=0)
