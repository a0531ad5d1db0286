"""Images of many requests through one model, in batches of what came while the model was busy."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from time import perf_counter
from typing import Any, NamedTuple

from convit.inference.predicting import ImagePredictor, Row
from convit.serving.errors import busy
from convit.serving.metrics import Metrics


class SentImage(NamedTuple):
    """An image of a request: what answers call it, and its file."""

    name: str
    content: bytes


@dataclass(slots=True, eq=False)
class _Job:
    predictor: ImagePredictor[Any]
    answer: asyncio.Future[Row]
    image: SentImage
    row: Row | None = None
    since: float = field(default_factory=perf_counter)


class Batcher:
    """Runs a model in a thread of its own; images are decoded in others, or in the same one.

    There is no timer: an image that finds the model idle is computed at once, and those that come meanwhile are the
    next batch. A request that is given up cancels its futures, and what was not begun is dropped.

    Args:
        name: the model's, in metrics.
        size: images in a batch at most.
        capacity: images that may wait or be worked on.
        decoders: threads that open images, shared by the models; None to open them in the model's thread.
        metrics: where batches are counted.
    """

    def __init__(self, name: str, size: int, capacity: int, decoders: Executor | None, metrics: Metrics) -> None:
        self.name, self.size, self.capacity = name, size, capacity
        self.waiting = 0
        self._decoders, self._metrics = decoders, metrics
        self._came: SimpleQueue[_Job | None] = SimpleQueue()  # None ends it
        self._queue: deque[_Job] = deque()  # only the model's thread uses this and `_closed`
        self._closed = False
        self._seconds = 0.01  # per image, a moving average
        self._thread = threading.Thread(target=self._work, name=f"convit-model-{name}", daemon=True)

    def start(self) -> None:
        """Start the model's thread."""
        self._thread.start()

    def close(self) -> None:
        """End the model's thread when it has computed what is waiting."""
        self._came.put(None)
        self._thread.join()

    def submit(self, predictor: ImagePredictor[Any], images: Sequence[SentImage]) -> list[asyncio.Future[Row]]:
        """Take images in, all or none, and give a future of each, in order; called in the event loop.

        Canceling a future drops its image, unless it is being computed.

        Raises:
            ServiceError: the queue is full.
        """
        if self.waiting + len(images) > self.capacity:
            raise busy("queue_full", "too many images are waiting; try again later", self.waiting * self._seconds)
        loop = asyncio.get_running_loop()
        jobs = [_Job(predictor, loop.create_future(), image) for image in images]
        self.waiting += len(jobs)
        for job in jobs:
            job.answer.add_done_callback(partial(self._leave, job))
            if self._decoders is None:
                self._came.put(job)
            else:
                self._decoders.submit(self._decode, job)
        return [job.answer for job in jobs]

    def _leave(self, job: _Job, answer: asyncio.Future[Row]) -> None:
        self.waiting -= 1
        job.image = SentImage(job.image.name, b"")  # a canceled job can stay in the queue for long
        if not answer.cancelled():
            answer.exception()  # a request reports only its first failure; asyncio would log the others

    def _decode(self, job: _Job) -> None:
        self._read(job)
        self._came.put(job)

    def _read(self, job: _Job) -> None:
        name, content = job.image
        job.image = SentImage(name, b"")  # its bytes are needed no longer than this
        if job.answer.cancelled():
            return
        try:
            job.row = job.predictor._read((None, content), name)
        except Exception as error:
            job.answer.get_loop().call_soon_threadsafe(_fail, [job], error)

    def _work(self) -> None:
        while batch := self._take():
            begin = perf_counter()
            if self._decoders is None:
                for job in batch:
                    self._read(job)
            start = perf_counter()
            rows = [job.row for job in batch if job.row is not None]
            loop = batch[0].answer.get_loop()
            try:
                batch[0].predictor._compute(rows)
            except Exception as error:
                loop.call_soon_threadsafe(_fail, batch, error)
                continue
            end = perf_counter()
            self._seconds += 0.1 * ((end - begin) / len(batch) - self._seconds)
            self._metrics.count_batch(self.name, end - start, [start - job.since for job in batch])
            loop.call_soon_threadsafe(_deliver, batch)

    def _take(self) -> list[_Job]:
        """The next batch: the oldest image, and those after it that want the same; empty when all is done."""
        batch: list[_Job] = []
        while not batch:
            while not self._came.empty() or not (self._queue or self._closed):
                if (came := self._came.get()) is None:
                    self._closed = True
                else:
                    self._queue.append(came)
            if not self._queue:
                break
            others: deque[_Job] = deque()
            while self._queue and len(batch) < self.size:
                job = self._queue.popleft()
                if not job.answer.cancelled():
                    (batch if not batch or job.predictor is batch[0].predictor else others).append(job)
            self._queue.extendleft(reversed(others))
        return batch


def _deliver(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.row is not None and not job.answer.done():
            job.answer.set_result(job.row)


def _fail(jobs: list[_Job], error: Exception) -> None:
    for job in jobs:
        if not job.answer.done():
            job.answer.set_exception(error)
