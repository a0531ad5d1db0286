"""Shards on Ray: each actor holds one model and does whole shards as `LocalEngine` does them."""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import secrets
import signal
import socket
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from convit.scale.destination import Destination
from convit.scale.engines import Done, Engine, LocalEngine
from convit.scale.jobs import Job
from convit.scale.manifest import InputShard

# a cluster of our own listens on this machine alone, asks for a token, and tells nobody that it ran; read at import
_PRIVATE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
}
_CORES_EACH = 1
_MOST_BLOCKS = 10_000
_PATIENCE = 10  # seconds


class _Worker:
    """One model, and the shards that its actor is given; what it is told lies in its class, which Ray keeps."""

    job: Job
    place: str
    about: Mapping[str, Any]

    def __init__(self) -> None:
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
    """

    def __init__(self, job: Job) -> None:
        import ray

        self._ray, self._job = ray, job
        gpus = int(ray.cluster_resources().get("GPU", 0)) if str(job.options.device) in ("auto", "cuda") else 0
        self._resources: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": _CORES_EACH}
        self._workers = gpus or max(1, int(ray.cluster_resources().get("CPU", 1)) // _CORES_EACH)
        describe = ray.remote(**self._resources)(lambda: LocalEngine(job).identity)
        self.identity = ray.get(describe.remote())

    def run(self, destination: Destination, shards: Sequence[InputShard], about: Mapping[str, Any]) -> Iterator[Done]:
        """See `Engine`."""
        if not shards:
            return
        data = self._ray.data
        rows = data.from_items(
            [{"shard": pickle.dumps(shard)} for shard in shards], override_num_blocks=min(len(shards), 10_000)
        )
        done = rows.map_batches(
            type("Shards", (_Worker,), {"job": self._job, "place": destination.place, "about": dict(about)}),
            batch_size=1,
            compute=data.ActorPoolStrategy(min_size=1, max_size=min(self._workers, len(shards))),
            **self._resources,
        )
        for row in done.iter_rows():
            yield pickle.loads(row["done"])


@contextmanager
def ray_engine(job: Job, address: str | None = None) -> Generator[RayEngine]:
    """Run jobs on a Ray cluster for as long as the block runs; see `ray_cluster` for its errors.

    Args:
        job: what is computed.
        address: of the cluster.
    """
    with ray_cluster("ray.data", address=address) as ray:
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield RayEngine(job)


@contextmanager
def ray_cluster(library: str, *, address: str | None = None) -> Generator[Any]:
    """Connect to a Ray cluster, or start one on this machine for as long as the block runs; gives the module `ray`.

    Args:
        library: what is used of Ray, "ray.data" or "ray.serve".
        address: host:port, or "auto" for the cluster that this machine belongs to; None for one of its own.

    Raises:
        ConnectionError: the cluster cannot be reached.
        ImportError: Ray is not installed.
        ValueError: the cluster runs another version of Ray or of Python.
    """
    if address is not None:
        _check_there(address)
    else:
        os.environ.update({name: value for name, value in _PRIVATE.items() if name not in os.environ})
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray: Any = importlib.import_module("ray")
    importlib.import_module(library)
    for name in (library, "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
    own = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address is None else {"address": address}
    on_signal = signal.getsignal(signal.SIGTERM)  # which Ray takes for itself
    try:
        ray.init(**own, logging_level="ERROR", log_to_driver=False)
        signal.signal(signal.SIGTERM, on_signal)
    except RuntimeError as error:
        if "Version mismatch" in str(error):
            raise ValueError(
                f"the cluster at {address} differs ({' '.join(str(error).split())}); install the same"
            ) from error
        raise ConnectionError(f"the Ray cluster at {address} cannot be used ({error}); check its address") from error
    except ConnectionError as error:
        raise _absent(address) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_there(address: str) -> None:
    """Refuse an address where nothing listens, which Ray would ask for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon:
        return  # "auto", which Ray looks up on this machine
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except (OSError, ValueError) as error:
        raise _absent(address) from error


def _absent(address: str | None) -> ConnectionError:
    return ConnectionError(f"there is no Ray cluster at {address}; start one with ray start --head, or name another")
