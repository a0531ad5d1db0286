"""`convit models`: every variant and weight set, one row each."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from convit.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from convit.cli.catalog import Entry

Format = Annotated[
    Literal["table", "json", "jsonl", "csv"] | None,
    typer.Option(
        "--format", help="How to write.  [default: a table on a terminal, jsonl in a pipe]", show_default=False
    ),
]


def models(format: Format = None, debug: options.Debug = False) -> None:  # noqa: A002  # the option's name
    """List every variant and weight set: what it costs, how good it is and who says so, its terms, and where it is.

    Parameters, multiply-accumulates and activations are counted on the paper's equations as written; `convit info NAME`
    shows what the fast path executes. Accuracies that others published stand apart from those measured by this project.
    """
    from convit.cli.catalog import entries

    rows = entries()
    chosen = format or ("table" if sys.stdout.isatty() else "jsonl")
    if chosen == "table":
        _print_tables(rows)
    elif chosen == "json":
        typer.echo(json.dumps([row.to_dict() for row in rows], indent=2))
    elif chosen == "jsonl":
        for row in rows:
            typer.echo(json.dumps(row.to_dict()))
    else:
        _print_csv(rows)


def _print_csv(rows: list[Entry]) -> None:
    import csv

    values = [_flat(row) for row in rows]
    writer = csv.DictWriter(sys.stdout, fieldnames=list(values[0]))
    writer.writeheader()
    writer.writerows(values)


def _flat(row: Entry) -> dict[str, Any]:
    """A row without lists in it: a column for each published figure of a released file, and for the paper's."""
    from convit.weights.published import DATA_SETS, TIMM

    values = row.to_dict() | {"input_size": "x".join(map(str, row.input_size))}
    del values["published"], values["measured"]
    for data in DATA_SETS:
        if data != "imagenet":
            values[f"{data}_top1"] = _published(row, data, TIMM)
    paper = next((each.top1 for each in row.published if each.source != TIMM), None)
    return values | {"paper_top1": paper, "measured_top1": (row.measured or {}).get("top1")}


def _print_tables(rows: list[Entry]) -> None:
    """Print the variants with their costs, then the weight sets with their merits: together they fit no terminal."""
    from rich.console import Console

    variants, sets = [row for row in rows if row.cached is None], [row for row in rows if row.cached is not None]
    released, ours = [row for row in sets if row.published], [row for row in sets if row.measured]
    tables = (_variant_table(variants), _weights_table(sets), _published_table(released), _measured_table(ours))
    console = Console()
    for table in filter(lambda table: table.row_count, tables):
        if not console.is_terminal:
            # a file or a pipe has no width of its own: nothing need be folded
            console.width = max(console.width, console.measure(table).maximum)
        console.print(table)
    without = ", ".join(row.name for row in variants if not row.weights_from)
    if without:
        console.print(f"There are no weights for {without}.", highlight=False, markup=False)
    for who in dict.fromkeys(row.measured_by for row in rows if row.measured_by):
        names = ", ".join(row.name for row in rows if row.measured_by == who)
        console.print(f"Accuracy of {names}: {who}.", highlight=False, markup=False)


def _variant_table(rows: list[Entry]) -> Table:
    table = _table(
        "Variants", "variant", "params\n(M)", "GMACs", "activations\n(M)", "image", "paper's\ntop-1 (%)", text=[]
    )
    for row in rows:
        table.add_row(
            row.name,
            f"{row.parameters / 1e6:.2f}",
            f"{row.gmacs:.2f}",
            f"{row.activations / 1e6:.2f}",
            _size(row),
            _percent(row.top1),
        )
    return table


def _weights_table(rows: list[Entry]) -> Table:
    table = _table("Weights", "name", text=["license", "from", "cached"])
    for row in rows:
        table.add_row(row.name, row.license or "-", row.weights_from.partition(":")[0], "yes" if row.cached else "no")
    return table


def _published_table(rows: list[Entry]) -> Table:
    """What others published; the sources stand below the tables."""
    from convit.weights.published import DATA_SETS, TIMM

    relatives = [data for data in DATA_SETS if data != "imagenet"]
    headings = [DATA_SETS[data].removeprefix("ImageNet").lstrip(" -") for data in relatives]
    table = _table(
        "Published in timm's result tables (top-1, %, on ImageNet-1k and its relatives)",
        "name",
        "top-1",
        "top-5",
        *headings,
        text=[],
    )
    for row in rows:
        figures = [_percent(_published(row, data, TIMM)) for data in relatives]
        table.add_row(row.name, _percent(row.top1), _percent(row.top5), *figures)
    return table


def _measured_table(rows: list[Entry]) -> Table:
    table = _table("Accuracy measured by this project (%)", "name", "top-1", "top-5", text=[])
    for row in rows:
        table.add_row(row.name, _percent(row.top1), _percent(row.top5))
    return table


def _published(row: Entry, data: str, source: str) -> float | None:
    return next((each.top1 for each in row.published if (each.data, each.source) == (data, source)), None)


def _table(title: str, name: str, *numbers: str, text: list[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(name, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in text:
        table.add_column(heading, overflow="fold")
    return table


def _size(row: Entry) -> str:
    channels, height, width = row.input_size
    return f"{height}x{width}" if channels == 3 else f"{channels}x{height}x{width}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
