"""`convit plot`: what runs left, as one figure of curves over epochs; needs the extra `plot`, no trainer and no torch.

Layers go from dark to light with depth (viridis), so that their order shows in gray print too.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from convit.output.plots import INK, SERIES_COLORS, series_look, styled
from convit.output.text import epoch_score, measured_alike, read_lines
from convit.training.places import find_log

Values = npt.NDArray[np.float64]

PANEL_WIDTH, PANEL_HEIGHT, TITLE_HEIGHT, LINE_HEIGHT, PADDING = 3.8, 3.0, 0.3, 0.2, 0.09  # inches
# inches: a panel of the heads of one layer, and what stands beside and above these panels
HEADS_WIDTH, HEADS_HEIGHT, HEADS_LEGEND, HEADS_TITLE = 1.9, 1.7, 1.2, 0.6
LEGEND_LETTERS, LONGEST_NAME = 45, 60  # letters that fit beside each other per panel, and of a name
LAYER_STYLES = ("solid", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1.2, 1.2)))
LIGHTEST = 0.9  # of viridis; beyond, it is too light on white
LEAST_GATE_SPAN = 0.2
LAYERS_PER_COLUMN, HEADS_PER_COLUMN = 14, 10  # names in a legend as tall as a panel
CURVES: dict[str, dict[str, Any]] = {
    "train_loss": {"color": SERIES_COLORS[0], "linestyle": (0, (4, 1.5))},
    "val_loss": {"color": SERIES_COLORS[1]},
    "val_top1": {"color": SERIES_COLORS[1]},
    "lr": {"color": SERIES_COLORS[0]},
}
LOSSES = {"train_loss": "training", "val_loss": "held-out"}


@dataclass(frozen=True)
class RunCurves:
    """What a run's files hold.

    Attributes:
        name: of the run in the figure.
        epochs: number of each line of the log.
        best: the epoch with the best top-1 of those that were measured as the last one was.
        curves: value per line by key of the log; NaN where there is none.
        attention_epochs: number of each line of the attention log; empty without one.
        attention: (lines, layers, heads) by key of that log: "nonlocality" in patches, and "gates" where there are any.
    """

    name: str
    epochs: Values
    best: int
    curves: dict[str, Values]
    attention_epochs: Values
    attention: dict[str, Values]


def draw_runs(folders: Sequence[str | Path]) -> Figure:
    """Draw losses, top-1 and learning rate of runs over their epochs; of a single run also gates and non-locality.

    The gates are drawn twice: mean and range of each layer in one panel, and below a panel per layer with a line per
    head (paper Fig. 5 and 6). Panels for which no run has values are left out. Several runs lie over each other, told
    apart by the names of their folders.

    Args:
        folders: the runs' folders, each with the `log.jsonl` and perhaps the `attention.jsonl` that training wrote.

    Raises:
        FileNotFoundError: a folder does not exist, or has no log.
        ValueError: no folder is given, or a log is empty, damaged or without any value.
    """
    paths = list({Path(folder).resolve(): Path(folder) for folder in folders}.values())
    if not paths:
        raise ValueError("there is no run to draw; give the folder of at least one")
    runs = [_read_run(path, name) for path, name in zip(paths, _names(paths), strict=True)]
    attention = runs[0].attention if len(runs) == 1 else {}
    wanted = (
        [partial(draw, runs) for keys, draw in LOG_PANELS if _shown(runs, keys)],
        [partial(_draw_layers, key, runs[0]) for key in ("gates", "nonlocality") if key in attention],
    )
    rows = [row for row in wanted if row]
    if not rows:
        raise ValueError(f"the log of {paths[0]} has no loss, no top-1 and no learning rate to draw; give another run")
    with styled(axes_grid=True):
        across = max(map(len, rows))
        columns, lines = _legend_shape(runs, across)
        heads_across, heads_height = _heads_shape(attention.get("gates"), PANEL_WIDTH * across)
        heights = [PANEL_HEIGHT] * len(rows) + ([heads_height] if heads_across else [])
        size = PANEL_WIDTH * across, sum(heights) + TITLE_HEIGHT + LINE_HEIGHT * lines
        figure = Figure(figsize=size, layout="constrained")
        engine: Any = figure.get_layout_engine()
        engine.set(w_pad=PADDING, h_pad=PADDING)
        # strips of their own, so that the legend of the layers takes width from its row alone
        strips = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        for strip, row in zip(strips, rows, strict=False):
            for axes, draw in zip(strip.subplots(1, len(row), squeeze=False)[0], row, strict=True):
                draw(axes)
        if heads_across:
            _draw_heads(strips[-1], runs[0], heads_across)
        _name_runs(figure, runs, columns)
    return figure


def _read_run(folder: Path, name: str) -> RunCurves:
    log, attention = find_log(folder), folder / "attention.jsonl"
    lines = read_lines(log)
    if not lines:
        raise ValueError(f"{log} is empty; train at least one epoch first")
    seen = read_lines(attention)
    keys = [key for key in ("gates", "nonlocality") if seen and (key != "gates" or any(key in line for line in seen))]
    return RunCurves(
        name=name,
        epochs=_column(lines, "epoch"),
        best=max(measured_alike(lines), key=epoch_score)["epoch"],
        curves={key: _column(lines, key) for key in CURVES},
        attention_epochs=_column(seen, "epoch"),
        attention={key: _stack(seen, key, attention) for key in keys},
    )


def _shown(runs: Sequence[RunCurves], keys: Sequence[str]) -> list[str]:
    """The curves that at least one run has values for."""
    return [key for key in keys if any(np.isfinite(run.curves[key]).any() for run in runs)]


def _draw_curves(runs: Sequence[RunCurves], axes: Axes, keys: Sequence[str], title: str, quantity: str) -> None:
    """Curves of the log; those of a single run differ by what they show, those of several by run."""
    for index, run in enumerate(runs):
        for key in keys:
            known = np.isfinite(run.curves[key])
            look = CURVES[key] | _marker(int(known.sum()))
            if len(runs) > 1:
                look |= series_look(index) | {"markersize": 3.5, "markevery": max(1, math.ceil(known.sum() / 12))}
            axes.plot(run.epochs[known], run.curves[key][known], **look)
    axes.set_title(title)
    _label(axes, quantity)


def _draw_loss(runs: Sequence[RunCurves], axes: Axes) -> None:
    shown = _shown(runs, tuple(LOSSES))
    title = "Loss on " + " and ".join(LOSSES[key] for key in shown) + " images"
    if len(runs) == 1:
        last = {key: runs[0].curves[key][np.isfinite(runs[0].curves[key])][-1] for key in shown}
        title = "Loss at the end: " + ", ".join(f"{LOSSES[key]} {value:.2f}" for key, value in last.items())
    _draw_curves(runs, axes, shown, title, "cross-entropy (nats)")
    gray: dict[str, Any] = {"color": "0.3"} if len(runs) > 1 else {}
    axes.legend(handles=[Line2D([], [], label=LOSSES[key], **(CURVES[key] | gray)) for key in shown], loc="best")


def _draw_accuracy(runs: Sequence[RunCurves], axes: Axes) -> None:
    """Of a single run, the best epoch is ringed and named."""
    _draw_curves(runs, axes, ("val_top1",), "Top-1 on held-out images", "top-1 (%)")
    if len(runs) > 1:
        return
    best = runs[0].best
    top1 = runs[0].curves["val_top1"][runs[0].epochs.tolist().index(best)]
    axes.plot(best, top1, "o", markersize=9, fillstyle="none", color=INK)
    axes.set_title(f"Held-out top-1: best {top1:.1f} % at epoch {best}")


def _draw_rate(runs: Sequence[RunCurves], axes: Axes) -> None:
    """The power of ten stands with the label, where it cannot run into the title."""
    highest = float(np.nanmax(np.concatenate([run.curves["lr"] for run in runs])))
    power = math.floor(math.log10(highest)) if highest > 0 else 0
    quantity = f"learning rate ($10^{{{power}}}$)" if power else "learning rate"
    _draw_curves(runs, axes, ("lr",), "Learning rate at the end of each epoch", quantity)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10.0**power:g}"))
    axes.set_ylim(bottom=0)


LOG_PANELS = (
    (("train_loss", "val_loss"), _draw_loss),
    (("val_top1",), _draw_accuracy),
    (("lr",), _draw_rate),
)


def _draw_layers(key: str, run: RunCurves, axes: Axes) -> None:
    """A line per layer, the mean of its heads: of gates with their range as a band, of non-locality with a legend."""
    values, depth = run.attention[key], run.attention["nonlocality"].shape[1]
    gated = run.attention["gates"].shape[1] if "gates" in run.attention else 0
    for layer in range(values.shape[1]):
        heads = values[:, layer]
        color = matplotlib.colormaps["viridis"](LIGHTEST * layer / max(depth - 1, 1))
        look: dict[str, Any] = {"color": color, "linestyle": LAYER_STYLES[layer % len(LAYER_STYLES)]}
        look |= _marker(len(heads))
        if key == "gates":
            low, high = heads.min(axis=1), heads.max(axis=1)
            axes.fill_between(run.attention_epochs, low, high, color=color, alpha=min(0.2, 1.2 / gated), linewidth=0)
        name = f"{layer + 1}{'' if layer < gated else ' (no gate)'}"
        axes.plot(run.attention_epochs, heads.mean(axis=1), label=name, **look)
    if key == "gates":
        _limit_gates(axes)
        axes.set_title("Gates: 1 reads by place, 0 by content")
    else:
        axes.set_ylim(bottom=0)
        axes.set_title("Non-locality: how far each layer reads on average")
        columns = math.ceil(depth / LAYERS_PER_COLUMN)
        axes.legend(title="layer", loc="center left", bbox_to_anchor=(1.01, 0.5), ncols=columns, handlelength=3)
    _label(axes, "gate (mean and range of heads)" if key == "gates" else "mean distance (patches)")


def _draw_heads(part: SubFigure, run: RunCurves, columns: int) -> None:
    """Gate of every head, a panel per GPSA layer, and their mean in the color of the text."""
    gates, colors = run.attention["gates"], SERIES_COLORS[:-1]  # the last one, that of ink, is the mean
    _, layers, heads = gates.shape
    lines = -(-layers // columns)
    grid = part.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    marker = _marker(len(gates))
    for index, axes in enumerate(grid.flat):
        if index >= layers:
            axes.set_axis_off()
            continue
        for head in range(heads):
            style = LAYER_STYLES[head // len(colors) % len(LAYER_STYLES)]
            look = {"color": colors[head % len(colors)], "linestyle": style, "linewidth": 1} | marker
            axes.plot(run.attention_epochs, gates[:, index, head], **look)
        axes.plot(run.attention_epochs, gates[:, index].mean(axis=1), color=INK, **marker)
        axes.set_title(f"layer {index + 1}")
        is_last_below = index + columns >= layers
        _label(axes, "gate" if index % columns == 0 else "", "epoch" if is_last_below else "", ticks=4)
        axes.tick_params(labelbottom=is_last_below)
    _limit_gates(grid[0, 0])
    part.suptitle("Gates of the single heads: 1 reads by place, 0 by content", x=0.01, ha="left", fontsize=9.5)
    names = [f"head {head + 1}" for head in range(heads)] + ["mean"]
    legend_columns = math.ceil(len(names) / (HEADS_PER_COLUMN * lines))
    part.legend(grid[0, 0].lines, names, loc="outside right upper", ncols=legend_columns, handlelength=2.6)


def _heads_shape(gates: Values | None, width: float) -> tuple[int, float]:
    """(panels beside each other, height in inches) of the single heads' gates; (0, 0) where there are none to part."""
    if gates is None or gates.shape[2] == 1:
        return 0, 0.0
    across = max(1, min(gates.shape[1], int((width - HEADS_LEGEND) // HEADS_WIDTH)))
    return across, HEADS_HEIGHT * -(-gates.shape[1] // across) + HEADS_TITLE


def _legend_shape(runs: Sequence[RunCurves], across: int) -> tuple[int, int]:
    """(columns, lines) of the legend that names several runs below `across` panels."""
    if len(runs) == 1:
        return 1, 0
    longest = max(len(run.name) for run in runs)
    columns = min(len(runs), max(1, LEGEND_LETTERS * across // (longest + 8)))
    return columns, -(-len(runs) // columns)


def _name_runs(figure: Figure, runs: Sequence[RunCurves], columns: int) -> None:
    """A title for one run, a legend below the panels for several; names are not formulas."""
    if len(runs) == 1:
        figure.suptitle(runs[0].name, parse_math=False, fontweight="bold", x=0.01, horizontalalignment="left")
        return
    handles = [Line2D([], [], markersize=5, **series_look(index)) for index in range(len(runs))]
    legend = figure.legend(handles, ["run"] * len(runs), loc="outside lower center", ncols=columns)
    for text, run in zip(legend.get_texts(), runs, strict=True):
        # not given as labels: those that begin with an underscore would be left out
        text.set_parse_math(False)
        text.set_text(run.name)


def _names(paths: Sequence[Path]) -> list[str]:
    """Each folder's name, with as much of its path as tells it from the others, shortened in the middle."""
    whole, half = [path.resolve() for path in paths], LONGEST_NAME // 2
    counts = Counter(path.name for path in whole)
    shared = [path.parent for path in whole if counts[path.name] > 1]
    above = os.path.commonpath(shared) if shared else ""
    names = [path.name if counts[path.name] == 1 else str(path.relative_to(above)) for path in whole]
    return [name if len(name) <= LONGEST_NAME else f"{name[: half - 1]}…{name[-half:]}" for name in names]


def _column(lines: Sequence[dict[str, Any]], key: str) -> Values:
    values = (line.get(key) for line in lines)
    return np.array([value if isinstance(value, int | float) else np.nan for value in values], dtype=np.float64)


def _stack(lines: Sequence[dict[str, Any]], key: str, file: Path) -> Values:
    try:
        values = np.array([line[key] for line in lines], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        values = np.empty(0)
    if values.ndim != 3:
        raise ValueError(
            f"{file}: '{key}' is not a number for each of the same layers and heads in every line; remove the file "
            "to draw the run without it"
        )
    return values


def _marker(points: int) -> dict[str, Any]:
    """A dot for a curve that is a single point and would not show."""
    return {"marker": "o", "markersize": 4} if points == 1 else {}


def _limit_gates(axes: Axes) -> None:
    """Within 0 and 1, and never so near that a small change looks large."""
    low, high = axes.get_ylim()
    span = min(1.0, max(LEAST_GATE_SPAN, high - low))
    low = min(max(0.0, (low + high - span) / 2), 1 - span)
    axes.set_ylim(low, low + span)


def _label(axes: Axes, quantity: str, below: str = "epoch", ticks: int = 7) -> None:
    low, high = axes.get_xlim()
    if high - low < 1:  # a single epoch: whole numbers only
        axes.set_xlim(math.floor(low) - 0.2, math.ceil(high) + 0.2)
    axes.set_xlabel(below)
    axes.set_ylabel(quantity)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=ticks, integer=True))
