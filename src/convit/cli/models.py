"""`convit models`: every variant and weight set, one row each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TextIO

from convit.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from convit.cli.catalog import Entry


def models(
    target: Annotated[options.Target, options.results("table", "json", "jsonl", "csv")] = options.STDOUT,
) -> None:
    """List every variant and weight set: what it costs, how good it is and who says so, its terms, and where it is.

    Parameters, multiply-accumulates and activations are counted on the paper's equations as written; `convit info NAME`
    shows what the fast path executes. Accuracies that others published stand apart from those measured by this project.
    """
    from convit.cli.catalog import entries

    rows = entries()
    if target.format == "table":
        with target.text() as stream:
            _print_tables(rows, stream)
        return
    values = [_flat(row) if target.format == "csv" else asdict(row) for row in rows]
    target.write_rows(values, list(values[0]))


def _flat(row: Entry) -> dict[str, Any]:
    """A row without lists in it: a column for each published figure of a released file, and for the paper's."""
    from convit.weights.published import DATA_SETS, TIMM

    values = asdict(row) | {"input_size": "x".join(map(str, row.input_size))}
    del values["published"], values["measured"]
    for data in DATA_SETS:
        if data != "imagenet":
            values[f"{data}_top1"] = _published(row, data, TIMM)
    paper = next((each.top1 for each in row.published if each.source != TIMM), None)
    return values | {"paper_top1": paper, "measured_top1": (row.measured or {}).get("top1")}


def _print_tables(rows: list[Entry], stream: TextIO) -> None:
    """Print the variants with their costs, then the weight sets with their merits: together they fit no terminal."""
    from convit.output.console import print_parts

    variants, sets = [row for row in rows if row.cached is None], [row for row in rows if row.cached is not None]
    released, ours = [row for row in sets if row.published], [row for row in sets if row.measured]
    tables = (_variant_table(variants), _weights_table(sets), _published_table(released), _measured_table(ours))
    lines = [f"There are no weights for {', '.join(row.name for row in variants if not row.weights_from)}."]
    for who in dict.fromkeys(row.measured_by for row in rows if row.measured_by):
        names = ", ".join(row.name for row in rows if row.measured_by == who)
        lines.append(f"Accuracy of {names}: {who}.")
    print_parts(stream, *(table for table in tables if table.row_count), *lines)


def _variant_table(rows: list[Entry]) -> Table:
    headings = ("variant", "params\n(M)", "GMACs", "activations\n(M)", "image", "paper's\ntop-1 (%)")
    cells = (
        (
            *(row.name, f"{row.parameters / 1e6:.2f}", f"{row.gmacs:.2f}", f"{row.activations / 1e6:.2f}"),
            *(_size(row), _percent(row.top1)),
        )
        for row in rows
    )
    return _table("Variants", headings, cells)


def _weights_table(rows: list[Entry]) -> Table:
    cells = (
        (row.name, row.license or "-", row.weights_from.partition(":")[0], "yes" if row.cached else "no")
        for row in rows
    )
    return _table("Weights", ("name", "license", "from", "cached"), cells, numbers=False)


def _published_table(rows: list[Entry]) -> Table:
    """What others published; the sources stand below the tables."""
    from convit.weights.published import DATA_SETS, TIMM

    relatives = [data for data in DATA_SETS if data != "imagenet"]
    headings = [DATA_SETS[data].removeprefix("ImageNet").lstrip(" -") for data in relatives]
    cells = (
        (
            *(row.name, _percent(row.top1), _percent(row.top5)),
            *(_percent(_published(row, data, TIMM)) for data in relatives),
        )
        for row in rows
    )
    title = "Published in timm's result tables (top-1, %, on ImageNet-1k and its relatives)"
    return _table(title, ("name", "top-1", "top-5", *headings), cells)


def _measured_table(rows: list[Entry]) -> Table:
    cells = ((row.name, _percent(row.top1), _percent(row.top5)) for row in rows)
    return _table("Accuracy measured by this project (%)", ("name", "top-1", "top-5"), cells)


def _published(row: Entry, data: str, source: str) -> float | None:
    return next((each.top1 for each in row.published if (each.data, each.source) == (data, source)), None)


def _table(title: str, headings: Sequence[str], cells: Iterable[Sequence[str]], *, numbers: bool = True) -> Table:
    from convit.output.console import make_table

    right = range(1, len(headings)) if numbers else ()
    return make_table(headings, cells, right=right, unfolded=(0, *right), title=title)


def _size(row: Entry) -> str:
    channels, height, width = row.input_size
    return f"{height}x{width}" if channels == 3 else f"{channels}x{height}x{width}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
