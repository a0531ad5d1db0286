"""What people read on a screen: tables of one look, as wide as the terminal, or as wide as they need elsewhere."""

import html
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Container, Generator, Iterable, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from convit.images.names import escaped

if TYPE_CHECKING:
    from rich.table import Table

_WIDEST = 10_000  # characters; a path has at most 4,096
# what ends a command besides Ctrl-C; not every system has SIGHUP, which tells that the terminal was closed
STOPPING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal; one that is not there (`>&-`, a service without a console) or closed is none."""
    return stream is not None and not stream.closed and stream.isatty()


def make_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Container[int] = (),
    unfolded: Container[int] = (),
    red: Container[int] = (),
    title: str | None = None,
) -> "Table":
    """Rows of cells as a table; brackets in them are not markup, and control characters are spelled out.

    Args:
        columns: the headings.
        rows: as many cells each.
        right: numbers of the columns that stand at the right, such as those of figures.
        unfolded: numbers of the columns that are never folded.
        red: numbers of the rows that went wrong.
        title: what stands above.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    shown = None if title is None else Text(printable(title))
    table = Table(title=shown, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, heading in enumerate(columns):
        justify = "right" if number in right else "left"
        table.add_column(Text(printable(heading)), justify=justify, overflow="fold", no_wrap=number in unfolded)
    for number, cells in enumerate(rows):
        table.add_row(*(Text(printable(cell)) for cell in cells), style="red" if number in red else None)
    return table


def print_parts(stream: TextIO, *parts: "Table | str") -> None:
    """Print tables, and lines between them, which are neither folded nor taken for markup.

    On a terminal tables fit its width and have colors, elsewhere they are as wide as they need.
    """
    from rich.console import Console

    console = Console(file=stream)
    text = None
    if not console.is_terminal:
        text = io.StringIO()  # rich would end the process where the reader of a pipe has gone
        console = Console(file=text, width=_WIDEST, color_system=None)
        widths = (console.measure(part).maximum for part in parts if not isinstance(part, str))
        console.width = max(widths, default=_WIDEST)
    for part in parts:
        if isinstance(part, str):
            print(printable(part), file=text or stream)
        else:
            console.print(part)
    if text is not None:
        stream.write(text.getvalue())


def as_html(write: Callable[[Any, TextIO], None], result: Any) -> str:
    """What a notebook shows of a result: the table that `write` prints for people, escaped."""
    text = io.StringIO()
    write(result, text)
    return f"<pre>{html.escape(text.getvalue())}</pre>"


def versions_of(*packages: str) -> dict[str, str]:
    """The versions of those packages that are installed, by name; here, as `--version` must not wait for NumPy."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str] = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def say(line: str) -> None:
    """Write one line on standard error, after the program's name."""
    with suppress(OSError, ValueError):  # a terminal that was closed costs nobody the results
        print(f"convit: {escaped(line)}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Text whose lines stay lines, and which holds nothing else that drives a terminal."""
    return "\n".join(map(escaped, text.split("\n")))


@contextmanager
def quiet_loggers(*names: str) -> Generator[None]:
    """Let only errors of these loggers through, and leave warning filters set inside behind."""
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        for logger in levels:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)


@contextmanager
def silenced() -> Generator[None]:
    """Drop what the process prints meanwhile, also what libraries print from C++, which no logger holds back."""
    kept = dict[int, int]()
    for stream in (1, 2):
        with suppress(OSError):  # closed
            kept[stream] = os.dup(stream)
    with Path(os.devnull).open("wb") as nowhere, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            for stream in kept:
                os.dup2(nowhere.fileno(), stream)
            yield
        finally:
            for stream, copy in kept.items():
                os.dup2(copy, stream)
                os.close(copy)
