"""What is expected of a large index is exact, and what ten times as much costs is calculated."""

import numpy as np
import pytest

from benchmarks import large_index
from benchmarks.large_index import nearest, shard_vectors, ten_times


def test_the_nearest_are_those_of_all_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_index, "PER_SHARD", 40)
    vectors = np.concatenate([shard_vectors(number, 100) for number in range(3)])
    queries = shard_vectors(3, 125)
    assert (vectors.shape, len(queries)) == ((100, 768), 5)
    expected = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    assert nearest(queries, 100) == [set(map(str, row.tolist())) for row in expected]


def test_ten_times_as_many_are_compared_with_more_centers() -> None:
    row = {"vectors": 4, "add_s": 1.0, "add_cpu_s": 2.0, "build_s": 3.0, "build_cpu_s": 4.0, "input_gb": 5, "gb": 6}
    more = ten_times({**row, "loaded_gb": 1, "peak_gb": 1.5})
    assert (more["vectors"], more["add_cpu_s"], more["gb"], more["peak_gb"]) == (40, 20, 60, 6)
    assert more["build_s"] == 94.9
