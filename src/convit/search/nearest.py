"""The nearest vectors: exactly, by one product over a memory-mapped copy; or by an index whose recall was measured."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt64

from convit.output.files import whole_file
from convit.search.store import Store, explained

NEIGHBORS = 10
LEAST_RECALL = 0.98
_QUERIES = 100
_FILE = "approximate.json"
_COPIES = ("rows", "vectors")
# (partitions searched, candidates held while searching, candidates per result compared exactly), cheapest first
_LADDER = ((20, 100, 5), (20, 200, 10), (50, 400, 20), (200, 1000, 50))
_FIRST = "path"  # the column to ask for where only row numbers are wanted
_log = logging.getLogger(__name__)

Found = list[tuple[int, float]]
"""(row number, cosine similarity), nearest first."""


@dataclass(frozen=True)
class Approximation:
    """How the approximate index is asked, and how good that is.

    Attributes:
        version: the store's state that it was measured on.
        rows: vectors in it.
        nprobes: partitions searched.
        ef: candidates held while searching.
        refine_factor: candidates per result whose exact similarity is computed.
        recall: share of the exact 10 nearest that it finds, a mean over `queries`.
        queries: how many were searched for, drawn at random near stored vectors.
    """

    version: int
    rows: int
    nprobes: int
    ef: int
    refine_factor: int
    recall: float
    queries: int


def mapped_vectors(store: Store) -> tuple[UInt64[np.ndarray, " rows"], Float32[np.ndarray, "rows dim"]]:
    """Row numbers and vectors of a store, memory-mapped; copied out of it once for each of its versions.

    Where the copy cannot be written, as on a read-only disk, they are held in memory, read anew each time.

    Raises:
        OSError: the store cannot be read.
        ValueError: the store is damaged.
    """
    version = store.version
    names = [store.db / f"{what}-{version}.npy" for what in _COPIES]
    # another process, which holds a newer version, may remove the copy at any time; a damaged one is made anew
    with suppress(OSError, EOFError, ValueError):
        rows, vectors = (np.load(name, mmap_mode="r") for name in names)
        return rows, vectors
    table = store.read(["vector"], row_ids=True)
    column = table.column("vector").combine_chunks()
    flat = column.flatten().to_numpy() if len(column) else np.empty(0, np.float32)
    rows, vectors = table.column("_rowid").to_numpy().astype(np.uint64), flat.reshape(-1, store.dim)
    try:
        for name, value in zip(names, (rows, vectors), strict=True):
            _write_array(name, value)
        _remove_copies(store.db, before=version)
        mapped_rows, mapped = (np.load(name, mmap_mode="r") for name in names)
    except OSError as error:
        _log.info("the vectors are compared in memory: %s", error)
        return rows, vectors
    return mapped_rows, mapped


def search_exactly(store: Store, query: Float32[np.ndarray, " dim"], k: int, where: str | None = None) -> Found:
    """The k rows most like a vector of length 1, by comparing it with all of them.

    Raises:
        ValueError: `where` is no condition over the columns, or the store is damaged.
    """
    rows, vectors = mapped_vectors(store)
    scores = vectors @ query
    if where:
        allowed = np.isin(rows, store.read([_FIRST], where, row_ids=True).column("_rowid").to_numpy())
        rows, scores = rows[allowed], scores[allowed]
    k = min(k, len(scores))
    best = np.argpartition(-scores, k - 1)[:k] if k else np.empty(0, np.int64)
    best = best[np.lexsort((rows[best], -scores[best]))]
    return [(int(rows[at]), float(scores[at])) for at in best]


def search_approximately(store: Store, query: Float32[np.ndarray, " dim"], k: int, how: Approximation) -> Found:
    """About the k rows most like a vector of length 1, for k up to 10, as was measured; their similarities are exact.

    There is no condition here: of the candidates that the index holds a rare one would leave too few, or none.
    """
    with explained(store.db):
        asked = store.table.search(query).distance_type("cosine").limit(k)
        asked = asked.nprobes(how.nprobes).ef(how.ef).refine_factor(how.refine_factor)
        rows = asked.select([_FIRST, "_distance"]).with_row_id(True).to_arrow()
    return [
        (row_id, 1 - distance)
        for row_id, distance in zip(rows["_rowid"].to_pylist(), rows["_distance"].to_pylist(), strict=True)
    ]


def build_approximation(store: Store, *, least_recall: float = LEAST_RECALL) -> Approximation:
    """Build the approximate index, or take new rows into it, and find the cheapest way to ask it that is good enough.

    Args:
        store: the rows.
        least_recall: recall@10 that is wanted; where no way reaches it, the best is kept and searches stay exact.

    Returns:
        The way, kept in the store's folder too.

    Raises:
        OSError: it cannot be written.
        ValueError: the store is damaged.
    """
    from lancedb.index import HnswSq

    with explained(store.db):
        if not store.table.list_indices():
            store.table.create_index("vector", config=HnswSq(distance_type="cosine"))
        else:
            store.tidy()
    _, vectors = mapped_vectors(store)
    queries = _near_stored(store, vectors)
    expected = [search_exactly(store, query, NEIGHBORS) for query in queries]
    version = store.version
    tried: list[Approximation] = []
    for nprobes, ef, refine_factor in _LADDER:
        way = Approximation(version, len(vectors), nprobes, ef, refine_factor, 0.0, len(queries))
        found = [search_approximately(store, query, NEIGHBORS, way) for query in queries]
        tried.append(replace(way, recall=round(_recall(expected, found), 4)))
        if tried[-1].recall >= least_recall:
            break
    best = max(tried, key=lambda way: way.recall)
    if best.recall < least_recall:
        _log.warning(
            "the approximate index finds %.3f of the 10 nearest, less than %.2f; searches stay exact",
            best.recall,
            least_recall,
        )
    with whole_file(store.db / _FILE, overwrite=True) as file:
        file.write(f"{json.dumps(asdict(best), indent=1)}\n".encode())
    return best


def read_approximation(store: Store, *, least_recall: float = LEAST_RECALL) -> Approximation | None:
    """The way to ask the approximate index; None where there is none, or it was not good enough for these rows."""
    try:
        values: Any = json.loads((store.db / _FILE).read_bytes())
        found = Approximation(**values)
    except (OSError, TypeError, ValueError):  # absent or damaged: searches stay exact
        return None
    return found if found.version == store.version and found.recall >= least_recall else None


def _near_stored(store: Store, vectors: Float32[np.ndarray, "rows dim"]) -> Float32[np.ndarray, "queries dim"]:
    """Queries that look like new pictures: stored vectors, each moved as far as its 10th neighbor is away.

    Stored vectors themselves are found more easily than any new one, and would promise too much.
    """
    random = np.random.default_rng(0)
    chosen = np.sort(random.choice(len(vectors), min(_QUERIES, len(vectors)), replace=False))
    queries = np.array(vectors[chosen])
    for query in queries:
        cosine = search_exactly(store, query, NEIGHBORS + 1)[-1][1]
        step = random.normal(size=len(query)).astype(np.float32)
        query += step / np.linalg.norm(step) * max(0.0, 2 - 2 * cosine) ** 0.5
        query /= np.linalg.norm(query)
    return queries


def _recall(expected: list[Found], found: list[Found]) -> float:
    """Mean share of the right rows that were found; of several as near as the last right one, any will do."""
    shares: list[float] = []
    for right, got in zip(expected, found, strict=True):
        lowest = min((score for _, score in right), default=0.0)
        hits = sum(score >= lowest - 1e-6 for _, score in got)
        shares.append(min(1.0, hits / max(1, len(right))))
    return float(np.mean(shares)) if shares else 1.0


def _remove_copies(db: Path, *, before: int) -> None:
    """Remove the copies of older versions; newer ones belong to processes that opened the store later."""
    for name in db.glob("*-*.npy"):
        what, _, version = name.stem.partition("-")
        if what in _COPIES and version.isdecimal() and int(version) < before:
            name.unlink(missing_ok=True)


def _write_array(name: Path, values: np.ndarray) -> None:
    with whole_file(name, overwrite=True) as file:
        np.save(file, values, allow_pickle=False)
