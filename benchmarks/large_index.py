"""A large index: made vectors of 768 numbers, as a job writes them (fp16), taken in by --from, indexed and searched.

    python benchmarks/large_index.py                         # 1,000,000; keeps a result
    python benchmarks/large_index.py --vectors 20000 --dry

Measures seconds and CPU seconds of taking vectors in, of building the vector index, and of adding 5 % more to an index
that is there already; the most memory, and the size on disk. Recall@10 is against exact search of the vectors before
they were rounded to fp16, on queries that are not among them. A last row is calculated for ten times as many.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.vectors import make_vectors

DIM, NEAREST, PER_SHARD = 768, 10, 16_384
TARGETS = {"minutes": 60, "gb": 8, "recall": 0.95}


def shard_vectors(number: int, count: int) -> np.ndarray:
    """The vectors of one shard of `count`."""
    return make_vectors(min(PER_SHARD, count - number * PER_SHARD), DIM, seed=1 + number)


def make_results(place: Path, count: int, weights: Path) -> None:
    """Write what `convit embed` would have written: vectors around 1,000 centers, in shards."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from convit import Embedder
    from convit.scale.inputs import InputFile
    from convit.scale.jobs import Job
    from convit.scale.manifest import NAME, InputShard, Manifest

    job = Job("embed", weights=weights, settings={"kind": "pooled", "normalize": True})
    identity = job.identity(Embedder(weights=weights, normalize=True, workers=0))
    numbers = range(-(-count // PER_SHARD))
    shards = tuple(InputShard(number, (InputFile("tar", f"{number}.tar", 1, ""),)) for number in numbers)
    place.mkdir()
    (place / NAME).write_bytes(Manifest(shards, identity, ("made",)).to_bytes())
    for shard in shards:
        vectors = shard_vectors(shard.number, count).astype(np.float16)
        table = pa.table(
            {
                "path": [str(shard.number * PER_SHARD + at) for at in range(len(vectors))],
                "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), DIM),
                "error": pa.nulls(len(vectors), pa.string()),
            }
        )
        about = {"convit": json.dumps({**identity, "shard": shard.name})}
        pq.write_table(table.replace_schema_metadata(about), place / f"{shard.name}.parquet")


def nearest(queries: np.ndarray, count: int) -> list[set[str]]:
    """Names of the nearest vectors of each query, by comparing it with all, a shard at a time."""
    best = np.full((len(queries), NEAREST), -2, np.float32)
    names = np.zeros((len(queries), NEAREST), np.int64)
    for number in range(-(-count // PER_SHARD)):
        scores = np.hstack([best, queries @ shard_vectors(number, count).T])
        first = np.argpartition(-scores, NEAREST - 1, axis=1)[:, :NEAREST]
        places = np.hstack([names, np.tile(number * PER_SHARD + np.arange(scores.shape[1] - NEAREST), (len(names), 1))])
        best, names = (np.take_along_axis(each, first, axis=1) for each in (scores, places))
    return [{str(name) for name in row} for row in names]


def size_of(folder: Path) -> float:
    """GB."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e9


def take_step(row: dict[str, Any], name: str, call: Callable[[], Any]) -> Any:
    """Do a step, and add its seconds, its CPU seconds and the most memory until then to a row."""
    import resource

    begun, cpu = time.monotonic(), time.process_time()
    result = call()
    row[f"{name}_s"] = round(time.monotonic() - begun, 1)
    row[f"{name}_cpu_s"] = round(time.process_time() - cpu, 1)
    row["peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    print(json.dumps(row), flush=True)
    return result


def measure_index(count: int, queries: int, place: Path) -> dict[str, Any]:
    """Take vectors in, build their index, add some more, and search."""
    from convit import create_model, save_weights
    from convit.scale import read_vectors
    from convit.search import Index
    from convit.search.nearest import build_index, search_approximately

    weights, db = place / "base.safetensors", place / "db"
    save_weights(weights, create_model("convit_base"))
    make_results(place / "vectors", count, weights)
    vectors = read_vectors(str(place / "vectors"))
    later = max(1, len(vectors.names) // 20)
    index = Index(db, weights=weights, approximate_from=count + 1, workers=0)
    row = {"vectors": count, "dim": DIM, "loaded_gb": round(psutil.Process().memory_info().rss / 1e9, 2)}
    take_step(row, "add", lambda: index.add_vectors(replace(vectors, names=vectors.names[:-later])))
    row["added"] = len(index)
    take_step(row, "build", lambda: build_index(index._store))
    take_step(row, "more", lambda: index.add_vectors(vectors))
    row["more"] = len(index) - row["added"]
    asked = make_vectors(queries, DIM, seed=0)
    expected = nearest(asked, count)
    store = index._store
    hits = take_step(row, "search", lambda: [search_approximately(store, query, NEAREST) for query in asked])
    found = [{row["path"] for row in store.take([number for number, _ in hit], ("path",))} for hit in hits]
    recall = sum(len(a & b) for a, b in zip(expected, found, strict=True)) / (NEAREST * queries)
    return row | {"queries": queries, "recall": recall, "input_gb": size_of(place / "vectors"), "gb": size_of(db)}


def ten_times(row: dict[str, Any]) -> dict[str, Any]:
    """What ten times as many vectors would take, calculated.

    Each vector is read and written once; to build, it is compared with as many centers as the square root of their
    number. Memory beyond the loaded model is taken to grow with the vectors, which is at most what is known of it.
    """
    linear = {name: 10 * row[name] for name in ("vectors", "add_s", "add_cpu_s", "input_gb", "gb")}
    built = {name: round(10**1.5 * row[name], 1) for name in ("build_s", "build_cpu_s")}
    return {**linear, **built, "peak_gb": round(row["loaded_gb"] + 10 * (row["peak_gb"] - row["loaded_gb"]), 1)}


def measure_all(count: int, queries: int) -> Iterator[dict[str, Any]]:
    """What was measured, and what ten times as many would take."""
    with tempfile.TemporaryDirectory() as place:
        row = measure_index(count, queries, Path(place))
    yield {**row, "targets": TARGETS}
    yield {**ten_times(row), "is_calculated": True}


def main() -> None:
    from benchmarks.machine import benchmark_parser, keep_rows

    parser = benchmark_parser(__doc__)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1000)
    given = parser.parse_args()
    keep_rows("large_index", measure_all(given.vectors, given.queries), dry=given.dry)


if __name__ == "__main__":
    main()
