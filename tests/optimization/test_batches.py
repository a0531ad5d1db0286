"""Calls of one batch size made to take any, and recorded graphs (with a stand-in for CUDA)."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from time import sleep
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from convit.optimization.calls import FixedBatch, GraphedCall, copied
from convit.optimization.folding import PerGrid


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 11])
def test_every_call_has_the_same_batch(count: int) -> None:
    seen: list[int] = []
    buffer = torch.empty(4, 2)

    def call(images: Tensor) -> Tensor:
        seen.append(len(images))
        return buffer.copy_(2 * images)  # written over by the next call, as recorded graphs do

    images = torch.randn(count, 2)
    torch.testing.assert_close(FixedBatch(copied(call), 4)(images), 2 * images)
    assert set(seen) == {4}


def test_the_first_batch_sets_the_size() -> None:
    fixed = FixedBatch(lambda images: images + 1)
    torch.testing.assert_close(fixed(torch.zeros(3, 1)), torch.ones(3, 1))
    assert fixed.batch_size == 3
    torch.testing.assert_close(fixed(torch.zeros(2, 1)), torch.ones(2, 1))


def test_graphs_are_recorded_once_per_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in plays a graph back by calling again what was recorded, on the recorded tensors."""
    recorded: list[Any] = []

    class Graph:
        def replay(self) -> None:
            given, result = recorded[self.number]
            result.copy_(given * 3)

    class Recording(nullcontext[None]):
        def __init__(self, graph: Graph) -> None:
            super().__init__()
            graph.number = len(recorded)

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda given: nullcontext(),
        "CUDAGraph": Graph,
        "graph": Recording,
        "device": nullcontext,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    calls: list[Tensor] = []

    def call(images: Tensor) -> Tensor:
        calls.append(images)
        result = images * 3
        if len(calls) % 4 == 0:  # three passes to warm up, then the one that is recorded
            recorded.append((images, result))
        return result

    graphed = GraphedCall(call)
    for shape in ((2, 3), (2, 3), (1, 3), (2, 3)):
        images = torch.randn(*shape)
        torch.testing.assert_close(graphed(images), images * 3)
    assert len(recorded) == 2
    for width in range(4, 9):
        graphed(torch.randn(2, width))
    assert len(graphed._recordings) == 4


def test_results_are_the_callers_own_in_every_thread() -> None:
    buffer = torch.empty(2, 2)

    def call(images: Tensor) -> Tensor:
        buffer.copy_(images)
        sleep(0.02)
        return buffer

    given = [torch.full((2, 2), float(number)) for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(copied(call), given))
    torch.testing.assert_close(found, given)


def test_what_depends_on_the_grid_is_kept_for_some_grids_whatever_other_threads_do() -> None:
    grids = [(rows, 2) for rows in range(1, 6)]

    def compute(grid: tuple[int, int]) -> int:
        kept._results.clear()  # as if others had been here meanwhile
        return grid[0]

    kept = PerGrid(compute, kept=2)
    assert [kept(grid) for grid in grids] == [1, 2, 3, 4, 5]
    for most in range(1, 8):
        kept = PerGrid(lambda grid: grid[0], kept=most)
        assert [kept(grid) for grid in [*grids, (4, 2), *grids]] == [1, 2, 3, 4, 5, 4, 1, 2, 3, 4, 5]
        assert sorted(kept._results) == grids[-most:]
