"""The list of a job's inputs, divided into shards: made once, kept beside the results, read by every task."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

from convit.images.names import is_remote, shown
from convit.scale.destination import Destination
from convit.scale.inputs import InputFile

NAME = "_manifest.parquet"
IMAGES_PER_SHARD = 4096
_SHARD_BYTES = 4 * 2**30  # of loose images
_DESCRIBES = "convit"


@dataclass(frozen=True)
class InputShard:
    """Some files of one kind, whose results are one file.

    Attributes:
        number: its place in the manifest, from 0; numbers of shards that an update replaced stay free.
        files: what it reads.
    """

    number: int
    files: tuple[InputFile, ...]

    @cached_property
    def name(self) -> str:
        """What its results are called, without the suffix; another name as soon as one of its files changes."""
        files = "\n".join(repr((kind, shown(path), size, mark)) for kind, path, size, mark in self.files)
        return f"{self.number:06d}-{hashlib.sha256(files.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Manifest:
    """All shards of a job, and what the job is.

    Attributes:
        shards: in order of their numbers.
        job: model, kind of results and the like: everything that changes a row.
        sources: what the job reads, as it was named.
    """

    shards: tuple[InputShard, ...]
    job: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Hash of its files and their division."""
        return hashlib.sha256("\n".join(shard.name for shard in self.shards).encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """As a Parquet file: shard, kind, path, size, mark."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [(shard.number, *file) for shard in self.shards for file in shard.files]
        kinds = (pa.int32(), pa.string(), pa.string(), pa.int64(), pa.string())
        columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)]
        told = {"job": dict(self.job), "sources": self.sources, "sha256": self.sha256}
        table = pa.table(columns, names=["shard", *InputFile._fields])
        buffer = io.BytesIO()
        pq.write_table(
            table.replace_schema_metadata({_DESCRIBES: json.dumps(told, sort_keys=True)}), buffer, compression="zstd"
        )
        return buffer.getvalue()


def divide(files: Iterable[InputFile], images_per_shard: int = IMAGES_PER_SHARD, start: int = 0) -> list[InputShard]:
    """Divide files into shards: each tar or Parquet file is one, images are taken together in their order.

    Args:
        files: what to divide.
        images_per_shard: at most so many loose images in one, and at most 4 GB of them.
        start: number of the first shard.

    Raises:
        ValueError: `images_per_shard` is less than 1.
    """
    if images_per_shard < 1:
        raise ValueError(f"images per shard are {images_per_shard}, but must be at least 1")
    groups: list[list[InputFile]] = []
    taken = 0
    for file in files:
        joins = bool(groups) and file.kind == "image" == groups[-1][0].kind and _server(file) == _server(groups[-1][0])
        if joins and len(groups[-1]) < images_per_shard and taken + file.size <= _SHARD_BYTES:
            groups[-1].append(file)
            taken += file.size
        else:
            groups.append([file])
            taken = file.size
    return [InputShard(number, tuple(group)) for number, group in enumerate(groups, start)]


def updated(old: Manifest, files: Sequence[InputFile], images_per_shard: int = IMAGES_PER_SHARD) -> Manifest:
    """A manifest for what the inputs are now: shards without a change stay, with their results; the rest is divided."""
    present = set(files)
    kept = [shard for shard in old.shards if present.issuperset(shard.files)]
    taken = {file for shard in kept for file in shard.files}
    start = max((shard.number for shard in old.shards), default=-1) + 1
    more = divide((file for file in files if file not in taken), images_per_shard, start)
    return Manifest((*kept, *more), old.job, old.sources)


def read_manifest(destination: Destination) -> Manifest | None:
    """Read the manifest of a destination, None if there is none; raises the errors of `Destination.read`.

    Raises:
        ValueError: it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = destination.read(NAME)
    if content is None:
        return None
    try:
        table = pq.read_table(pa.BufferReader(content))
        told = json.loads(table.schema.metadata[_DESCRIBES.encode()])
        rows = zip(*(table.column(name).to_pylist() for name in ("shard", *InputFile._fields)), strict=True)
        shards = tuple(
            InputShard(number, tuple(InputFile(*row[1:]) for row in group))
            for number, group in groupby(rows, key=lambda row: row[0])
        )
        manifest = Manifest(shards, told["job"], tuple(told["sources"]))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{destination}/{NAME} is damaged ({error}); write to another place") from error
    if manifest.sha256 != told["sha256"]:
        raise ValueError(f"{destination}/{NAME} does not hold what it was written with; write to another place")
    return manifest


def check_job(destination: Destination, known: Mapping[str, Any], job: Mapping[str, Any]) -> None:
    """Raise `ValueError` if the rows of a job would differ from those that a destination holds."""
    before, now = ({**each, **each.get("preprocessing", {})} for each in (known, job))
    for name in {**now, **before}:
        if name != "preprocessing" and before.get(name) != now.get(name):
            raise ValueError(
                f"{destination} holds results with {name} {before.get(name)}, but it is {now.get(name)} now; use the "
                "same options, or write to another place"
            )


def check_sources(destination: Destination, known: Manifest, sources: Sequence[str]) -> None:
    """Raise `ValueError` if the inputs are not those of the manifest."""
    if tuple(map(shown, sources)) != known.sources:
        raise ValueError(
            f"{destination} was begun with the inputs {', '.join(known.sources)}; name the same, or bring the manifest "
            "up to date with --update"
        )


def _server(file: InputFile) -> str:
    """What a file is fetched from: files that are fetched side by side share it."""
    return file.path.partition("://")[0] if is_remote(file.path) else ""
