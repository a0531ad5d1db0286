"""Errors of the disk in one line each, with the remedy."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_OS_ERROR = re.compile(r"os error (\d+)")  # how errors of libraries written in Rust end


@contextmanager
def explained(folder: Path, remedy: str) -> Generator[None]:
    """Turn a full disk or a missing permission inside the block into one line that says where and what to do.

    Args:
        folder: where the block writes.
        remedy: what the user can do instead, e.g. "set HF_HOME to another folder".

    Raises:
        PermissionError: writing is not allowed, or the file system is read-only.
        OSError: the disk is full; `errno` says so too. Other errors pass through as they are.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        code = _code(error)
        if code in _FULL:
            raise _plain(OSError(f"no space left to write in {folder}; free some space, or {remedy}"), code) from error
        if code in _FORBIDDEN:
            raise _plain(PermissionError(f"no permission to write in {folder}; {remedy}"), code) from error
        raise


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: under a temporary name beside it first, renamed when complete.

    Args:
        path: the file; an existing one is replaced, and missing folders are made.
        content: its bytes.

    Raises:
        PermissionError: writing is not allowed there.
        OSError: the disk is full, or the folder cannot be made.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained(path.parent, "write to another folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _code(error: OSError | RuntimeError) -> int | None:
    code = getattr(error, "errno", None)
    match = _OS_ERROR.search(str(error))
    return code if code is not None or match is None else int(match[1])


def _plain(error: OSError, code: int) -> OSError:
    # Given to the constructor, the number would stand in front of the message.
    error.errno = code
    return error
