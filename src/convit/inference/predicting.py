"""The part that all predictors share: the way from images to a model's outputs, whatever computes these; no torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack, cast, overload

import numpy as np
from PIL import Image

from convit.images.formats import ImageError
from convit.images.limits import current_limits
from convit.images.opening import ImageSource, opened, source_name
from convit.inference.exported import ExportedModel
from convit.inference.models import open_model
from convit.inference.options import RunKeywords, RunOptions
from convit.output.rows import Timings
from convit.transforms.evaluation import EvaluationTransform

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from torch import nn

    from convit.inference.models import Runner

Tag = TypeVar("Tag")
Result = TypeVar("Result")
Source = TypeVar("Source")
Read = TypeVar("Read")

MOST_WORKERS = 32
UNTAGGED = object()


@dataclass(slots=True, eq=False)
class Row:
    """One image on its way: first what was read of it, in the end the model's outputs or what is wrong.

    Attributes:
        tag: what the caller sent along with it, `UNTAGGED` where there was none.
        name: its path, which opens again, or what it is instead ("<bytes>", "<array>", "<image>").
        pixels: the cropped levels, until they are in a batch.
        outputs: what `_forward` gave, this image's row of each.
        error: why there are none.
    """

    tag: Any
    name: str
    pixels: UInt8[np.ndarray, "height width channels"] | None = None
    outputs: tuple[np.ndarray, ...] | None = None
    error: ImageError | None = None


class Predictor:
    """Runs a model over images: reads them ahead in threads, stacks them, and keeps the order.

    `Classifier` and `Embedder` say what is read off the model, in `_forward`.

    Args:
        model, weights, options, changes: as in `Classifier`, with the errors named there.
        num_classes: of a model that is loaded here; `None` keeps its own.

    Attributes:
        name: the model's name, as it can be shown.
        model: the module, in evaluation mode; for an exported folder the `ExportedModel`.
        transform: how images are resized, cropped and scaled.
        device, precision, batch_size, workers, apply_exif, fast_decode: as chosen.
        timings: where the time of the last run went, or of the one under way.
    """

    def __init__(
        self,
        model: str | nn.Module | None,
        weights: str | Path | None,
        options: RunOptions | None = None,
        *,
        num_classes: int | None = None,
        **changes: Unpack[RunKeywords],
    ) -> None:
        options = replace(options or RunOptions(), **changes)
        self._runner: Runner = open_model(model, weights, options, num_classes=num_classes)
        self.name: str = self._runner.name
        self.model: Any = self._runner.model
        self.device = self._runner.device
        self.transform = EvaluationTransform(self._runner.settings)
        self.batch_size = options.batch_size or self._runner.batch_size
        self.workers = default_workers() if options.workers is None else options.workers
        self.apply_exif = options.apply_exif
        self.fast_decode = options.fast_decode
        self.timings = Timings()
        at_least = self.transform.least_side if options.fast_decode else None
        self._opening: Any = {"apply_exif": self.apply_exif, "at_least": at_least, "limits": current_limits()}

    @property
    def precision(self) -> str:
        """What the model computes in: "fp32", "bf16", "fp16", "fp8" or "int8"."""
        return self._runner.precision

    @property
    def preprocessing(self) -> dict[str, Any]:
        """All that decides which pixels the model is given: arguments of `create_transform`, and `apply_exif`.

        And `fast_decode`, where it is true.
        """
        decoding = {"fast_decode": True} if self.fast_decode else {}
        return {**self.transform.settings.to_dict(), "apply_exif": self.apply_exif, **decoding}

    @property
    def identity(self) -> dict[str, Any]:
        """All that results depend on besides images and weights, in types that JSON keeps.

        "model" (its name), "exported" (hash of an exported folder's files, of which many can be made of one set of
        weights; else None), "precision", "preprocessing", and what the kind of results depends on.
        """
        files = self.model.export.sha256 if isinstance(self.model, ExportedModel) else None
        exported = files and f"sha256:{hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()}"
        made = {"model": self.name, "exported": exported, "precision": self.precision}
        pixels = {"fast_decode": False, **self.preprocessing}
        return made | {"preprocessing": json.loads(json.dumps(pixels))}

    def keep_steady(self) -> None:
        """From now on, compute a batch in one way, to the bit, whatever batches came before it."""
        self._runner.is_steady = True

    def _forward(self, pixels: list[Any]) -> tuple[np.ndarray, ...]:
        """Compute what is wanted of images (cropped uint8 pixel values): arrays with one row per image."""
        raise NotImplementedError

    def _run(self, sources: Iterable[ImageSource] | Iterable[tuple[Any, ImageSource]]) -> Iterator[Row]:
        """Return one row per image or (tag, image) pair, in order; without outputs where unreadable or not finite."""
        if isinstance(sources, str | os.PathLike | bytes | Image.Image):
            raise TypeError(f"several images are asked for, but got one {type(sources).__name__}; put it into a list")
        images, failed, start, waited = 0, 0, perf_counter(), Stopwatch()
        self.timings = Timings()
        known = len(sources) if isinstance(sources, Sequence) else None
        if known == 1:
            batches = ([self._read(source)] for source in cast(Sequence[Any], sources))  # without threads
        else:
            batches = read_batches(sources, self._read, batch_size=self.batch_size, workers=self.workers)
        at_once = self._runner.at_once if known is None or known > self.batch_size else 1
        with ExitStack() as stack:
            stack.enter_context(closing(batches))
            pool = stack.enter_context(self._runner.pool()) if at_once > 1 else None
            computed = batches if pool is None else compute_batches(batches, self._compute, waited, pool, at_once)
            while True:
                before = perf_counter()
                batch = next(computed, None)
                if pool is None:
                    waited.seconds += perf_counter() - before
                if batch is None:
                    break
                if pool is None:
                    self._compute(batch)
                for row in batch:
                    images, failed = images + 1, failed + (row.error is not None)
                    self.timings = Timings(images, failed, perf_counter() - start, waited.seconds)
                    yield row
        self.timings = Timings(images, failed, perf_counter() - start, waited.seconds)

    def _read(self, item: ImageSource | tuple[Any, ImageSource], name: str | None = None) -> Row:
        """Open, crop and scale an image."""
        tag, source = item if isinstance(item, tuple) else (UNTAGGED, item)
        row = Row(tag, source_name(source) if name is None else name)
        try:
            with opened(source, name=row.name, **self._opening) as (image, full_size):
                row.pixels = self.transform.to_pixels(image, full_size if self.fast_decode else None)
        except ImageError as error:
            row.error = error
        return row

    def _compute(self, batch: list[Row]) -> None:
        """Fill in the outputs of those that were read, or the error where they are not finite."""
        read = [row for row in batch if row.pixels is not None]
        if not read:
            return
        for row, *found in zip(read, *self._forward([row.pixels for row in read]), strict=True):
            row.pixels = None
            if all(np.isfinite(values).all() for values in found):
                row.outputs = tuple(found)
            else:
                problem = f"the model's output is not finite in {self.precision}; use precision='fp32'"
                row.error = ImageError(row.name, problem)


class ImagePredictor(Predictor, Generic[Result]):
    """A predictor that gives one result per image."""

    def _result(self, row: Row) -> Result:
        """Say what the model found in an image, or why it could not be read."""
        raise NotImplementedError

    def _read_all(self, source: Any) -> Iterator[Row]:
        """Run over one image, or a list or tuple of them; the first that cannot be read is raised."""
        for row in self._run([(None, each) for each in (source if isinstance(source, list | tuple) else [source])]):
            if row.error is not None:
                raise row.error
            yield row

    @overload
    def iterate(self, sources: Iterable[tuple[Tag, ImageSource]]) -> Iterator[tuple[Tag, Result]]: ...
    @overload
    def iterate(self, sources: Iterable[ImageSource]) -> Iterator[Result]: ...
    def iterate(self, sources: Iterable[Any]) -> Iterator[Any]:
        """Run over many images, one after the other; memory does not grow with their number.

        Args:
            sources: images, as in a call; also a generator, which is read a few batches ahead. Or (tag, image) pairs:
                whatever belongs to an image travels with it.

        Yields:
            One result per image, in order; one that cannot be read has `.error` set and nothing else. For pairs,
            (tag, result).

        Raises:
            TypeError: something is not an image.
        """
        for row in self._run(sources):
            yield self._result(row) if row.tag is UNTAGGED else (row.tag, self._result(row))


def default_workers() -> int:
    """Count the threads that read: one for each usable core, at most 32."""
    return min(MOST_WORKERS, usable_cores())


def usable_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Stopwatch:
    """Seconds, added up."""

    seconds: float = 0.0


def compute_batches(
    batches: Iterator[list[Row]],
    compute: Callable[[list[Row]], None],
    waited: Stopwatch,
    pool: Executor,
    at_once: int,
) -> Iterator[list[Row]]:
    """Compute batches in the threads of a pool, so many at once, and give them in order.

    `waited` takes the time in which no batch was read yet and none was being computed. What `batches` and `compute`
    raise is raised when it is that batch's turn.
    """
    under_way: deque[tuple[list[Row], Future[None]]] = deque()
    while True:
        before = perf_counter()
        batch = next(batches, None)
        if all(future.done() for _, future in under_way):
            waited.seconds += perf_counter() - before
        if batch is not None:
            under_way.append((batch, pool.submit(compute, batch)))
        while under_way and (batch is None or under_way[0][1].done() or len(under_way) > at_once):
            computed, future = under_way.popleft()
            future.result()
            yield computed
        if batch is None:
            return


def read_batches(
    sources: Iterable[Source], read: Callable[[Source], Read], *, batch_size: int, workers: int
) -> Generator[list[Read], None, None]:
    """Read sources in threads while the caller works on earlier ones, and give them in order.

    Threads suffice: Pillow decodes and resizes without holding the interpreter's lock. At most two batches and one
    source per thread are held at any time, however many there are. The first batches are smaller: one result per
    thread, then twice as many each time, so that the caller has work as soon as the threads have read their first.
    What `read` and `sources` raise is raised when it is that source's turn. With 0 workers the caller's thread reads.
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
