"""Rows as JSON, JSON lines, CSV and tables, written one by one; and the files of a run with one line per epoch."""

import csv
import io
import json
import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from convit.output.console import make_table, print_parts
from convit.output.files import write_file
from convit.output.rows import Layout

as_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
"""A value as JSON on one line, without its end."""


def short(value: object) -> str:
    """A value of any size and depth on one line of at most 80 characters, as an error may name it.

    >>> len(short("x" * 1_000_000)), short([[1]])
    (30, '[[1]]')
    """
    return reprlib.repr(value)[:80]


class Encoder:
    """Writes rows in one format to an open file."""

    def add(self, row: Any) -> None:
        """Write one row, or hold it back until there are enough."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write what is held back and whatever ends the file."""

    def abandon(self) -> None:
        """Let go of everything without writing."""


@dataclass(eq=False)
class JsonLines(Encoder):
    """One JSON object per line and row."""

    _stream: TextIO
    _layout: Layout

    def add(self, row: Any) -> None:
        """Write one line; a reader at the other end of a pipe gets it at once."""
        self._stream.write(as_json(self._layout.as_object(row)) + "\n")
        self._stream.flush()


@dataclass(eq=False)
class Json(Encoder):
    """One JSON array with an object per row."""

    _stream: TextIO
    _layout: Layout
    _before: str = "[\n"

    def add(self, row: Any) -> None:
        """Write one object."""
        self._stream.write(self._before + as_json(self._layout.as_object(row)))
        self._before = ",\n"

    def finish(self) -> None:
        """Close the array."""
        self._stream.write("[]\n" if self._before == "[\n" else "\n]\n")


class Csv(Encoder):
    """One line per row, with a head line; a `ValueError` for embeddings with more than one vector per image."""

    def __init__(self, stream: TextIO, layout: Layout) -> None:
        self._layout = layout
        self._writer = csv.writer(stream, lineterminator="\n")
        self._writer.writerow(layout.columns)

    def add(self, row: Any) -> None:
        """Write one line."""
        self._writer.writerow(self._layout.as_values(row))


@dataclass(eq=False)
class Table(Encoder):
    """A table of all rows for people, printed at the end."""

    _stream: TextIO
    _layout: Layout
    _lines: list[Sequence[str]] = field(default_factory=list[Sequence[str]])
    _failed: set[int] = field(default_factory=set[int])

    def add(self, row: Any) -> None:
        """Keep what is shown of one row until the end."""
        if getattr(row, "error", None) is not None:
            self._failed.add(len(self._lines))
        self._lines.append(self._layout.as_cells(row))

    def finish(self) -> None:
        """Print the table."""
        print_parts(
            self._stream, make_table(self._layout.heads, self._lines, right=self._layout.right, red=self._failed)
        )


class Markdown(Encoder):
    """A table in Markdown."""

    def __init__(self, stream: TextIO, layout: Layout) -> None:
        self._stream, self._layout = stream, layout
        stream.write(f"| {' | '.join(layout.heads)} |\n| {' | '.join(['---'] * len(layout.heads))} |\n")

    def add(self, row: Any) -> None:
        """Write one line."""
        cells = (cell.replace("|", "\\|") for cell in self._layout.as_cells(row))
        self._stream.write(f"| {' | '.join(cells)} |\n")


def json_text(value: Any) -> str:
    """A value as JSON for files and for people: indented, with a line end."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows of values as CSV text with a head line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a file, oldest epoch first; none where there is no such file.

    Raises:
        ValueError: a line is not a JSON object with an "epoch".
    """
    path = Path(path)
    if not path.exists():
        return []
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if text.strip():
            lines.append(_parse(text, f"{path}, line {number}"))
    return lines


def add_line(path: str | Path, line: Mapping[str, Any]) -> None:
    """Write an epoch's line after those of earlier epochs; lines of the same and later ones go.

    So a resumed run replaces what it does again. The file is whole at any moment.

    Raises:
        ValueError: the file holds other lines.
    """
    path = Path(path)
    kept = [old for old in read_lines(path) if old["epoch"] < line["epoch"]]
    write_file(path, "".join(json.dumps(each) + "\n" for each in [*kept, line]), overwrite=True)


def epoch_score(line: Mapping[str, Any]) -> tuple[float, float, int]:
    """What epochs are ranked by: top-1, then the lower validation loss, then the later epoch; None and NaN are last."""
    top1, loss = (math.nan if line.get(key) is None else line[key] for key in ("val_top1", "val_loss"))
    return -math.inf if math.isnan(top1) else top1, -math.inf if math.isnan(loss) else -loss, line["epoch"]


def _parse(text: str, place: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place} is not valid JSON ({error.msg}); remove the line, or the file") from None
    if not isinstance(line, dict) or not isinstance(line.get("epoch"), int):
        raise ValueError(f"{place} is not a JSON object with an epoch; remove the line, or the file")
    return line
