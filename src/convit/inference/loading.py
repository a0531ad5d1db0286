"""Reading images ahead of the model, in threads and in order."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Source = TypeVar("Source")
Read = TypeVar("Read")

MOST_WORKERS = 32


def default_workers() -> int:
    """Count the cores that this process may use, at most 32: one reading thread for each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(MOST_WORKERS, cores or 1))


def read_batches(
    sources: Iterable[Source], read: Callable[[Source], Read], *, batch_size: int, workers: int
) -> Generator[list[Read], None, None]:
    """Read sources in threads while the caller works on earlier ones.

    Threads suffice: Pillow decodes and resizes without holding the interpreter's lock. At most two batches and one
    source per thread are held at any time, however many there are.

    Args:
        sources: what to read; taken from as room becomes free, so it may be longer than memory.
        read: turns one source into what is wanted; called in several threads at once.
        batch_size: results per batch. The last batch may be smaller, and so are the first ones: one result per thread,
            then twice as many each time, so that the caller has work as soon as the threads have read their first.
        workers: threads; 0 reads in the caller's thread, when a batch is asked for.

    Yields:
        Results in the order of the sources.

    Raises:
        Whatever `read` and `sources` raise, when it is that source's turn.
    """
    remaining = iter(sources)
    if workers == 0:
        while batch := [read(source) for source in islice(remaining, batch_size)]:
            yield batch
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="convit-read")
    ahead: deque[Future[Read]] = deque()

    def read_ahead() -> None:
        room = 2 * batch_size + workers - len(ahead)
        ahead.extend(pool.submit(read, source) for source in islice(remaining, room))

    try:
        read_ahead()
        size = min(workers, batch_size)
        while ahead:
            batch = [ahead.popleft().result() for _ in range(min(size, len(ahead)))]
            read_ahead()
            yield batch
            size = min(2 * size, batch_size)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
