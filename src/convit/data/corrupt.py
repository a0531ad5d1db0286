"""Images that cannot be read: counted, written down, and left out up to a limit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from convit.output.text import as_json

T = TypeVar("T")


class TooManyCorruptError(ValueError):
    """More images cannot be read than the limit allows."""


def read_or_report(read: Callable[[], T], name: str, corrupt: CorruptImages | None) -> T | None:
    """What `read` gives; None for an image that cannot be read, of which `corrupt` takes note (without it an error)."""
    try:
        return read()
    except ValueError as error:
        if corrupt is None:
            raise
        corrupt.report(name, error)
        return None


class CorruptImages:
    """The list of images that could not be read, in a file that all processes of a run share.

    The file has a line of JSON with `name` and `reason` for each; lines are only ever appended, each in one write, so
    that processes on one machine do not disturb each other. A run that is taken up goes on with the same list.

    Args:
        path: the file; it and its folder are made when the first image is reported.
        limit: number of images that may be unreadable.
        root: folder of the data; names are told relative to it, in reasons too.

    Raises:
        ValueError: `limit` is negative.
    """

    def __init__(self, path: str | Path, limit: int, root: str | Path | None = None) -> None:
        if limit < 0:
            raise ValueError(f"the limit of corrupt images is {limit}, but must be 0 or more")
        self.path, self.limit = Path(path), limit
        self._known: set[str] = set()
        self._root = "" if root is None or Path(root) == Path() else f"{root}/"

    def report(self, name: str, reason: object) -> None:
        """Write down that an image cannot be read, once.

        Raises:
            TooManyCorruptError: the file now names more images than the limit.
        """
        name = name.removeprefix(self._root)
        if name in self._known:
            return
        self._known.add(name)
        if name not in self.reasons():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = as_json({"name": name, "reason": str(reason).replace(f"{self._root}{name}", name)})
            with self.path.open("ab", buffering=0) as file:
                # a process that was killed while it wrote leaves half a line
                start = "" if self.path.read_bytes()[-1:] in (b"", b"\n") else "\n"
                file.write(f"{start}{line}\n".encode())
        reasons = self.reasons()
        if len(reasons) > self.limit:
            raise TooManyCorruptError(
                f"{len(reasons)} images cannot be read, and the limit is {self.limit}; they are named in {self.path}, "
                f"the first because: {next(iter(reasons.values()))}; remove them and that file, or raise "
                f"data.corrupt_limit"
            )

    def reasons(self) -> dict[str, str]:
        """Name → reason of every image in the file, in the order in which they were found."""
        if not self.path.exists():
            return {}
        found: dict[str, str] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
                found.setdefault(str(row["name"]).removeprefix(self._root), str(row["reason"]))
            except (ValueError, KeyError, TypeError):
                continue  # a line that was cut off when a process was killed
        return found
