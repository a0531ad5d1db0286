"""Whether downloads show a bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

_wanted = True


def show_progress(shown: bool) -> None:
    """Let downloads show a bar on standard error, or not.

    A bar is shown on a terminal only, and never under `HF_HUB_DISABLE_PROGRESS_BARS=1`.
    """
    global _wanted
    _wanted = shown


def progress_shown() -> bool:
    """Say whether a download would show a bar now."""
    disabled = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS", "").upper() in ("1", "ON", "YES", "TRUE")
    return _wanted and not disabled and sys.stderr.isatty()


@contextmanager
def download_bar(what: str, done: int, total: int | None) -> Generator[Callable[[int], None]]:
    """Give a function that moves the bar on by a number of bytes.

    Args:
        what: what is being fetched.
        done: bytes that an earlier attempt left.
        total: bytes of the whole file, or None where the server does not say.
    """
    if not progress_shown():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda count: bar.advance(task, count)
