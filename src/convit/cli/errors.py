"""Where errors and messages end: each becomes one line on standard error, and an error an exit code too.

The code says whose turn it is: 1 failed while running (network, disk, permission, unexpected), 2 wrong input (option,
path, model name, file). 0 and 3 (finished, but some images could not be read) are not errors: the commands give them.
Log records and warnings of the rooms below are one line each too.
"""

import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer

from convit.cli.commands import PROGRAM
from convit.output.console import STOPPING, is_terminal

FAILED = 1
WRONG_INPUT = 2
SOME_UNREADABLE = 3
# 128 and the signal's number, as shells have it
INTERRUPTED = 130
READER_GONE = 141

_MOST_NAMED = 10  # images that could not be read
_PACKAGE = Path(__file__).parents[1]


class Terminated(SystemExit):
    """SIGTERM, or SIGHUP of a terminal that was closed, ended the command; the code is 128 and the signal's number."""


def report(error: BaseException, *, debug: bool = False, command: str = PROGRAM) -> int:
    """Write one line that says what went wrong and what to do, with the error's notes, and give the exit code.

    Args:
        error: what ended the command.
        debug: writes the traceback too, before the line.
        command: whose `--help` a usage error points to, where it does not say itself.
    """
    if isinstance(error, BrokenPipeError):
        say("standard output was closed, so the rest was not written")
        return READER_GONE
    if debug and not _is_usage_error(error):
        traceback.print_exception(error)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), file=sys.stderr)  # pyright: ignore[reportAttributeAccessIssue]
        return WRONG_INPUT
    notes = "; ".join(getattr(error, "__notes__", ()))
    if isinstance(error, KeyboardInterrupt | Terminated):
        left = notes or "unfinished output was removed"
        if isinstance(error, Terminated):
            code = int(error.code or 0)
            tell(f"stopped by {signal.Signals(code - 128).name}; {left}")
            return code
        tell(str(error) or f"stopped by Ctrl-C; {left}")  # training says itself where it stopped
        return INTERRUPTED
    code, message = describe(error, command)
    tell(f"error: {message}{notes and f'; {notes}'}")
    return code


def describe(error: BaseException, command: str = PROGRAM) -> tuple[int, str]:
    """Return the exit code of an exception and what to tell the user.

    `ValueError` and `TypeError` are the caller's mistakes only where this package raised them: from anywhere else they
    are as unexpected as any other error, and named so.
    """
    if _is_usage_error(error):
        return WRONG_INPUT, _usage_message(error, command)
    if isinstance(error, FileNotFoundError | FileExistsError | IsADirectoryError | NotADirectoryError):
        return WRONG_INPUT, _system_message(error)
    if isinstance(error, OSError):
        return FAILED, _system_message(error)
    if isinstance(error, FloatingPointError):  # a training run that diverged says so itself
        return FAILED, str(error)
    if _raised_here(error):
        if isinstance(error, ValueError | TypeError):
            return WRONG_INPUT, str(error) or type(error).__name__
        if isinstance(error, ModuleNotFoundError) and error.name is not None:
            told = f"the package '{error.name}' is not installed; install it, or the extra of {PROGRAM} that brings it"
            return FAILED, told
        # a MemoryError of ours says what to do; those of NumPy and pyarrow, of kinds of their own, do not
        if (isinstance(error, ImportError) or type(error) is MemoryError) and str(error):
            return FAILED, str(error)
    from convit.output.text import is_out_of_memory

    if is_out_of_memory(error):
        return FAILED, "out of memory; use a smaller batch, a smaller model, or the CPU"
    return FAILED, f"unexpected {type(error).__name__}: {str(error) or 'no message'} (--debug shows the traceback)"


def leave_if_unreadable(unreadable: Mapping[str, str], read: int) -> None:
    """Name the images that could not be read, and `leave_if_skipped`; with `--quiet` only the first is named.

    Args:
        unreadable: name → one line that says what is wrong, with the image.
        read: number of the others.
    """
    lines = list(unreadable.values())
    for line in lines[1 : 1 if is_quiet() else _MOST_NAMED]:
        tell(f"warning: {line}")
    leave_if_skipped(len(lines), read + len(lines), first=next(iter(lines), ""))


def leave_if_skipped(skipped: int, total: int | None, where: object = "", first: str = "") -> None:
    """Say how many images a run that has ended skipped, if any, and end the command with code 3 (`typer.Exit`).

    Args:
        skipped: number of images that could not be read; where nothing is left, that is an error.
        total: number of all images, where it is known.
        where: what says more of them.
        first: what is wrong with the first.
    """
    if not skipped:
        return
    if first and skipped == total:
        tell(f"error: {first}" if total == 1 else f"error: none of {total:,} images could be read; the first: {first}")
    else:
        tell(_done(skipped, total, where) + (first and f"; the first: {first}"))
    raise typer.Exit(SOME_UNREADABLE)


def say_left_out(scored: int, unreadable: Sequence[Mapping[str, str]], where: Path | None) -> None:
    """Say that images could not be read (`unreadable`, with "error") and count in no metric, as `scored` others do."""
    done = _done(len(unreadable), scored + len(unreadable), where)
    tell(f"{done}: they could not be read and count in no metric; the first: {unreadable[0]['error']}")


def _done(skipped: int, total: int | None, where: object) -> str:
    count = f"{skipped:,} of {total:,} images" if total else "1 image" if skipped == 1 else f"{skipped:,} images"
    return f"done, {count} skipped{f' (see {where})' if where else ''}"


def tell(line: str) -> None:
    """Write a line on standard error, also with `--quiet`; one that cannot be written does not cost the results."""
    with suppress(OSError, ValueError):
        print(f"{PROGRAM}: {one_line(line)}", file=sys.stderr)


def one_line(message: str) -> str:
    r"""Fold whitespace and spell out control characters: no file name can break the line or drive the terminal.

    Passwords and queries of URLs are left out.

    >>> one_line("two\nlines, a \x1b[31mcolor")
    'two lines, a \\x1b[31mcolor'
    """
    from convit.images.names import escaped, redacted

    return escaped(redacted(" ".join(message.split())))


def _is_usage_error(error: BaseException) -> bool:
    # its class lives in click or in a private module of typer, as the version has it; these two make it what it is
    return hasattr(error, "exit_code") and hasattr(error, "format_message")


def _usage_message(error: Any, command: str) -> str:
    # the words are pydantic's, which typer lets through
    message = str(error.format_message()).rstrip(".").replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    command = command if context is None else context.command_path
    return f"{message} (see '{command} --help')"


def _system_message(error: OSError) -> str:
    if error.errno is None or error.strerror is None:
        return str(error) or type(error).__name__
    from convit.output.files import reason_of

    return reason_of(error) if error.filename is None else f"{error.filename}: {reason_of(error)}"


def _raised_here(error: BaseException) -> bool:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and _PACKAGE in Path(frames[-1].f_code.co_filename).parents


def open_streams() -> None:
    """Lead the standard streams that are not there (`>&-`, a service without a console) to nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123  # until the end


def has_output() -> bool:
    """Whether there is a standard output, see `open_streams`."""
    return getattr(sys.stdout, "name", "") != os.devnull


def close_streams() -> None:
    """Write what is buffered; where that fails, nothing is left to fail once more when Python flushes at its exit."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except (OSError, ValueError):
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  # until the end


@contextmanager
def stopped_by_signals() -> Generator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, by an exception, so that what is unfinished is cleared away.

    Signals that are ignored (by `nohup`) or handled already stay so.
    """
    numbers = [number for number in STOPPING if signal.getsignal(number) == signal.SIG_DFL]

    def stop(number: int, frame: Any) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)  # a second one must not disturb the clearing
        raise Terminated(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


_log = logging.getLogger(__name__.partition(".")[0])


@contextmanager
def on_stderr() -> Generator[None]:
    """Show what is logged or warned of inside the block as `convit: …`; the process's own settings return after it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    level = _log.level
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            # what Pillow finds odd in a file has no name of that file; what it cannot read is an error of the image
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        _log.setLevel(level)
        _log.removeHandler(handler)
        if (downloads := sys.modules.get("convit.weights.progress")) is not None:
            downloads.show_progress(True)


def say(line: str) -> None:
    """Tell the user how things stand; nothing is said with `--quiet`."""
    _log.info("%s", line)


def say_reading(*sources: object) -> None:
    """On a terminal, say at once what a command reads: listing folders or data sets can take seconds."""
    if is_terminal(sys.stderr):
        say(f"reading {', '.join(str(source) for source in sources if source is not None)} …")


def is_quiet() -> bool:
    """Whether `quiet_output` was called in this run."""
    return not _log.isEnabledFor(logging.INFO)


def quiet_output() -> None:
    """Keep everything back but warnings and errors, for `--quiet`: what is going on, and bars."""
    from convit.weights.progress import show_progress

    _log.setLevel(logging.WARNING)
    show_progress(False)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        kind = "warning: " if record.levelno >= logging.WARNING else ""
        return f"{PROGRAM}: {kind}{one_line(record.getMessage())}"


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    tell(f"warning: {message}")
