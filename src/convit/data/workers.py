"""Errors of worker processes, told as if they had happened here."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

_MARK = "DataLoader worker process"


@contextmanager
def plain_worker_errors() -> Generator[None]:
    """Give an error of a loader's worker its own one-line message back; PyTorch puts the worker's traceback into it.

    Raises:
        Exception: what the worker raised, of the same type; its traceback is in the exception's cause.
    """
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        text = str(error).rstrip()
        if not text.startswith("Caught ") or _MARK not in text:
            raise
        # the last line is "package.ErrorType: message"
        message = text.rpartition("\n")[2].partition(": ")[2]
        raise type(error)(message) from error
