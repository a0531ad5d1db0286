"""Rows as a table for people."""

from typing import TYPE_CHECKING, TextIO

import numpy as np

from convit.output.formats import Rows
from convit.output.results import Classification
from convit.output.rows import Result

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_SHOWN_VALUES = 4
_WIDEST = 10_000  # characters; a path has at most 4,096


class Table:
    """A table of all results, printed at the end: classes and probabilities, or shapes and first values.

    Args:
        stream: where to print; on a terminal the table fits its width and has colors, elsewhere it is as wide as it
            needs to be.
        rows: what is printed.
    """

    def __init__(self, stream: TextIO, rows: Rows) -> None:
        self._stream = stream
        self._heads = ("score", "label") if rows == "classification" else ("shape", "length", "values")
        self._lines: list[tuple[str, ...]] = []
        self._failed: set[int] = set()

    def add(self, result: Result) -> None:
        """Keep what is shown of one result until the end."""
        if result.error is not None:
            self._failed.add(len(self._lines))
            cells = (*[""] * (len(self._heads) - 1), f"error: {result.error.removeprefix(f'{result.path}: ')}")
        elif isinstance(result, Classification):
            scores = "\n".join(f"{100 * found.score:.1f} %" for found in result.predictions)
            cells = (scores, "\n".join(found.label for found in result.predictions))
        else:
            cells = () if result.values is None else _describe(result.values)
        self._lines.append((result.path, *cells))

    def finish(self) -> None:
        """Print the table."""
        from rich.console import Console

        table = self._build()
        console = Console(file=self._stream)
        if not console.is_terminal:
            wide = Console(file=self._stream, width=_WIDEST)
            console = Console(file=self._stream, width=wide.measure(table).maximum, color_system=None)
        console.print(table)

    def abandon(self) -> None:
        """Print nothing."""

    def _build(self) -> "RichTable":
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("image", overflow="fold")
        for head in self._heads:
            table.add_column(head, justify="right" if head in ("score", "length") else "left", overflow="fold")
        for number, cells in enumerate(self._lines):
            # as Text, brackets in names of files are no markup
            table.add_row(*map(Text, cells), style="red" if number in self._failed else None)
        return table


def _describe(values: np.ndarray) -> tuple[str, str, str]:
    shown = ", ".join(f"{value:.4f}" for value in values.ravel()[:_SHOWN_VALUES])
    length = f"{np.linalg.norm(values):.4g}" if values.ndim == 1 else ""
    return " x ".join(map(str, values.shape)), length, f"{shown}{', …' if values.size > _SHOWN_VALUES else ''}"
