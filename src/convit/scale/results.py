"""The embeddings that a job has written, read back a shard at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convit.scale.destination import Destination
from convit.scale.jobs import SUFFIX, read_results
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
    planned, present = [shard.name for shard in manifest.shards], destination.names()

    def read(name: str) -> Any:
        table, noted = read_results(destination, name, ("path", "embedding", "error"))
        if any(noted.get(key) != value for key, value in manifest.job.items()):
            raise ValueError(
                f"{destination}/{name}{SUFFIX} was not written by the job whose manifest is there; remove it, and run "
                "convit embed again"
            )
        return table

    return Vectors(
        str(destination), manifest.job, planned, [name for name in planned if name + SUFFIX in present], read
    )
