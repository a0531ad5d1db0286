"""Doing shards: each is read, computed and written as one file, whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from convit.images.names import shown
from convit.images.opening import ImageSource
from convit.output.rows import Classifications, Embeddings
from convit.scale.destination import Destination
from convit.scale.inputs import images_in
from convit.scale.jobs import FAILED, SUFFIX, Job
from convit.scale.manifest import InputShard
from convit.scale.ray_cluster import share_out

if TYPE_CHECKING:
    from convit.inference import Classifier, Embedder


@dataclass(frozen=True)
class Done:
    """The outcome of some shards.

    Attributes:
        shards, before: shards whose results were written now, and before.
        images, unreadable: rows written, and those among them with an error.
        failed: shard → why it could not be read.
        first_error: what is wrong with the first unreadable image.
    """

    shards: int = 0
    before: int = 0
    images: int = 0
    unreadable: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    first_error: str = ""

    def __add__(self, other: Done) -> Done:
        return Done(
            self.shards + other.shards,
            self.before + other.before,
            self.images + other.images,
            self.unreadable + other.unreadable,
            {**self.failed, **other.failed},
            self.first_error or other.first_error,
        )


class _ShardError(Exception):
    """A shard's input cannot be read; the cause says why."""


class LocalEngine:
    """Does shards one after another in this process.

    A shard that cannot be read (damaged, changed, missing, refused) leaves a row in _failed/ and does not stop the
    others; an image that cannot be read is a row with its error.

    Args:
        job: what is computed.

    Attributes:
        identity: see `Job.identity`.

    Raises:
        As `convit.Classifier` and `convit.Embedder`.
    """

    def __init__(self, job: Job) -> None:
        self._predictor = job.predictor()
        self.identity = job.identity(self._predictor)

    def run(self, destination: Destination, shards: Sequence[InputShard], about: Mapping[str, Any]) -> Iterator[Done]:
        """Do some shards, and yield the outcome of each.

        Args:
            destination: where results go, one Parquet file for each shard.
            shards: what to do.
            about: what is known of all rows, kept in each file.

        Raises:
            ConnectionError, OSError: results cannot be written.
        """
        failed = destination.names(f"{FAILED}/")  # permission to write need not include permission to delete
        for shard in shards:
            try:
                done, content = _run_shard(shard, self._predictor, about)
            except _ShardError as error:
                reason = str(error.__cause__)
                _write_failure(destination, shard, reason)
                yield Done(failed={shard.name: reason})
                continue
            destination.write(shard.name + SUFFIX, content)
            if shard.name + SUFFIX in failed:
                destination.remove(f"{FAILED}/{shard.name}{SUFFIX}")
            yield done


class RayEngine:
    """Does shards in a pool of Ray actors, as `LocalEngine` does them; one whose worker died is done by another.

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
        """See `LocalEngine.run`."""
        make = partial(_open, self._job, destination.place, about)
        for _, done in share_out(self._ray, self._device, make, shards):
            yield done


def _open(job: Job, place: str, about: Mapping[str, Any]) -> Callable[[InputShard], Done]:
    engine, destination = LocalEngine(job), Destination(place)
    return lambda shard: next(engine.run(destination, [shard], about))


def _identify(job: Job) -> Callable[[None], Mapping[str, Any]]:
    return lambda _: LocalEngine(job).identity


def _run_shard(shard: InputShard, predictor: Classifier | Embedder, about: Mapping[str, Any]) -> tuple[Done, bytes]:
    from convit.output.binary import Parquet

    shape: tuple[int, ...] | None = getattr(predictor, "shape", None)
    layout = Classifications(getattr(predictor, "top_k", 1)) if shape is None else Embeddings(shape)
    buffer = io.BytesIO()
    writer = Parquet(buffer, layout, about={**about, "shard": shard.name})
    first_error = ""
    for result in predictor.iterate(_readable(shard)):
        writer.add(result)
        first_error = first_error or result.error or ""
    writer.finish()
    counts = predictor.timings
    return Done(1, 0, counts.images, counts.failed, {}, first_error), buffer.getvalue()


def _readable(shard: InputShard) -> Iterator[ImageSource]:
    try:
        yield from images_in(shard.files)
    except (OSError, ValueError) as error:
        raise _ShardError from error


def _write_failure(destination: Destination, shard: InputShard, reason: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    first = shown(shard.files[0].path)
    row = {"shard": [shard.name], "first_file": [first], "files": [len(shard.files)], "error": [reason]}
    pq.write_table(pa.table(row), buffer)
    destination.write(f"{FAILED}/{shard.name}{SUFFIX}", buffer.getvalue())
