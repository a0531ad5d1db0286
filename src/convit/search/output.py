"""What searches and duplicates give, as a table, JSON, CSV, Parquet or Markdown.

Bytes of file names that are no UTF-8, and characters that a terminal does not know, are spelled out.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from convit.output.files import whole_file, write_text

FORMATS = ("table", "json", "csv", "parquet", "markdown")
_SUFFIXES = {".txt": "table", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".md": "markdown"}
_WIDEST = 10_000
Rows = Sequence[dict[str, Any]]


def choose_rows_format(output: Path | None) -> str:
    """Choose how rows are written: by the file's suffix; on a terminal as a table, in a pipe as JSON.

    Raises:
        ValueError: the suffix stands for no format.

    >>> choose_rows_format(Path("found.csv"))
    'csv'
    """
    if output is None:
        return "table" if sys.stdout.isatty() else "json"
    if output.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"{output}: the suffix {output.suffix!r} stands for no format; use {', '.join(_SUFFIXES)}")
    return _SUFFIXES[output.suffix.lower()]


def write_rows(
    rows: Rows,
    columns: Sequence[str],
    output: Path | None,
    format: str,  # noqa: A002
    *,
    head: str = "",
    overwrite: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Write rows to a file, which appears whole or not at all, or to a stream.

    Args:
        rows: one dictionary each, with the same keys.
        columns: the keys, in order; columns of empty files too.
        output: the file; None for `stream`.
        format: one of `FORMATS`.
        head: what stands above the table of a Markdown file.
        overwrite: whether an existing file may be replaced.
        stream: where text goes without `output`; None for standard output.

    Raises:
        FileExistsError and other OSErrors: as `convit.inference.check_output`.
        ValueError: an unknown format, or Parquet without a file.
    """
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}, but must be one of {', '.join(FORMATS)}")
    if output is None:
        if format == "parquet":
            raise ValueError("parquet is no text and needs a file; name one as output")
        target = stream or sys.stdout
        target.write(_spelled(_text(rows, columns, format, head, target), target.encoding or "utf-8"))
    elif format == "parquet":
        _write_parquet(rows, columns, output, overwrite=overwrite)
    else:
        write_text(output, _text(rows, columns, format, head, None), overwrite=overwrite)


def _write_parquet(rows: Rows, columns: Sequence[str], output: Path, *, overwrite: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: [_spelled(row[name], "utf-8") for row in rows] for name in columns})
    with whole_file(output, overwrite=overwrite) as file:
        pq.write_table(table, file)


def _spelled(value: Any, encoding: str) -> Any:
    """A text with everything spelled out that the encoding cannot say; other values as they are."""
    return value.encode(encoding, "backslashreplace").decode(encoding) if isinstance(value, str) else value


def _text(rows: Rows, columns: Sequence[str], format: str, head: str, stream: TextIO | None) -> str:  # noqa: A002
    if format == "json":
        return json.dumps(list(rows), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if format == "csv":
        import csv

        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([row[name] for name in columns] for row in rows)
        return text.getvalue()
    shown = [[_cell(row[name]) for name in columns] for row in rows]
    titles = [name.replace("_", " ") for name in columns]
    return _markdown(titles, shown, head) if format == "markdown" else _table(titles, shown, stream)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[str]], head: str) -> str:
    lines = [titles, ["---"] * len(titles), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return f"{head}\n\n" * bool(head) + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO | None) -> str:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # as Text, brackets in names of files are no markup
    text = io.StringIO()
    terminal = Console(file=stream) if stream is not None else None
    fits = terminal is not None and terminal.is_terminal
    wide = Console(file=text, width=_WIDEST)
    width = terminal.width if terminal is not None and fits else wide.measure(table).maximum
    Console(file=text, width=width, color_system=None).print(table)
    return text.getvalue()
