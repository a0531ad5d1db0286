"""The panels of a run's figure: curves over epochs, told apart by color and by line style or marker alike.

Needs matplotlib, the extra `plot`. Layers go from dark to light with depth (viridis), so that their order shows
in gray print too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from convit.output.plots import INK, SERIES_COLORS, series_look
from convit.output.text import epoch_score

Values = npt.NDArray[np.float64]

LAYER_STYLES = ("solid", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1.2, 1.2)))
LIGHTEST = 0.9  # of viridis; beyond, it is too light on white
LEAST_GATE_SPAN = 0.2
LAYERS_PER_COLUMN = 14
HEADS_PER_PANEL = 10  # names in a legend as tall as a panel of heads


@dataclass(frozen=True)
class RunCurves:
    """What a run's files hold.

    Attributes:
        name: what the run is called in the figure.
        epochs: number of each line of the log.
        curves: value per line by key of the log ("train_loss", "val_loss", "val_top1", "lr"); NaN where there is none.
        attention_epochs: number of each line of the attention log; empty without one.
        gates: (lines, layers, heads); None without gates.
        nonlocality: (lines, layers, heads), in patches; None without an attention log.
    """

    name: str
    epochs: Values
    curves: dict[str, Values]
    attention_epochs: Values
    gates: Values | None
    nonlocality: Values | None

    def has(self, key: str) -> bool:
        """Whether the log has a value of a key."""
        return bool(np.isfinite(self.curves[key]).any())


def draw_loss(axes: Axes, runs: Sequence[RunCurves]) -> None:
    """Training loss (dashed) and validation loss (solid) of each run."""
    words = {"train_loss": "training", "val_loss": "held-out"}
    shown = [key for key in words if any(run.has(key) for run in runs)]
    handles: list[Line2D] = []
    for key in shown:
        look: dict[str, Any] = _look(key) | ({"color": "0.3"} if len(runs) > 1 else {})
        handles.append(Line2D([], [], label=words[key], **look))
    for index, run in enumerate(runs):
        for key in shown:
            _draw_run(axes, run, key, index if len(runs) > 1 else None)
    axes.set_title("Loss on training and held-out images" if len(shown) == 2 else f"Loss on {words[shown[0]]} images")
    if len(runs) == 1:
        axes.set_title(
            "Loss at the end: " + ", ".join(f"{words[key]} {_last(runs[0].curves[key]):.2f}" for key in shown)
        )
    axes.legend(handles=handles, loc="best")
    _label(axes, "cross-entropy (nats)")


def draw_accuracy(axes: Axes, runs: Sequence[RunCurves]) -> None:
    """Validation top-1 of each run; of a single run the best epoch is ringed."""
    for index, run in enumerate(runs):
        _draw_run(axes, run, "val_top1", index if len(runs) > 1 else None)
    axes.set_title("Top-1 on held-out images")
    if len(runs) == 1:
        values, epochs = runs[0].curves["val_top1"], runs[0].epochs
        losses = runs[0].curves["val_loss"]
        best = max(
            range(len(values)),
            key=lambda at: epoch_score({"epoch": at, "val_top1": values[at], "val_loss": losses[at]}),
        )
        axes.plot(epochs[best : best + 1], values[best : best + 1], "o", markersize=9, fillstyle="none", color=INK)
        axes.set_title(f"Held-out top-1: best {values[best]:.1f} % at epoch {epochs[best]:.0f}")
    _label(axes, "top-1 (%)")


def draw_rate(axes: Axes, runs: Sequence[RunCurves]) -> None:
    """Learning rate of each run."""
    for index, run in enumerate(runs):
        _draw_run(axes, run, "lr", index if len(runs) > 1 else None)
    highest = max(float(np.nanmax(run.curves["lr"])) for run in runs if run.has("lr"))
    power = math.floor(math.log10(highest)) if highest > 0 else 0
    # the power of ten stands with the label, where it cannot run into the title
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10.0**power:g}"))
    axes.set_ylim(bottom=0)
    axes.set_title("Learning rate at the end of each epoch")
    _label(axes, "learning rate" if power == 0 else f"learning rate ($10^{{{power}}}$)")


def draw_gates(axes: Axes, run: RunCurves) -> None:
    """Gate of each GPSA layer: the mean of its heads, and the range of the heads as a band."""
    assert run.gates is not None
    layers = run.gates.shape[1]
    depth = layers if run.nonlocality is None else run.nonlocality.shape[1]
    for layer in range(layers):
        heads = run.gates[:, layer]
        look = _layer_look(layer, depth) | _marker(len(heads))
        axes.fill_between(
            run.attention_epochs,
            heads.min(axis=1),
            heads.max(axis=1),
            color=look["color"],
            alpha=min(0.2, 1.2 / layers),
            linewidth=0,
        )
        axes.plot(run.attention_epochs, heads.mean(axis=1), **look)
    _limit_gates(axes)
    axes.set_title("Gates: 1 reads by place, 0 by content")
    _label(axes, "gate (mean and range of heads)")


def draw_head_gates(part: SubFigure, run: RunCurves, columns: int) -> None:
    """Gate of every head, a panel per GPSA layer, and their mean in the color of the text (paper Fig. 6).

    Args:
        part: what is drawn on, with nothing in it yet.
        run: with gates.
        columns: panels beside each other.
    """
    assert run.gates is not None
    _, layers, heads = run.gates.shape
    lines = -(-layers // columns)
    grid = part.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    handles: list[Line2D] = []
    for place, axes in enumerate(grid.flat):
        if place >= layers:
            axes.set_axis_off()
            continue
        marker = _marker(len(run.gates))
        drawn: list[Line2D] = []
        for head in range(heads):
            look = _head_look(head) | marker | {"linewidth": 1}
            drawn += axes.plot(run.attention_epochs, run.gates[:, place, head], **look)
        drawn += axes.plot(run.attention_epochs, run.gates[:, place].mean(axis=1), color=INK, **marker)
        handles = handles or drawn
        axes.set_title(f"layer {place + 1}")
        is_last_below = place + columns >= layers
        _label(axes, "gate" if place % columns == 0 else "", "epoch" if is_last_below else "", ticks=4)
        axes.tick_params(labelbottom=is_last_below)
    _limit_gates(grid[0, 0])
    part.suptitle("Gates of the single heads: 1 reads by place, 0 by content", x=0.01, ha="left", fontsize=9.5)
    names = [f"head {head + 1}" for head in range(heads)] + ["mean"]
    columns_of_legend = math.ceil(len(names) / (HEADS_PER_PANEL * lines))
    part.legend(handles, names, loc="outside right upper", ncols=columns_of_legend, handlelength=2.6)


def draw_nonlocality(axes: Axes, run: RunCurves) -> None:
    """Non-locality of each layer, the mean of its heads (paper Fig. 5), with the legend of the layers beside it."""
    assert run.nonlocality is not None
    layers = run.nonlocality.shape[1]
    gated = 0 if run.gates is None else run.gates.shape[1]
    handles: list[Line2D] = []
    for layer in range(layers):
        look = _layer_look(layer, layers) | _marker(len(run.nonlocality))
        name = f"{layer + 1}" if layer < gated else f"{layer + 1} (no gate)"
        handles += axes.plot(run.attention_epochs, run.nonlocality[:, layer].mean(axis=1), label=name, **look)
    axes.set_ylim(bottom=0)
    axes.set_title("Non-locality: how far each layer reads on average")
    axes.legend(
        handles=handles,
        title="layer",
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        ncols=math.ceil(layers / LAYERS_PER_COLUMN),
        handlelength=3,
    )
    _label(axes, "mean distance (patches)")


def _draw_run(axes: Axes, run: RunCurves, key: str, index: int | None) -> None:
    """One curve of a run; `index` is None for a single run, whose curves differ by what they show."""
    known = np.isfinite(run.curves[key])
    look = _look(key) | _marker(int(known.sum()))
    if index is not None:
        look |= series_look(index) | {"markersize": 3.5, "markevery": max(1, math.ceil(known.sum() / 12))}
    axes.plot(run.epochs[known], run.curves[key][known], **look)


def _marker(points: int) -> dict[str, Any]:
    """A dot for a curve that is a single point and would not show."""
    return {"marker": "o", "markersize": 4} if points == 1 else {}


def _look(key: str) -> dict[str, Any]:
    held_out = key.startswith("val_")
    return {
        "color": SERIES_COLORS[1 if held_out else 0],
        "linestyle": (0, (4, 1.5)) if key == "train_loss" else "solid",
    }


def _layer_look(layer: int, layers: int) -> dict[str, Any]:
    shade = LIGHTEST * layer / max(layers - 1, 1)
    return {
        "color": matplotlib.colormaps["viridis"](shade),
        "linestyle": LAYER_STYLES[layer % len(LAYER_STYLES)],
    }


def _head_look(head: int) -> dict[str, Any]:
    return {
        "color": SERIES_COLORS[head % (len(SERIES_COLORS) - 1)],  # the last one, that of ink, is the mean
        "linestyle": LAYER_STYLES[head // (len(SERIES_COLORS) - 1) % len(LAYER_STYLES)],
    }


def _limit_gates(axes: Axes) -> None:
    """Within 0 and 1, and never so near that a small change looks large."""
    low, high = axes.get_ylim()
    missing = max(0.0, LEAST_GATE_SPAN - (high - low)) / 2
    low, high = low - missing, high + missing
    shift = max(0.0, -low) - max(0.0, high - 1)
    axes.set_ylim(max(0.0, low + shift), min(1.0, high + shift))


def _last(values: Values) -> float:
    return float(values[np.isfinite(values)][-1])


def _label(axes: Axes, quantity: str, below: str = "epoch", ticks: int = 7) -> None:
    low, high = axes.get_xlim()
    if high - low < 1:  # a single epoch: whole numbers only
        axes.set_xlim(math.floor(low) - 0.2, math.ceil(high) + 0.2)
    axes.set_xlabel(below)
    axes.set_ylabel(quantity)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=ticks, integer=True))
