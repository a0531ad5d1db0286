"""Shards on Ray: each actor holds one model and does whole shards as `LocalEngine` does them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from convit.scale.destination import Destination
from convit.scale.engines import Done, Engine, LocalEngine
from convit.scale.jobs import Job
from convit.scale.manifest import InputShard
from convit.scale.ray_cluster import enter, here, workers_for

_MOST_BLOCKS = 10_000


class _Worker:
    """One model, and the shards that its actor is given; what it is told lies in its class, which Ray keeps."""

    job: Job
    place: str
    caller: Mapping[str, str]
    about: Mapping[str, Any]

    def __init__(self) -> None:
        enter(self.caller)
        self._engine, self._destination = LocalEngine(self.job), Destination(self.place)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        found: list[Done] = []
        for shard in map(pickle.loads, batch["shard"]):
            (done,) = self._engine.run(self._destination, [shard], self.about)
            found.append(done)
        return {"done": [pickle.dumps(done) for done in found]}


class RayEngine(Engine):
    """Does shards in a pool of Ray actors; a shard whose worker died is done by another.

    Args:
        job: what is computed.
        ray: from `convit.scale.ray_cluster.ray_cluster`.
    """

    def __init__(self, job: Job, ray: Any) -> None:
        self._ray, self._job = ray, job
        self._workers = workers_for(str(job.options.device), ray)
        self.identity = ray.get(ray.remote(**self._workers.resources)(_identity).remote(job, here()))

    def run(self, destination: Destination, shards: Sequence[InputShard], about: Mapping[str, Any]) -> Iterator[Done]:
        """See `Engine`."""
        if not shards:
            return
        data = self._ray.data
        data.DataContext.get_current().enable_progress_bars = False
        told = {"job": self._job, "place": destination.place, "caller": here(), "about": dict(about)}
        rows = data.from_items(
            [{"shard": pickle.dumps(shard)} for shard in shards], override_num_blocks=min(len(shards), _MOST_BLOCKS)
        )
        done = rows.map_batches(
            type("Shards", (_Worker,), told),
            batch_size=1,
            compute=data.ActorPoolStrategy(min_size=1, max_size=min(self._workers.count, len(shards))),
            **self._workers.resources,
        )
        for row in done.iter_rows():
            yield pickle.loads(row["done"])


def _identity(job: Job, caller: Mapping[str, str]) -> Mapping[str, Any]:
    enter(caller)
    return LocalEngine(job).identity
