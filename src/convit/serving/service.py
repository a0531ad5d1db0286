"""What the routes share: the models, their batchers, and one way from images to rows."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request

from convit.inference.predicting import ImagePredictor, Row, default_workers
from convit.serving.batching import Batcher, SentImage
from convit.serving.errors import ServiceError, busy
from convit.serving.metrics import Metrics
from convit.serving.models import ServedModel
from convit.serving.options import ServiceOptions

if TYPE_CHECKING:
    from convit.search import Index

Answer = TypeVar("Answer")

INDEX = "(index)"  # the index's model among the others
MOST_DECODERS = 8
MOST_LOOKING = 4  # explanations and searches that may wait for the one thread that makes them


class Service:
    """Models that answer requests.

    Args:
        models: the default first.
        options: limits, keys and names.
        index: of images to search, if there is one.
        metrics: where batches are counted.

    Raises:
        ValueError: there is no model, or two have the same name.
    """

    def __init__(
        self, models: Sequence[ServedModel], options: ServiceOptions, index: Index | None, metrics: Metrics
    ) -> None:
        names = [model.name for model in models]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"the models are {names}, but must be one or more of different names")
        self.models = {model.name: model for model in models}
        self.options, self.index, self.metrics = options, index, metrics
        self._decoders = ThreadPoolExecutor(min(MOST_DECODERS, default_workers()), "convit-decode")
        self._looker = ThreadPoolExecutor(1, "convit-look")
        self._looking = 0
        self._batchers = {name: self._batcher(name, model.predictor) for name, model in self.models.items()}
        if index is not None:
            self._batchers[INDEX] = self._batcher(INDEX, index.embedder)

    def _batcher(self, name: str, predictor: ImagePredictor[Any]) -> Batcher:
        alone = default_workers() == 1 and str(predictor.device) == "cpu"  # more threads would compete for the core
        decoders = None if alone else self._decoders
        return Batcher(name, predictor.batch_size, self.options.queue, decoders, self.metrics)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Start the threads; at the end compute what is waiting, and stop them."""
        for batcher in self._batchers.values():
            batcher.start()
        try:
            yield
        finally:
            self._decoders.shutdown()
            for batcher in self._batchers.values():
                batcher.close()
            self._looker.shutdown()

    def model(self, name: str | None) -> ServedModel:
        """Return the model of that name, by default the first; raises `ServiceError` if there is none."""
        found = next(iter(self.models.values())) if name is None else self.models.get(name)
        if found is None:
            raise ServiceError(404, "model_not_found", f"there is no such model; there are {', '.join(self.models)}")
        return found

    def check_count(self, images: int) -> None:
        """Refuse more images than a request may hold, or than ever fit into the queue; raises `ServiceError`."""
        most = min(self.options.images, self.options.queue)
        if images > most:
            told = f"there are more than {most} images; send them in several requests"
            raise ServiceError(413, "too_many_images", told)

    async def run(
        self, request: Request, batcher: str, predictor: ImagePredictor[Any], images: Sequence[SentImage]
    ) -> list[Row]:
        """Run a predictor over images; raises the errors of `check_count`, `Batcher.submit` and `wait_for`."""
        self.check_count(len(images))
        return await wait_for(request, self._batchers[batcher].submit(predictor, images), self.options)

    async def look(self, request: Request, work: Any, *arguments: Any) -> Any:
        """Run what is not batched, such as an explanation, in its own thread; raises `ServiceError` if it is busy."""
        if self._looking >= MOST_LOOKING:
            raise busy("queue_full", "too many explanations and searches are waiting; try again later", 2)
        self._looking += 1
        done = asyncio.get_running_loop().run_in_executor(self._looker, work, *arguments)
        done.add_done_callback(self._looked)
        async with in_time(request, self.options):
            return await done

    def _looked(self, done: asyncio.Future[Any]) -> None:
        self._looking -= 1
        if not done.cancelled():
            done.exception()  # one that nobody waits for any more is not worth a warning


@asynccontextmanager
async def in_time(request: Request, options: ServiceOptions) -> AsyncGenerator[None]:
    """Limit a block to the time that its request has left: the service's, or less if the client asked for less.

    The time starts with the request's first block; later ones share it.

    Raises:
        ServiceError: the block took longer.
    """
    state, latest = request.scope.setdefault("state", {}), asyncio.get_running_loop().time() + options.seconds
    state["ends"] = min(state.get("ends", math.inf), latest)
    try:
        async with asyncio.timeout_at(state["ends"]):
            yield
    except TimeoutError:
        told = "the request took too long; send fewer images, or try again later"
        raise busy("deadline_exceeded", told) from None


async def wait_for(
    request: Request, answers: Sequence[asyncio.Future[Answer]], options: ServiceOptions
) -> list[Answer]:
    """Wait for the answers that a request needs; cancel the rest when its client leaves or time runs out.

    Raises:
        ServiceError: the client left, or it took too long.
    """
    left = asyncio.ensure_future(_until_gone(request, answers))
    try:
        async with in_time(request, options):
            return [await answer for answer in answers]
    except asyncio.CancelledError:
        if not left.done():
            raise
        raise ServiceError(499, "client_left", "the client left before the answer", reason="client_left") from None
    finally:
        left.cancel()
        for answer in answers:
            answer.cancel()


async def _until_gone(request: Request, answers: Sequence[asyncio.Future[Any]]) -> None:
    """Drop the images of a client that closes its connection."""
    with suppress(ServiceError):
        while (await request.receive())["type"] != "http.disconnect":
            pass
        for answer in answers:
            answer.cancel()


def service_of(request: Request) -> Service:
    """The service that a request is for; a FastAPI dependency would take longer."""
    return request.app.state.service
