"""`convit plot`: what runs left, as one figure.

Needs matplotlib, the extra `plot`; no trainer and no torch.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from convit.output.plots import series_look, styled
from convit.output.text import read_lines
from convit.training import panels
from convit.training.panels import RunCurves, Values

KEYS = ("train_loss", "val_loss", "val_top1", "lr")
PANEL_WIDTH, PANEL_HEIGHT, TITLE_HEIGHT, LINE_HEIGHT, PADDING = 3.8, 3.0, 0.3, 0.2, 0.09  # inches
# inches: a panel of the heads of one layer, and what stands beside and above these panels
HEADS_WIDTH, HEADS_HEIGHT, HEADS_LEGEND, HEADS_TITLE = 1.9, 1.7, 1.2, 0.6
LEGEND_LETTERS = 45  # that fit beside each other per panel
LONGEST_NAME = 60
Panel = Callable[[Axes], None]


def draw_runs(folders: Sequence[str | Path]) -> Figure:
    """Draw losses, top-1 and learning rate of runs over their epochs; of a single run also gates and non-locality.

    The gates are drawn twice: mean and range of each layer in one panel, and below a panel per layer with a line per
    head. Panels for which no run has values are left out. Several runs lie over each other, told apart by the names of
    their folders.

    Args:
        folders: the runs' folders, each with the `log.jsonl` and perhaps the `attention.jsonl` that training wrote.

    Returns:
        The figure; `convit.output.plots` writes it.

    Raises:
        FileNotFoundError: a folder does not exist, or has no log.
        ValueError: no folder is given, or a log is empty, damaged or without any value.
    """
    paths = list({Path(folder).resolve(): Path(folder) for folder in folders}.values())
    if not paths:
        raise ValueError("there is no run to draw; give the folder of at least one")
    runs = [read_run(path, name) for path, name in zip(paths, _names(paths), strict=True)]
    rows = [row for row in (_log_panels(runs), _attention_panels(runs)) if row]
    if not rows:
        raise ValueError(f"the log of {paths[0]} has no loss, no top-1 and no learning rate to draw; give another run")
    with styled(axes_grid=True):
        across = max(map(len, rows))
        columns, lines = _legend_shape(runs, across)
        heads_across, heads_height = _heads_shape(runs, PANEL_WIDTH * across)
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
            panels.draw_head_gates(strips[-1], runs[0], heads_across)
        _name_runs(figure, runs, columns)
    return figure


def read_run(folder: str | Path, name: str | None = None) -> RunCurves:
    """What a run's folder holds to draw.

    Args:
        folder: the run's folder.
        name: what to call it; None for the folder's own name.

    Raises:
        FileNotFoundError: the folder does not exist, or has no log.
        ValueError: a log is empty or damaged.
    """
    folder = Path(folder)
    log, attention = folder / "log.jsonl", folder / "attention.jsonl"
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no run {folder}; give the folder that `convit train` wrote (its --output)")
    if not log.is_file():
        raise FileNotFoundError(f"there is no log.jsonl in {folder}; give a run's folder, with an epoch trained")
    lines = read_lines(log)
    if not lines:
        raise ValueError(f"{log} is empty; train at least one epoch first")
    seen = read_lines(attention)
    return RunCurves(
        name=name or folder.resolve().name,
        epochs=np.array([line["epoch"] for line in lines], dtype=np.float64),
        curves={key: np.array([_number(line.get(key)) for line in lines]) for key in KEYS},
        attention_epochs=np.array([line["epoch"] for line in seen], dtype=np.float64),
        gates=_stack(seen, "gates", attention) if any("gates" in line for line in seen) else None,
        nonlocality=_stack(seen, "nonlocality", attention) if seen else None,
    )


def _log_panels(runs: Sequence[RunCurves]) -> list[Panel]:
    wanted: list[tuple[Panel, tuple[str, ...]]] = [
        (lambda axes: panels.draw_loss(axes, runs), ("train_loss", "val_loss")),
        (lambda axes: panels.draw_accuracy(axes, runs), ("val_top1",)),
        (lambda axes: panels.draw_rate(axes, runs), ("lr",)),
    ]
    return [draw for draw, keys in wanted if any(run.has(key) for run in runs for key in keys)]


def _attention_panels(runs: Sequence[RunCurves]) -> list[Panel]:
    run = runs[0]
    if len(runs) > 1 or run.nonlocality is None:
        return []
    drawn: list[Panel] = [] if run.gates is None else [lambda axes: panels.draw_gates(axes, run)]
    return [*drawn, lambda axes: panels.draw_nonlocality(axes, run)]


def _heads_shape(runs: Sequence[RunCurves], width: float) -> tuple[int, float]:
    """(panels beside each other, height in inches) of the single heads' gates; (0, 0) where there are none to part."""
    gates = runs[0].gates
    if len(runs) > 1 or gates is None or gates.shape[2] == 1:
        return 0, 0.0
    layers = gates.shape[1]
    across = max(1, min(layers, int((width - HEADS_LEGEND) // HEADS_WIDTH)))
    return across, HEADS_HEIGHT * -(-layers // across) + HEADS_TITLE


def _legend_shape(runs: Sequence[RunCurves], across: int) -> tuple[int, int]:
    """(columns, lines) of the legend that names several runs below `across` panels."""
    if len(runs) == 1:
        return 1, 0
    longest = max(len(_shortened(run.name)) for run in runs)
    columns = min(len(runs), max(1, LEGEND_LETTERS * across // (longest + 8)))
    return columns, -(-len(runs) // columns)


def _name_runs(figure: Figure, runs: Sequence[RunCurves], columns: int) -> None:
    """A title for one run, a legend below the panels for several; names are no formulas."""
    names = [_shortened(run.name) for run in runs]
    if len(runs) == 1:
        figure.suptitle(names[0], parse_math=False, fontweight="bold", x=0.01, horizontalalignment="left")
        return
    legend = figure.legend(
        [Line2D([], [], markersize=5, **series_look(index)) for index in range(len(runs))],
        [str(index) for index in range(len(runs))],
        loc="outside lower center",
        ncols=columns,
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        # not given as labels: those that begin with an underscore would be left out
        text.set_parse_math(False)
        text.set_text(name)


def _names(paths: Sequence[Path]) -> list[str]:
    """Each folder's name, with as much of its path as tells it from the others."""
    whole = [path.resolve() for path in paths]
    names = [path.name for path in whole]
    shared = {name for name, count in Counter(names).items() if count > 1}
    if not shared:
        return names
    above = os.path.commonpath([path.parent for path, name in zip(whole, names, strict=True) if name in shared])
    return [str(path.relative_to(above)) if name in shared else name for path, name in zip(whole, names, strict=True)]


def _shortened(name: str) -> str:
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[: half - 1]}…{name[-half:]}"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


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
