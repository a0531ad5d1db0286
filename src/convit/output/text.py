"""Rows as JSON, JSON lines, CSV and tables, written one by one; and the files of a run with one line per epoch."""

import csv
import io
import json
import math
import platform
import re
import reprlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, TextIO

from convit.images.names import UNSAFE, escaped
from convit.output.console import is_terminal, make_table, print_parts, printable, versions_of
from convit.output.files import write_file
from convit.output.rows import Layout

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def as_json(value: Any, *, indent: int | None = None) -> str:
    r"""A value as JSON without the last line's end, on one line if not indented.

    What could drive a terminal is spelled out as `\u202e`; numbers that are not finite, which JSON does not have, are
    null.

    >>> as_json({"loss": math.nan, "path": "a"})
    '{"loss": null, "path": "a"}'
    """
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return UNSAFE.sub(_spell_out, text) if indent is None else spelled_lines(text)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def _spell_out(unsafe: re.Match[str]) -> str:
    return f"\\u{ord(unsafe[0]):04x}"


def short(value: object) -> str:
    """A value of any size and depth on one line of at most 80 characters, as an error may name it.

    >>> len(short("x" * 1_000_000)), short([[1]])
    (30, '[[1]]')
    """
    return reprlib.repr(value)[:80]


def first_line(error: BaseException) -> str:
    r"""What an error says, on one line; its class where it says nothing.

    >>> first_line(OSError("no answer\nfrom the hub")), first_line(OSError())
    ('no answer', 'OSError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up, on a GPU or a CPU; torch need not be here.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 PB"))
    True
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    # PyTorch's CPU allocator has no error class of its own
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("can't allocate memory", "not enough memory", "out of memory")
    )


def made_with(*packages: str) -> dict[str, Any]:
    """What a result was made with and when: "versions" of Python and of the packages that are installed, and "date".

    The date is UTC, in ISO 8601.
    """
    versions = {**versions_of(*packages), "python": platform.python_version()}
    return {"versions": versions, "date": datetime.now(UTC).isoformat(timespec="seconds")}


def first_few(names: Collection[str], shown: int = 3) -> str:
    """The first of some names, as messages say them.

    >>> first_few("abcde")
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(islice(names, shown)) + more


def data_name(identity: Mapping[str, Any]) -> str:
    """A short name for a data set, of its `identity()`: its own, or its first and last file's; never a local folder.

    >>> data_name({"kind": "shards", "files": [{"name": "/mine/a.tar"}, {"name": "https://host/b.tar"}]})
    'a.tar to b.tar'
    >>> data_name({"name": "hub:owner/name:test"}), data_name({"name": "hub:/mine/name:test"})
    ('hub:owner/name:test', 'name:test')
    """
    files = [] if identity.get("name") else identity.get("files") or []
    names = [str(each["name"]) for each in files] or [str(identity.get("name") or identity.get("kind") or "images")]
    ends = [each if re.match(r"hub:[^/.~]", each) else PurePath(each).name or each for each in (names[0], names[-1])]
    return ends[0] if len(names) == 1 else " to ".join(ends)


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
    """One line per row, with a header line; raises `ValueError` for embeddings with more than one vector per image.

    A terminal gets what could drive it spelled out, files and pipes the very names.
    """

    def __init__(self, stream: TextIO, layout: Layout, *, spreadsheet_safe: bool = False) -> None:
        self._layout, self._stream, self._is_safe = layout, stream, spreadsheet_safe
        stream.write(csv_line(layout.columns))

    def add(self, row: Any) -> None:
        """Write one line."""
        line = csv_line(self._layout.as_values(row), spreadsheet_safe=self._is_safe)
        self._stream.write(printable(line) if is_terminal(self._stream) else line)


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
        stream.write(f"{markdown_line(layout.heads)}\n{markdown_line(['---'] * len(layout.heads))}\n")

    def add(self, row: Any) -> None:
        """Write one line."""
        self._stream.write(markdown_line(self._layout.as_cells(row)) + "\n")


def markdown_line(cells: Iterable[str]) -> str:
    r"""Cells as a row of a Markdown table, without the line break; pipes and control characters are escaped.

    >>> print(markdown_line(["a|b", "c"]))
    | a\|b | c |
    """
    shown = (escaped(cell).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(shown)} |"


def json_text(value: Any) -> str:
    """A value as JSON for files and for people, as `as_json` writes it: indented, with a line end."""
    return as_json(value, indent=1) + "\n"


def spelled_lines(text: str) -> str:
    """JSON with its line breaks, and with all other control characters escaped."""
    return "\n".join(UNSAFE.sub(_spell_out, line) for line in text.split("\n"))


def read_json(path: Path, remedy: str) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it is not valid JSON; the message ends with what to do.
        OSError: it cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); {remedy}") from error


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, spreadsheet_safe: bool = False) -> str:
    """Rows of values as CSV text with a head line; see `csv_line`."""
    return "".join(csv_line(row, spreadsheet_safe=spreadsheet_safe) for row in [columns, *rows])


def csv_line(values: Sequence[Any], *, spreadsheet_safe: bool = False) -> str:
    r"""Values as one line of CSV; a cell with an end of line in it, of whatever kind, stands in quotes.

    Args:
        values: the cells.
        spreadsheet_safe: whether text that a spreadsheet would compute (it begins with =, +, -, @, a tab or a carriage
            return) gets an apostrophe in front. It is no longer the same text then: a path does not open.

    >>> csv_line(["=1+1", -1, "a\rb"], spreadsheet_safe=True)
    '"\'=1+1","-1","a\rb"\n'
    """
    cells = [
        f"'{each}" if spreadsheet_safe and isinstance(each, str) and each.startswith(_FORMULAS) else each
        for each in values
    ]
    # the csv module of Python 3.11 quotes only the ends of lines that it writes itself
    quoting = csv.QUOTE_ALL if any("\r" in cell for cell in cells if isinstance(cell, str)) else csv.QUOTE_MINIMAL
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=quoting).writerow(cells)
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


def add_line(path: str | Path, line: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Write an epoch's line after those of earlier epochs, and give them all; lines of the same and later ones go.

    So a resumed run replaces what it does again. The file is whole at any moment.

    Raises:
        ValueError: the file holds other lines.
    """
    path = Path(path)
    lines = [*(old for old in read_lines(path) if old["epoch"] < line["epoch"]), line]
    write_file(path, "".join(as_json(each) + "\n" for each in lines), overwrite=True)
    return lines


def epoch_score(line: Mapping[str, Any]) -> tuple[float, float, int]:
    """What epochs are ranked by: top-1, then the lower validation loss, then the later epoch; None and NaN are last."""
    top1, loss = (math.nan if line.get(key) is None else line[key] for key in ("val_top1", "val_loss"))
    return -math.inf if math.isnan(top1) else top1, -math.inf if math.isnan(loss) else -loss, line["epoch"]


def measured_alike(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines of epochs that were measured with the crop of the last one, which alone compare with it.

    Logs did not say the crop before.
    """
    crop = lines[-1].get("crop")
    return [line for line in lines if line.get("crop", crop) == crop]


def _parse(text: str, place: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place} is not valid JSON ({error.msg}); remove the line, or the file") from None
    if not isinstance(line, dict) or not isinstance(line.get("epoch"), int):
        raise ValueError(f"{place} is not a JSON object with an epoch; remove the line, or the file")
    return line
