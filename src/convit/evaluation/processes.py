"""Several processes that share the images of one evaluation, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from convit.output.text import first_line

T = TypeVar("T")

_TO_MEET = timedelta(minutes=5)
_TO_FINISH = timedelta(days=1)  # the first process to be done waits for the last; torchrun ends all where one fails


@dataclass(frozen=True)
class Processes:
    """How many share the work, and which of them this is.

    Attributes:
        count: how many.
        number: this one, from 0. Process 0 writes.
        group: through which they talk; None for a single process.

    >>> list(Processes(count=3, number=1).share(8))
    [1, 4, 7]
    """

    count: int = 1
    number: int = 0
    group: Any = None

    @property
    def writes(self) -> bool:
        """Whether this process writes the result, and speaks."""
        return self.number == 0

    def share(self, total: int) -> range:
        """The places of this process's images: every image is one process's, and no image two processes'."""
        return range(self.number, total, self.count)

    def gather(self, own: T) -> list[T]:
        """What every process found, in the order of their numbers; the same in all of them."""
        if self.count == 1:
            return [own]
        found: list[T | None] = [None] * self.count
        dist.all_gather_object(found, own, group=self.group)
        return [each for each in found if each is not None]

    def collect(self, score: Callable[[range], Any], total: int) -> list[Any]:
        """What `score` gives in every process for its share of the images, in the order of their numbers."""
        return self.gather(score(self.share(total)))


@contextmanager
def join_processes() -> Generator[Processes]:
    """Join the processes that torchrun started beside this one, for as long as the context lasts.

    Yields:
        They; a single one where torchrun started none.

    Raises:
        ValueError: the environment is torchrun's only in part.
        ConnectionError: the others do not come within five minutes.
    """
    count = _number_in("WORLD_SIZE", 1)
    if count == 1:
        yield Processes()
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE is {count}, but {' and '.join(missing)} is not set; start several processes with "
            "torchrun --nproc-per-node 2 -m convit evaluate …"
        )
    # only a few numbers per image are passed on, once and from the CPU
    try:
        dist.init_process_group("gloo", timeout=_TO_MEET)
    except (RuntimeError, ValueError) as error:
        reason = first_line(error)
        raise ConnectionError(f"the {count} processes of WORLD_SIZE do not find each other: {reason}") from error
    try:
        yield Processes(dist.get_world_size(), dist.get_rank(), dist.new_group(timeout=_TO_FINISH))
    finally:
        dist.destroy_process_group()


def own_device(device: str) -> str:
    """The device of this process: of several on one machine each takes a GPU of its own, where `device` leaves it open.

    "auto" and "cuda" do. Raises `ValueError` if LOCAL_RANK is not a number.
    """
    if "LOCAL_RANK" not in os.environ or device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{_number_in('LOCAL_RANK', 0) % torch.cuda.device_count()}"


def _number_in(name: str, absent: int) -> int:
    value = os.environ.get(name, str(absent))
    if not value.isdigit():
        raise ValueError(f"the environment says {name}={value!r}, but it must be a number, as torchrun sets it")
    return int(value)
