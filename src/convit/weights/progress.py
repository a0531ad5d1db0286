"""Bars on standard error: of runs and of downloads, and whether downloads show one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from convit.output.console import is_terminal

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

FEW = 5  # items that need no bar

_wanted = True


def show_progress(shown: bool) -> None:
    """Let runs and downloads show a bar on standard error, or not.

    A bar is shown on a terminal only, and that of a download never under `HF_HUB_DISABLE_PROGRESS_BARS=1`.
    """
    global _wanted
    _wanted = shown


def progress_shown() -> bool:
    """Return whether a download would show a bar now."""
    disabled = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS", "").upper() in ("1", "ON", "YES", "TRUE")
    return _wanted and not disabled and is_terminal(sys.stderr)


@contextmanager
def bar(what: str, total: int, *, shown: bool = True) -> Generator[Callable[[], None]]:
    """Return a function to call after each item; it moves a bar where there is one.

    There is one where `shown` is true, more than a few items are to be done, standard error is a terminal and
    `show_progress` has not ruled it out.
    """
    if not (_wanted and shown and total > FEW and is_terminal(sys.stderr)):
        yield lambda: None
        return
    from rich.progress import MofNCompleteColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with _shown(columns, what, 0, total, transient=True) as advance:
        yield lambda: advance(1)


@contextmanager
def download_bar(what: str, done: int, total: int | None) -> Generator[Callable[[int], None]]:
    """Return a function that moves a download's bar on by a number of bytes; `total` is None if it is unknown."""
    if not progress_shown():
        yield lambda _: None
        return
    from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with _shown(columns, what, done, total, transient=False) as advance:
        yield advance


@contextmanager
def _shown(
    columns: Sequence[ProgressColumn], what: str, done: int, total: int | None, *, transient: bool
) -> Generator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    parts = (TextColumn("{task.description}"), BarColumn(), *columns)
    # rich would otherwise lead everything written to standard output to the bar's own stream, results included
    with Progress(
        *parts, console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False, transient=transient
    ) as progress:
        task = progress.add_task(what, total=total, completed=done)
        yield lambda count: progress.advance(task, count)
