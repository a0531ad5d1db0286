"""What searching embeddings costs: 100,000 and 250,000 vectors of 768 numbers, clustered as pictures of classes are.

Measures how long it takes to store the vectors and to build the approximate index, a search by the product over
memory-mapped vectors, and an approximate one by that index, called in turn; medians and quartiles.
Recall@10 is against the exact search, on queries that are not among the vectors.

    python benchmarks/vectors.py
    python benchmarks/vectors.py --vectors 5000 --dry
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from convit.benchmark.timing import alternate, summarize
from convit.search.nearest import build_index, mapped_vectors, search_approximately, search_exactly
from convit.search.store import Store

CLUSTERS = 1000
SPREAD = 0.8  # length of the noise around a cluster's center, which has length 1
NEAREST = 10
_AT_ONCE = 10_000


def make_vectors(count: int, dim: int, seed: int = 0) -> np.ndarray:
    """Vectors of length 1 around random centers, the same for every seed."""
    centers = np.random.default_rng(0).normal(size=(CLUSTERS, dim)).astype(np.float32)
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    random = np.random.default_rng(seed + 1)
    noise = random.normal(size=(count, dim)).astype(np.float32) * (SPREAD / dim**0.5)
    vectors = centers[random.integers(CLUSTERS, size=count)] + noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fill(store: Store, vectors: np.ndarray) -> None:
    """Store vectors with the columns that an index has."""
    empty = {"sha256": "", "size": 0, "mtime_ns": 0, "width": 0, "height": 0, "label": None}
    for start in range(0, len(vectors), _AT_ONCE):
        rows = enumerate(vectors[start : start + _AT_ONCE], start)
        store.put([{**empty, "path": f"{number}.jpg", "vector": vector} for number, vector in rows])
    store.tidy()


def timed(call: Any) -> tuple[Any, float]:
    """What a call gives, and the seconds that it takes."""
    start = perf_counter()
    return call(), perf_counter() - start


def measure(store: Store, vectors: np.ndarray, rounds: int) -> dict[str, Any]:
    """Store, copy, build and search."""
    _, stored = timed(lambda: fill(store, vectors))
    _, copied = timed(lambda: mapped_vectors(store))
    _, built = timed(lambda: build_index(store))
    queries = make_vectors(rounds, vectors.shape[1], seed=1)
    expected = [{row for row, _ in search_exactly(store, query, NEAREST)} for query in queries]
    found = [{row for row, _ in search_approximately(store, query, NEAREST)} for query in queries]
    turns = {name: iter(np.concatenate([queries[:1], queries])) for name in ("exact", "approximate")}
    calls = {
        "exact": lambda: search_exactly(store, next(turns["exact"]), NEAREST),
        "approximate": lambda: search_approximately(store, next(turns["approximate"]), NEAREST),
    }
    times = alternate(calls, rounds)
    return {
        "vectors": len(vectors),
        "dim": vectors.shape[1],
        "clusters": CLUSTERS,
        "index": "IVF, 8 bits",
        "store_s": round(stored, 2),
        "copy_s": round(copied, 2),
        "build_s": round(built, 2),
        "exact_ms": summarize(times["exact"]),
        "approximate_ms": summarize(times["approximate"]),
        "recall": round(float(np.mean([len(a & b) / NEAREST for a, b in zip(expected, found, strict=True)])), 4),
        "queries": rounds,
        "target": 0.98,
    }


def measure_new(count: int, dim: int, rounds: int) -> dict[str, Any]:
    """Measure so many vectors in a store of their own."""
    with tempfile.TemporaryDirectory() as place:
        return measure(Store(Path(place), dim, create=True), make_vectors(count, dim), rounds)


def main() -> None:
    from benchmarks.machine import benchmark_parser, keep_rows

    parser = benchmark_parser(__doc__, rounds=50)
    parser.add_argument("--vectors", type=int, nargs="+", default=[100_000, 250_000], metavar="N")
    parser.add_argument("--dim", type=int, default=768)
    given = parser.parse_args()
    rows = (measure_new(count, given.dim, given.rounds) for count in given.vectors)
    keep_rows("vectors", rows, dry=given.dry)


if __name__ == "__main__":
    main()
