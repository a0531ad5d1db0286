"""What one image may cost, so that no file can take the memory or the time of a whole run."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any

VARIABLE = "CONVIT_LIMITS"
"""The environment variable that changes the limits of all commands and their processes, as `Limits.parse` reads it."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SETTING = re.compile(r"\s*(\w+)\s*=\s*(\d{1,18})\s*([kmg]?i?)b?\s*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused, skipped or made to wait.

    Attributes:
        file_bytes: a file with more is refused before it is read.
        pixels: width times height; an image with more is refused before it is decoded.
        decoded_bytes: pixels times channels times bytes of each (2 to 4 in WebP, AVIF and JPEG 2000, whose decoders
            hold several copies); likewise.
        bytes_in_flight: memory of the images that are decoded and scaled at once, in a process or in all workers of its
            data loaders; the next one waits. Pillow keeps a color in 4 bytes, and conversions make a copy.
        metadata_bytes: EXIF, XMP and color profile; what goes beyond is skipped and the image read without it,
            as is what Pillow refuses in PNG files: a profile or XMP that inflates to more than 1 MiB.

    Raises:
        ValueError: a limit is below 1.

    >>> Limits.parse("pixels=500000000, decoded_bytes=2GiB").decoded_bytes
    2147483648
    """

    file_bytes: int = 512 * 2**20
    pixels: int = 178_956_970  # where Pillow, too, raises an error: 16 times a usual photograph
    decoded_bytes: int = 512 * 2**20  # as many RGB pixels
    bytes_in_flight: int = 2**30
    metadata_bytes: int = 16 * 2**20

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"the limit {field.name} is {getattr(self, field.name)}, but must be at least 1")

    @classmethod
    def parse(cls, text: str) -> Limits:
        """Read limits that are written as NAME=NUMBER, divided by commas; K, M, G, Ki, Mi and Gi are known.

        Raises:
            ValueError: a name is unknown, or what follows is not a number.
        """
        known = [field.name for field in fields(cls)]
        found: dict[str, int] = {}
        for setting in filter(str.strip, text.split(",")):
            match = _SETTING.fullmatch(setting)
            if match is None or match[1] not in known or match[3].lower() not in _UNITS:
                raise ValueError(
                    f"the limit {setting.strip()!r} is not NAME=NUMBER with one of {', '.join(known)}; write "
                    "pixels=500000000 or decoded_bytes=2GiB"
                )
            found[match[1]] = int(match[2]) * _UNITS[match[3].lower()]
        return cls(**found)


def current_limits() -> Limits:
    """The limits of this process: the defaults, changed by the environment variable CONVIT_LIMITS.

    Raises:
        ValueError: the variable cannot be read.
    """
    return _parsed(os.environ.get(VARIABLE, ""))


_parsed = lru_cache(maxsize=8)(Limits.parse)


def set_limits(settings: Iterable[str]) -> None:
    """Change the limits of this process and those that it starts, each as `Limits.parse` reads it; others stay.

    Raises:
        ValueError: one cannot be read.
    """
    text = ",".join([os.environ.get(VARIABLE, ""), *settings])
    Limits.parse(text)
    os.environ[VARIABLE] = text


class _InFlight:
    """How many bytes of decoded images are held, in this process or in several that share the count."""

    def __init__(self) -> None:
        self._scope = threading.local()
        self._alone()
        if hasattr(os, "register_at_fork"):  # threads that hold some are not copied with the process
            os.register_at_fork(after_in_child=self._alone)

    def _alone(self) -> None:
        self.share(threading.Condition(), SimpleNamespace(value=0))

    def share(self, changed: Any, held: Any) -> None:
        """Count from now on by a condition, and a number `held.value`, that other processes may have as well."""
        self._changed, self._held = changed, held

    @contextmanager
    def hold(self, amount: int, most: int) -> Generator[None]:
        """Wait until there is room, or nothing else is held; then hold an amount while the block runs.

        Where it runs `until_scaled`, and without an error, the amount is held until that has ended.
        """
        with self._changed:
            while not self._changed.wait_for(lambda: not self._held.value or self._held.value + amount <= most, 1):
                _leave_if_orphaned()
            self._held.value += amount
        scope: ExitStack | None = getattr(self._scope, "open", None)
        with ExitStack() as mine:
            mine.callback(self._release, amount)
            yield
            if scope is not None:
                scope.push(mine.pop_all())

    @contextmanager
    def until_scaled(self) -> Generator[None]:
        """Let the images that this thread opens within the block count until its end: while they are transformed."""
        with ExitStack() as self._scope.open:
            try:
                yield
            finally:
                self._scope.open = None

    def _release(self, amount: int) -> None:
        with self._changed:
            self._held.value -= amount
            self._changed.notify_all()


IN_FLIGHT = _InFlight()


def share_in_flight() -> Callable[[int], None]:
    """A count of bytes in flight for several processes: each calls what is given, with any number, when it starts.

    That is what PyTorch's `DataLoader` does with a `worker_init_fn`. When a process dies, what it held stays counted:
    PyTorch then ends the others.
    """
    import multiprocessing

    return partial(_share, multiprocessing.Condition(), multiprocessing.RawValue("q"))


def _share(changed: Any, held: Any, _: int) -> None:
    IN_FLIGHT.share(changed, held)


def _leave_if_orphaned() -> None:
    """End a process that waits for others where the one that started them has gone."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit(1)
