"""What a job is, which part of it a task does, how it begins (one manifest, made once), and its results, read back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from convit.images.names import is_remote, shown, split_url
from convit.inference.options import RunOptions
from convit.scale.destination import Destination
from convit.scale.inputs import InputFile, named_urls
from convit.scale.manifest import (
    IMAGES_PER_SHARD,
    NAME,
    InputShard,
    Manifest,
    check_job,
    check_sources,
    divide,
    read_manifest,
    updated,
)

if TYPE_CHECKING:
    from convit.inference import Classifier, Embedder
    from convit.search import Vectors

FAILED = "_failed"
SUFFIX = ".parquet"
_RESULTS = re.compile(r"\d{6,}-[0-9a-f]{12}\.parquet")


def parse_part(text: str) -> tuple[int, int]:
    """Read which shards a task does: "i/n", the i-th of every n; raises `ValueError` if it is something else.

    >>> parse_part("7/64")
    (7, 64)
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    if match is None or int(match[1]) >= int(match[2]):
        raise ValueError(f"the part is {text!r}, but must be i/n with i from 0 to n - 1, such as 0/64")
    return int(match[1]), int(match[2])


@dataclass(frozen=True)
class Job:
    """What is computed of each image; everything that a worker on another machine needs.

    Attributes:
        command: "classify" or "embed".
        model, weights, options: as in `convit.Classifier`.
        settings: the other arguments of `Classifier` (top_k) or `Embedder` (kind, normalize).
    """

    command: Literal["classify", "embed"]
    model: str | None = None
    weights: Path | None = None
    options: RunOptions = field(default_factory=RunOptions)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def predictor(self) -> Classifier | Embedder:
        """Load the model, which computes a shard in one way, whatever shards came before it."""
        from convit.inference import Classifier, Embedder

        made: Any = Classifier if self.command == "classify" else Embedder
        predictor = made(self.model, weights=self.weights, options=self.options, **self.settings)
        predictor.keep_steady()
        return predictor

    def identity(self, predictor: Classifier | Embedder) -> dict[str, Any]:
        """What the rows depend on, for the manifest and for each file of results."""
        from convit.evaluation.weights_used import made_by

        return {"command": self.command, **made_by(predictor, self.model, self.weights)}


def prepare(
    destination: Destination,
    sources: Sequence[str],
    list_files: Callable[[], Sequence[InputFile]],
    *,
    update: bool = False,
    images_per_shard: int = IMAGES_PER_SHARD,
) -> Manifest:
    """The manifest of a destination, or one of what is listed now, which `begin` then keeps.

    Args:
        destination: where the results are.
        sources: what the inputs are called.
        list_files: called to list the inputs (see `list_inputs`) if there is no manifest yet, or with `update`.
        update: whether new and changed files are taken up.
        images_per_shard: as in `convit.scale.manifest.divide`.

    Raises:
        ValueError: there is a manifest of other inputs, and `update` is false; or there are results without a manifest.
        As `list_files` and `read_manifest`.
    """
    known = read_manifest(destination)
    if known is None and _results_in(destination) and (known := read_manifest(destination)) is None:
        raise ValueError(f"{destination} holds results of a job without its {NAME}; write to another place")
    if known is not None and not update:
        check_sources(destination, known, sources)
        return known
    named = tuple(map(shown, sources))
    files = _without_results(list_files(), destination)
    if not files:
        raise ValueError("the inputs hold nothing but results of jobs; name images, a folder, a pattern or a list")
    if known is None:
        return Manifest(tuple(divide(files, images_per_shard)), {}, named)
    return replace(updated(known, files, images_per_shard), sources=named)


def begin(
    destination: Destination, manifest: Manifest, identity: Mapping[str, Any], *, update: bool = False
) -> Manifest:
    """Keep the manifest unless another task has, and refuse a destination that holds another job's results.

    An update first removes the results of shards that are no longer in the manifest, so that no image has two.

    Raises:
        ValueError: model or options are others than those of the results.
    """
    if manifest.job:
        check_job(destination, manifest.job, identity)
    kept = replace(manifest, job=identity)
    if update:
        present = {shard.name + SUFFIX for shard in manifest.shards}
        for folder in ("", f"{FAILED}/"):
            for name in _results_in(destination, folder) - present:
                destination.remove(folder + name)
        destination.write(NAME, kept.to_bytes())
    elif not manifest.job and not destination.create(NAME, kept.to_bytes()):
        first = read_manifest(destination)
        assert first is not None
        check_sources(destination, first, manifest.sources)
        check_job(destination, first.job, identity)
        return first
    return kept


def missing(destination: Destination, shards: Sequence[InputShard]) -> list[InputShard]:
    """Those of some shards that have no results yet."""
    there = destination.names()
    return [shard for shard in shards if shard.name + SUFFIX not in there]


def with_access(shards: Iterable[InputShard], sources: Iterable[str]) -> list[InputShard]:
    """The shards, with what their URLs lack in a manifest: user, password and query, as in the sources."""
    shards = list(shards)
    if not any(is_remote(file.path) for shard in shards for file in shard.files):
        return shards
    urls = [url for source in sources for url in named_urls(source)]
    named = {shown(url): url for url in urls}
    hosts = {split_url(shown(url))[:2]: split_url(url)[1] for url in urls}

    def opens(file: InputFile) -> InputFile:
        scheme, host, inside = split_url(file.path)
        url = named.get(file.path) or f"{scheme}://{hosts.get((scheme, host), host)}{inside}"
        return file._replace(path=url) if is_remote(file.path) else file

    return [replace(shard, files=tuple(map(opens, shard.files))) for shard in shards]


def _results_in(destination: Destination, folder: str = "") -> set[str]:
    """Names of the files of results, of whatever job."""
    return set(filter(_RESULTS.fullmatch, destination.names(folder)))


def _without_results(files: Iterable[InputFile], destination: Destination) -> list[InputFile]:
    """Leave out the results of this job and of others, which may be in a folder of the inputs."""
    paths = [(file, PurePath(file.path)) for file in files]
    jobs = {path.parent for _, path in paths if path.name == NAME}

    def is_result(file: InputFile, path: PurePath) -> bool:
        is_named_so = path.name == NAME or _RESULTS.fullmatch(path.name) is not None
        return is_named_so and (not jobs.isdisjoint(path.parents) or destination.holds(file.path))

    return [file for file, path in paths if not is_result(file, path)]


def read_results(destination: Destination, name: str, columns: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """Some columns of a shard's results, as an Arrow table, and what the file says of its job.

    Raises:
        ConnectionError, OSError: it cannot be read.
        ValueError: it is damaged, or no longer there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = destination.read(name + SUFFIX)
        if content is None:
            raise FileNotFoundError("it is no longer there")
        table = pq.read_table(pa.BufferReader(content), columns=list(columns))
        return table, json.loads((table.schema.metadata or {}).get(b"convit", b"{}"))
    except (pa.ArrowException, FileNotFoundError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{destination}/{name}{SUFFIX} is damaged ({reason}); remove it, and run the command that wrote it again"
        ) from error


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
