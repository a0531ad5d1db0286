"""What `convit benchmark --output FOLDER` found, as figures and as a table with timm's columns.

    python benchmarks/plots.py FOLDER        # reads results.json there, writes results.csv, throughput.png, sizes.png

Throughput is drawn against batch size, time and memory against image size. Candidates are told apart by color (Okabe
and Ito's palette), marker and line style alike; ours is the thick line, other models are dashed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from convit.benchmark import Row
from convit.benchmark.cost import Cost
from convit.output.plots import save_figure, series_look, styled
from convit.output.text import csv_text

PANEL_WIDTH, PANEL_HEIGHT, LEGEND_LINE = 3.9, 3.0, 0.2  # inches
# as in timm's results/benchmark-infer-*.csv and benchmark-train-*.csv: times in ms, operations in 10^9, activations and
# parameters in 10^6
INFER_COLUMNS = (
    *("model", "infer_img_size", "infer_samples_per_sec", "infer_step_time", "infer_batch_size", "param_count"),
    *("infer_gmacs", "infer_macts"),
)
TRAIN_COLUMNS = (
    *("model", "train_samples_per_sec", "train_step_time", "train_batch_size", "train_img_size", "param_count"),
)


def read_rows(results: Path) -> list[Row]:
    """The rows of a `results.json`."""
    content = json.loads(results.read_text(encoding="utf-8"))
    return [Row(**{**row, "cost": Cost(**row["cost"])}) for row in content["rows"]]


def draw_figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """What rows can show, by the file's name: throughput, and sizes where there is memory or several image sizes."""
    wanted: dict[str, Figure] = {}
    if rows and rows[0].mode != "memory":
        wanted["throughput.png"] = draw_throughput(rows)
    if rows and (rows[0].mode == "memory" or len({(row.height, row.width) for row in rows}) > 1):
        wanted["sizes.png"] = draw_sizes(rows)
    return wanted


def draw_throughput(rows: Sequence[Row]) -> Figure:
    """Images per second against batch size: a panel per model, image size and precision."""
    groups = _groups(rows, lambda row: (row.model, row.height, row.width, row.precision))
    labels = ("batch size", "images per second")
    panels: list[Panel] = [
        (f"{model}, {height} x {width}, {precision}", members, _batch, _throughput, labels)
        for (model, height, width, precision), members in groups.items()
    ]
    return _figure(rows, panels, columns=len(panels))


def draw_sizes(rows: Sequence[Row]) -> Figure:
    """Time and memory of an image against its number of pixels, on logarithmic axes: a row of panels per model."""
    panels: list[Panel] = []
    groups = _groups(rows, lambda row: (row.model, row.precision, row.batch_asked))
    has_memory = any(row.memory_mb is not None for row in rows)
    for (model, precision, batch), members in groups.items():
        title, side = f"{model}, {precision}, batch {batch}", "side of the image (pixels)"
        panels.append((title, members, _side, _time, (side, "time per image (ms)")))
        if has_memory:
            panels.append((title, members, _side, _memory, (side, "memory over the loaded model (MB)")))
    return _figure(rows, panels, columns=2 if has_memory else len(panels))


Value = Callable[[Row], float | None]
Panel = tuple[str, list[Row], Value, Value, tuple[str, str]]


def _figure(rows: Sequence[Row], panels: Sequence[Panel], columns: int) -> Figure:
    names = list({row.candidate: row.relation for row in rows}.items())
    columns = max(1, min(columns, 3))
    lines = -(-len(panels) // columns)
    with styled(axes_grid=True):
        legend_columns = min(len(names), columns)  # a name of a peer is nearly as wide as a panel
        height = PANEL_HEIGHT * lines + LEGEND_LINE * -(-len(names) // legend_columns) + 0.1
        figure = Figure(figsize=(PANEL_WIDTH * columns, height), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False).flatten()
        for axes, (title, members, across, up, labels) in zip(grid, panels, strict=False):
            for index, (name, relation) in enumerate(names):
                _draw_line(axes, [row for row in members if row.candidate == name], across, up, _look(index, relation))
            _dress(axes, sorted({across(row) or 0.0 for row in members}), labels, across)
            axes.set_title(title, parse_math=False)
        for axes in grid[len(panels) :]:
            axes.remove()
        handles = [
            grid[0].plot([], [], label=name, **_look(index, kind))[0] for index, (name, kind) in enumerate(names)
        ]
        shown = [f"{name} (another model)" if kind == "another" else name for name, kind in names]
        legend = figure.legend(handles, shown, loc="outside lower center", ncols=legend_columns)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _draw_line(axes: Axes, rows: list[Row], across: Value, up: Value, look: dict[str, Any]) -> None:
    points = sorted((across(row) or 0.0, value) for row in rows if (value := up(row)) is not None)
    if points:
        axes.plot([place for place, _ in points], [value for _, value in points], **look)


def _dress(axes: Axes, places: list[float], labels: tuple[str, str], across: Value) -> None:
    by_size = across is _side
    if len(places) > 1 or by_size:
        axes.set_xscale("log")
    if by_size:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.set(xlabel=labels[0], ylabel=labels[1])


def _look(index: int, relation: str) -> dict[str, Any]:
    return {
        **series_look(index),
        "linewidth": 2.4 if relation == "ours" else 1.3,
        "linestyle": (0, (4, 1.5)) if relation == "another" else "solid",
        "markersize": 5,
    }


def _batch(row: Row) -> float:
    return float(row.batch)


def _side(row: Row) -> float:
    """The side of a square image with as many pixels."""
    return (row.height * row.width) ** 0.5


def _throughput(row: Row) -> float:
    return row.images_per_second


def _time(row: Row) -> float:
    return 1000 / row.images_per_second


def _memory(row: Row) -> float | None:
    return row.memory_mb


def _groups(rows: Sequence[Row], key: Callable[[Row], tuple[Any, ...]]) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def to_csv(rows: Sequence[Row]) -> str:
    """One line per row: timm's columns, then ours."""
    lines = [_timm_columns(row) | _own_columns(row) for row in rows]
    columns = list(lines[0]) if lines else INFER_COLUMNS
    return csv_text(columns, ([line.get(name, "") for name in columns] for line in lines))


def _timm_columns(row: Row) -> dict[str, Any]:
    kind, columns = ("train", TRAIN_COLUMNS) if row.mode == "train" else ("infer", INFER_COLUMNS)
    values = {
        "model": row.architecture,
        f"{kind}_img_size": row.height if row.height == row.width else f"{row.height}x{row.width}",
        f"{kind}_samples_per_sec": round(row.images_per_second, 2),
        f"{kind}_step_time": row.step_ms["median"],
        f"{kind}_batch_size": row.batch,
        "param_count": _scaled(row.cost.parameters, 1e6),
        "infer_gmacs": _scaled(row.cost.macs, 1e9),
        "infer_macts": _scaled(row.cost.activations, 1e6),
    }
    return {name: values[name] for name in columns}


def _own_columns(row: Row) -> dict[str, Any]:
    measured = ("ratio", "difference", "peak_share", "memory_mb", "kept_mb", "held_mb")
    asked = ("candidate", "relation", "mode", "device", "precision", "computed_in", "backend", "compiled", "weights")
    fields = asdict(row)
    return {
        **{name: fields[name] for name in asked},
        "batch_asked": row.batch_asked,
        "rounds": row.rounds,
        "step_ms_low": row.step_ms["low"],
        "step_ms_high": row.step_ms["high"],
        **{name: fields[name] for name in measured},
        **{f"{share}_ms": (row.percentiles_ms or {}).get(share) for share in ("p50", "p90", "p99")},
        "gmacs_executed": _scaled(row.cost.executed, 1e9, 4),
        "gmacs_position": _scaled(row.cost.position, 1e9, 4),
        "tokens": row.cost.tokens,
    }


def _scaled(value: int | None, unit: float, digits: int = 2) -> float | None:
    return None if value is None else round(value / unit, digits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what --output of `convit benchmark` was")
    folder: Path = parser.parse_args().folder
    rows = read_rows(folder / "results.json")
    (folder / "results.csv").write_text(to_csv(rows), encoding="utf-8")
    for name, figure in draw_figures(rows).items():
        save_figure(figure, folder / name, overwrite=True)


if __name__ == "__main__":
    main()
