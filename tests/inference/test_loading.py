"""Reading ahead: order, bounds, errors, and no thread left behind."""

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convit.inference.predicting import default_workers, read_batches


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("convit-read")]


@settings(deadline=None)
@given(count=st.integers(0, 40), batch_size=st.integers(1, 9), workers=st.integers(0, 4))
def test_order_and_sizes(count: int, batch_size: int, workers: int) -> None:
    batches = list(read_batches(range(count), str, batch_size=batch_size, workers=workers))
    assert [number for batch in batches for number in batch] == [str(number) for number in range(count)]
    sizes = [len(batch) for batch in batches]
    grown = [min(batch_size, max(1, workers) * 2**index) if workers else batch_size for index in range(len(sizes))]
    assert sizes[:-1] == grown[:-1]
    assert not sizes or 0 < sizes[-1] <= grown[-1]


def test_slow_first_source_keeps_its_place() -> None:
    def read(number: int) -> int:
        time.sleep(0.05 if number == 0 else 0)
        return number

    assert list(read_batches(range(6), read, batch_size=3, workers=3)) == [[0, 1, 2], [3, 4, 5]]


def test_endless_sources_are_taken_as_needed() -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    batches = read_batches(endless(), int, batch_size=4, workers=2)
    given = 0
    for _ in range(4):
        given += len(next(batches))
        assert given < taken <= given + 2 * 4 + 2
    batches.close()
    assert not readers()


def test_the_next_batch_is_read_while_this_one_is_worked_on() -> None:
    seen = threading.Event()

    def read(number: int) -> int:
        if number >= 2:
            seen.set()
        return number

    batches = read_batches(range(4), read, batch_size=2, workers=2)
    assert next(batches) == [0, 1]
    assert seen.wait(5)
    batches.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_come_in_turn(workers: int) -> None:
    def read(number: int) -> int:
        if number == 3:
            raise KeyError(number)
        return number

    batches = read_batches(range(9), read, batch_size=2, workers=workers)
    assert next(batches) == [0, 1]
    with pytest.raises(KeyError):
        next(batches)
    assert not readers()


def test_workers_by_default() -> None:
    assert 1 <= default_workers() <= 32
