"""Images that cannot be read: counted, written down, and left out up to a limit."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from convit.data.shards import Sample
from convit.images import open_image


class TooManyCorruptError(ValueError):
    """More images cannot be read than the limit allows."""


class CorruptImages:
    """The list of images that could not be read, in a file that all processes of a run share.

    The file has a line of JSON with `name` and `reason` for each; lines are only ever appended, each in one write, so
    that processes on one machine do not disturb each other. A run that is taken up goes on with the same list.

    Args:
        path: the file; it and its folder are made when the first image is reported.
        limit: number of images that may be unreadable.

    Raises:
        ValueError: `limit` is negative.
    """

    def __init__(self, path: str | Path, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"the limit of corrupt images is {limit}, but must be 0 or more")
        self.path, self.limit = Path(path), limit
        self._known: set[str] = set()

    def report(self, name: str, reason: object) -> None:
        """Write down that an image cannot be read; one that stands in the file already is not written again.

        Args:
            name: key, path or row of the image.
            reason: what went wrong.

        Raises:
            TooManyCorruptError: the file now names more images than the limit.
        """
        if name in self._known:
            return
        self._known.add(name)
        if name not in self.reasons():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = json.dumps({"name": name, "reason": str(reason)}, ensure_ascii=False) + "\n"
            if not self._ends_a_line():
                line = "\n" + line
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(file, line.encode("utf-8", "backslashreplace"))
            finally:
                os.close(file)
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
                found.setdefault(str(row["name"]), str(row["reason"]))
            except (ValueError, KeyError, TypeError):
                continue  # a line that was cut off when a process was killed
        return found

    def count(self) -> int:
        """Number of different images in the file."""
        return len(self.reasons())

    def _ends_a_line(self) -> bool:
        # a process that was killed while it wrote leaves half a line
        return not self.path.exists() or self.path.read_bytes()[-1:] in (b"", b"\n")


def decode_stream(samples: Iterator[Sample], corrupt: CorruptImages | None) -> Iterator[tuple[str, Image.Image, int]]:
    """Decode an endless stream; where an image cannot be read, the next readable one is given in its place.

    That one is given again in its own place: what comes at a place depends on what follows alone, so that a stream
    that is taken up in its middle goes on exactly as it would have.

    Args:
        samples: (key, encoded image, class index).
        corrupt: takes note of what cannot be read.

    Yields:
        (key of the place, decoded image, class index of that image).

    Raises:
        TooManyCorruptError: there are more unreadable images than `corrupt` allows.
        ValueError: an image cannot be read and there is no `corrupt`, or the stream has none but unreadable images.
    """
    ahead: deque[Sample] = deque()
    while True:
        offset = 0
        image = None
        while image is None:
            if offset == len(ahead):
                ahead.append(next(samples))
            image = _try(ahead[offset], corrupt)
            offset += 1
            # at most `limit` in a pass are unreadable, so where two passes meet at most twice as many follow each other
            if image is None and corrupt is not None and offset > 2 * corrupt.limit:
                raise ValueError(
                    f"a worker's share of the stream has no readable image (such as {ahead[0][0]!r}); lower "
                    f"data.workers or remove what {corrupt.path} names"
                )
        yield ahead[0][0], image, ahead[offset - 1][2]
        ahead.popleft()


def decode_readable(samples: Iterator[Sample], corrupt: CorruptImages | None) -> Iterator[tuple[str, Image.Image, int]]:
    """Decode samples and leave out those that cannot be read.

    Args:
        samples: (key, encoded image, class index).
        corrupt: takes note of what cannot be read.

    Yields:
        (key, decoded image, class index).

    Raises:
        TooManyCorruptError: there are more unreadable images than `corrupt` allows.
        ValueError: an image cannot be read and there is no `corrupt`.
    """
    for sample in samples:
        image = _try(sample, corrupt)
        if image is not None:
            yield sample[0], image, sample[2]


def _try(sample: Sample, corrupt: CorruptImages | None) -> Image.Image | None:
    name, data, _ = sample
    try:
        return open_image(data, name=name)
    except ValueError as error:
        if corrupt is None:
            raise
        corrupt.report(name, error)
        return None
