"""`convit models`: every variant and weight set, one row each."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from convit.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from convit.cli.catalogue import Entry

Format = Annotated[
    Literal["table", "json", "jsonl", "csv"] | None,
    typer.Option(
        "--format", help="How to write.  [default: a table on a terminal, jsonl in a pipe]", show_default=False
    ),
]


def models(format: Format = None, debug: options.Debug = False) -> None:  # noqa: A002  # the option's name
    """List every variant and weight set: what it costs, how good it is and who says so, its terms, and where it is.

    Parameters, multiply-accumulates and activations are counted on the paper's equations as written; `convit info NAME`
    shows what the fast path executes. A variant's accuracy is the paper's, a weight set's is its own file's.
    """
    from convit.cli.catalogue import entries

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

    values = [row.to_dict() | {"input_size": "x".join(map(str, row.input_size))} for row in rows]
    writer = csv.DictWriter(sys.stdout, fieldnames=list(values[0]))
    writer.writeheader()
    writer.writerows(values)


def _print_tables(rows: list[Entry]) -> None:
    """Print the variants with their costs, then the weight sets with their merits: together they fit no terminal."""
    from rich.console import Console

    variants, sets = [row for row in rows if row.cached is None], [row for row in rows if row.cached is not None]
    console = Console()
    for table in (_variant_table(variants), _weights_table(sets)):
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
    table = _table("Variants", "variant", "params\n(M)", "GMACs", "activations\n(M)", "image", "top-1\n(%)", text=[])
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
    table = _table("Weights", "name", "top-1\n(%)", "top-5\n(%)", text=["licence", "from", "cached"])
    for row in rows:
        table.add_row(
            row.name,
            _percent(row.top1),
            _percent(row.top5),
            row.licence or "-",
            row.weights_from.partition(":")[0],
            "yes" if row.cached else "no",
        )
    return table


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
