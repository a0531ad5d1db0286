"""A bar on standard error for runs long enough to want one."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

FEW = 5


@contextmanager
def bar(what: str, total: int, *, shown: bool = True) -> Generator[Callable[[], None]]:
    """Give a function to call after each item; it moves a bar where there is one.

    There is one where `shown` is true, more than a few items are to be done and standard error is a terminal.

    Args:
        what: The word in front of the bar.
        total: How many items there are to do.
        shown: False leaves the bar out, whatever the terminal.
    """
    if not shown or total <= FEW or not sys.stderr.isatty():
        yield _no_bar
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # rich would otherwise lead everything written to standard output to the bar's own stream, results included
    with Progress(
        *columns, console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False, transient=True
    ) as shown_bar:
        task = shown_bar.add_task(what, total=total)
        yield lambda: shown_bar.advance(task)


def _no_bar() -> None:
    pass
