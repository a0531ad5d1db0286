"""Vectors that a job computed, taken into an index a shard at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from convit.evaluation.weights_used import fingerprint_of
from convit.inference.options import model_name
from convit.search.identity import KEPT_OPTIONS, Identity, identity_of, load_embedder, precision_of, preprocessing_of
from convit.search.store import Store

_KINDS = ("pooled", "pre_logits")  # one vector per image
_COMMIT_ROWS = 16_384


@dataclass(frozen=True)
class Vectors:
    """The results of a job, as `convit.scale.read_vectors` finds them.

    Attributes:
        place: the folder or URL, as messages show it.
        job: what the job was: "command", and what `convit.evaluation.weights_used.made_by` says.
        planned: names of all shards of the job.
        names: those of them that have results, in order.
        read: gives the Arrow table of one: path, embedding (float32 or float16), error.
    """

    place: str
    job: Mapping[str, Any]
    planned: Sequence[str]
    names: Sequence[str]
    read: Callable[[str], Any]


@dataclass
class Added:
    """What came of taking vectors into an index.

    Attributes:
        shards: shards whose rows were added.
        before: shards that were in.
        absent: shards of the job without results so far.
        images: rows added.
        removed: rows that left, with shards that an update of the job replaced.
        unreadable: images left out, since the job could not read them or their vector has no length.
        first_error: what is wrong with the first of them.
        is_approximate: whether there are so many images that searches are approximate from now on.
    """

    shards: int = 0
    before: int = 0
    absent: int = 0
    images: int = 0
    removed: int = 0
    unreadable: int = 0
    first_error: str = ""
    is_approximate: bool = False


def check_vectors(db: Path, known: Identity | None, vectors: Vectors) -> None:
    """Refuse results that an index cannot hold.

    Raises:
        ValueError: they are no embeddings, not one vector per image, or another model's or preprocessing's than those
            that are there.
    """
    job = vectors.job
    if job.get("command") != "embed" or job.get("kind") not in _KINDS:
        what = "classifications" if job.get("command") != "embed" else f"embeddings of kind {job.get('kind')}"
        raise ValueError(f"{vectors.place} holds {what}; an index takes one vector per image, from convit embed")
    if "fingerprint" not in job:
        raise ValueError(
            f"{vectors.place} was written by an earlier version of convit, which kept less about the model; run convit "
            "embed again, into another folder"
        )
    if known is None:
        return
    if known.made_from is None:
        raise ValueError(f"{db} is the index of {known.place}, whose images it embeds itself; name another index")
    there = {"weights": known.fingerprint, "image": list(known.image), **known.preprocessing}
    there["precision"] = " and ".join(known.precisions)
    now = {"weights": job["fingerprint"], "image": job["preprocessing"]["input_size"][1:], **preprocessing_of(job)}
    now["precision"] = precision_of(job)
    for name, value in there.items():
        if now.get(name) != value:
            raise ValueError(
                f"{vectors.place} holds vectors of {job['model']} with {name} {now.get(name)}, but {db} was made by "
                f"{known.name} with {value}; name another index"
            )


def identity_of_vectors(
    vectors: Vectors, model: str | nn.Module | None, weights: str | Path | None, options: Mapping[str, Any]
) -> Identity:
    """What a new index keeps of the model that made some vectors, which is loaded, so that a search will find it.

    Raises:
        ValueError: its weights are not those that made them.
        As `convit.Embedder`.
    """
    job = vectors.job
    if model is None and weights is None:
        model = job["model"]
    try:
        same = fingerprint_of(model, weights) == job["fingerprint"]
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"{vectors.place} holds vectors of {job['model']}, which is not found by that name ({error}); name its "
            "weights with --weights"
        ) from error
    if not same:
        raise ValueError(
            f"{vectors.place} holds vectors of {job['model']} with the weights {job['fingerprint']}, which are not "
            f"those of {model_name(model, weights)}; name them with --weights"
        )
    kept = {name: preprocessing_of(job)[name] for name in KEPT_OPTIONS}
    given = {**options, **kept, "img_size": tuple(job["preprocessing"]["input_size"][1:])}
    embedder = load_embedder(Path(), None, model, weights, given)
    place = {"root": str(Path.cwd()), "made_from": vectors.place}
    return identity_of(embedder, place, model, weights).model_copy(update={"precisions": (precision_of(job),)})


def store_of(vectors: Vectors, db: Path, dim: int) -> Store:
    """The store for some vectors; a new one keeps them in the precision that they have."""
    is_new = not Store.is_in(db) and len(vectors.names) > 0
    is_half = is_new and str(vectors.read(vectors.names[0]).schema.field("embedding").type.value_type) == "halffloat"
    return Store(db, dim, create=True, in_shards=True, is_half=is_half)


def add_vectors(
    vectors: Vectors,
    store: Store,
    expect: Callable[[int], None] | None = None,
    advance: Callable[[], None] | None = None,
) -> Added:
    """Add the rows of the shards that are not in, and take out those of shards that the job has no more.

    A shard is in whole or not at all; what was added before an error or Ctrl-C stays. `expect` is called once with the
    number of shards to read, `advance` after each of them.

    Raises:
        ValueError: the store holds shards, and all of them are another job's.
    """
    import pyarrow as pa

    there = store.shards()
    waiting = [name for name in vectors.names if name not in there]
    if there and there.isdisjoint(vectors.planned):
        raise ValueError(f"{store.db} holds the vectors of another job than {vectors.place}; name another index")
    if expect is not None:
        expect(len(waiting))
    done = Added(before=len(vectors.names) - len(waiting), absent=len(vectors.planned) - len(vectors.names))
    held: list[Any] = []
    try:
        for rows in _rows(vectors, waiting, store, done):
            held.append(rows)
            if sum(map(len, held)) >= _COMMIT_ROWS:
                store.append(pa.concat_tables(held))
                held = []
            if advance is not None:
                advance()
        if held:
            store.append(pa.concat_tables(held))
    except BaseException as error:
        error.add_note("what was added is kept: run the command again to go on")
        raise
    if gone := there.difference(vectors.planned):
        before = len(store)
        store.remove(sorted(gone), "shard")
        done.removed = before - len(store)
    return done


def _rows(vectors: Vectors, names: Sequence[str], store: Store, done: Added) -> Iterator[Any]:
    """The rows of each shard, with vectors of length 1; counts what is left out."""
    import pyarrow as pa

    schema = pa.schema([store.schema.field(name) for name in ("path", "shard", "vector")])
    for name in names:
        table = vectors.read(name)
        found = table.column("embedding").combine_chunks()
        length = found.type.list_size
        if length != store.dim:
            raise ValueError(f"{vectors.place}/{name} holds vectors of {length}, not {store.dim}; remove it")
        values = np.asarray(found.values).reshape(-1, store.dim)[found.offset : found.offset + len(found)]
        values = values.astype(np.float32, copy=False)
        lengths = np.linalg.norm(values, axis=1)
        usable = np.isfinite(lengths) & (lengths > 0) & np.asarray(found.is_valid())
        errors = table.column("error").to_pylist()
        for at in np.flatnonzero(~usable).tolist():
            path = table.column("path")[at].as_py()
            done.first_error = done.first_error or errors[at] or f"{path}: its vector is zero or not finite"
        kept = int(usable.sum())
        columns = [
            table.column("path").filter(pa.array(usable)).combine_chunks(),
            pa.array([name] * kept, type=pa.string()),
            store.column(values[usable] / lengths[usable, None]),
        ]
        done.shards += 1
        done.images += kept
        done.unreadable += len(table) - kept
        yield pa.table(columns, schema=schema)
