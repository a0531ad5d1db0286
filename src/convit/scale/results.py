"""The embeddings that a job has written, read back a shard at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convit.scale.destination import Destination
from convit.scale.jobs import SUFFIX, missing, noted_in
from convit.scale.manifest import read_manifest

if TYPE_CHECKING:
    from convit.search import Vectors


def read_vectors(place: str) -> Vectors:
    """Find the results of `convit embed` in a folder or an object store, for `convit.search.Index.add_vectors`.

    Args:
        place: the `--output` of the job: a folder or a URL.

    Raises:
        FileNotFoundError: there are no results of a job.
        ConnectionError, OSError, PermissionError: they cannot be read.
        ValueError: the manifest is damaged, or the URL is of a kind that cannot be listed.
    """
    from convit.search import Vectors

    destination = Destination(place)
    manifest = read_manifest(destination)
    if manifest is None:
        raise FileNotFoundError(f"{destination} holds no results of a job; name the --output of convit embed, a folder")
    absent = {shard.name for shard in missing(destination, manifest.shards)}
    planned = [shard.name for shard in manifest.shards]

    def read(name: str) -> Any:
        return _read(destination, name, manifest.job)

    return Vectors(str(destination), manifest.job, planned, [name for name in planned if name not in absent], read)


def _read(destination: Destination, name: str, job: Any) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = destination.read(name + SUFFIX)
        if content is None:
            raise FileNotFoundError("it is no longer there")
        table = pq.read_table(pa.BufferReader(content), columns=["path", "embedding", "error"])
        noted = noted_in(table.schema)
    except (pa.ArrowException, FileNotFoundError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{destination}/{name}{SUFFIX} is damaged ({reason}); remove it, and run convit embed again"
        ) from error
    if any(noted.get(key) != value for key, value in job.items()):
        raise ValueError(
            f"{destination}/{name}{SUFFIX} was not written by the job whose manifest is there; remove it, and run "
            "convit embed again"
        )
    return table
