"""Shards on Ray: each actor holds one model and does whole shards as `LocalEngine` does them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from convit.scale.destination import Destination
from convit.scale.engines import Done, Engine, LocalEngine
from convit.scale.jobs import Job
from convit.scale.manifest import InputShard
from convit.scale.ray_cluster import share_out


class RayEngine(Engine):
    """Does shards in a pool of Ray actors; a shard whose worker died is done by another.

    Ray Data is not used: its driver and its own actors take CPU time all the while, and what it adds, blocks of rows
    between operators, is not needed where an actor reads, computes and writes a whole shard.

    Args:
        job: what is computed.
        ray: from `convit.scale.ray_cluster.ray_cluster`.
    """

    def __init__(self, job: Job, ray: Any) -> None:
        self._ray, self._job = ray, job
        self._device = str(job.options.device)
        ((_, self.identity),) = share_out(ray, self._device, partial(_identify, job), [None])

    def run(self, destination: Destination, shards: Sequence[InputShard], about: Mapping[str, Any]) -> Iterator[Done]:
        """See `Engine`."""
        make = partial(_open, self._job, destination.place, about)
        for _, done in share_out(self._ray, self._device, make, shards):
            yield done


def _open(job: Job, place: str, about: Mapping[str, Any]) -> Callable[[InputShard], Done]:
    engine, destination = LocalEngine(job), Destination(place)
    return lambda shard: next(engine.run(destination, [shard], about))


def _identify(job: Job) -> Callable[[None], Mapping[str, Any]]:
    return lambda _: LocalEngine(job).identity
