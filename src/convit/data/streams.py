"""Shards that are too many for memory, read one after the other and shuffled on the way."""

from __future__ import annotations

import itertools
import random
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch.utils.data import IterableDataset, get_worker_info

from convit.data.corrupt import CorruptImages, read_or_report
from convit.data.datasets import Transform, apply_seeded
from convit.data.sampling import augmentation_seed
from convit.data.shards import Sample, Shard, read_shard
from convit.images import open_image
from convit.images.limits import IN_FLIGHT
from convit.images.names import shown


@dataclass(frozen=True)
class StreamSource:
    """Shards to be streamed, and what is done to their images.

    Attributes:
        shards: files or URLs.
        transform: takes a PIL image.
        classes: number of classes, where known; labels must lie below it.
        corrupt: takes note of images that cannot be read; without it they are errors.
    """

    shards: Sequence[Shard]
    transform: Transform
    classes: int | None = None
    corrupt: CorruptImages | None = None


class ShardStream(IterableDataset[tuple[Any, int]]):
    """An endless stream of (transformed image, class index) from shards, for training.

    Every pass over the shards takes them in a new order and deals them to processes and workers; each worker shuffles
    within a buffer. All of it is a function of (seed, epoch), so that an epoch can be taken up in its middle: what was
    handed out is read past, undecoded.

    Args:
        source: the shards; the next readable images stand in for those that cannot be read.
        batch_size: samples per batch and process; how workers are dealt with when an epoch is taken up.
        seed: start of all randomness.
        buffer: samples that are shuffled among, per worker.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ValueError: there are fewer shards than processes.
    """

    def __init__(
        self, source: StreamSource, *, batch_size: int, seed: int, buffer: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if len(source.shards) < world_size:
            raise ValueError(
                f"{len(source.shards)} shards cannot be dealt to {world_size} processes; use more and smaller shards, "
                f"or data.reader=memory"
            )
        self.source, self.batch_size, self.seed, self.buffer = source, batch_size, seed, buffer
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self.batches_done = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to read; a position inside another epoch is forgotten."""
        if epoch != self.epoch:
            self.epoch, self.batches_done = epoch, 0

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        worker = get_worker_info()
        workers, number = (1, 0) if worker is None else (worker.num_workers, worker.id)
        # PyTorch takes batches from its workers in turn, beginning with number 0, also when an epoch is taken up.
        lane = (number + self.batches_done) % workers
        done = len(range(lane, self.batches_done, workers)) * self.batch_size
        # Raw samples are counted, readable or not: each has one place in the stream.
        rest = itertools.islice(self._samples(lane, workers), done, None)
        decoded = _decode_stream(rest, self.source.corrupt)
        while True:
            with IN_FLIGHT.until_scaled():
                name, image, label = next(decoded)
                seed = augmentation_seed(self.seed, self.epoch, zlib.crc32(name.encode()))
                transformed = apply_seeded(self.source.transform, image, seed)
            del image
            yield transformed, label

    def _samples(self, lane: int, workers: int) -> Iterator[Sample]:
        """What one worker reads, pass after pass, each shuffled for itself, so that a pass gives every sample once."""
        for turn in itertools.count():
            generator = random.Random(augmentation_seed(self.seed, self.epoch, turn, self.rank, lane))
            count = 0
            for sample in _shuffled(self._pass(lane, workers, turn), self.buffer, generator):
                count += 1
                yield sample
            if not count:
                raise ValueError(
                    f"the shards ({shown(self.source.shards[0])} …) hold fewer samples than there are workers; lower "
                    f"data.workers or data.reader=memory"
                )

    def _pass(self, lane: int, workers: int, turn: int) -> Iterator[Sample]:
        lanes, mine = self.world_size * workers, self.rank * workers + lane
        order = list(self.source.shards)
        order = random.Random(augmentation_seed(self.seed, self.epoch, turn)).sample(order, len(order))
        if len(order) >= lanes:
            for shard in order[mine::lanes]:
                yield from read_shard(shard, self.source.classes)
        else:  # some workers share a shard, each taking its part of the samples
            sharers = range(mine % len(order), lanes, len(order))
            samples = read_shard(order[mine % len(order)], self.source.classes)
            yield from itertools.islice(samples, sharers.index(mine), None, len(sharers))


class ShardSequence(IterableDataset[tuple[Any, int]]):
    """The samples of some shards, once, in their order, without unreadable ones; every process takes its share."""

    def __init__(self, source: StreamSource, *, rank: int = 0, world_size: int = 1) -> None:
        self.source, self.rank, self.world_size = source, rank, world_size

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        source = self.source
        everything = itertools.chain.from_iterable(read_shard(shard, source.classes) for shard in source.shards)
        for name, content, label in itertools.islice(everything, self.rank, None, self.world_size):
            with IN_FLIGHT.until_scaled():
                image = _decoded(name, content, source.corrupt)
                transformed = None if image is None else source.transform(image)
            del image
            if transformed is not None:
                yield transformed, label


def _shuffled(samples: Iterator[Sample], size: int, generator: random.Random) -> Iterator[Sample]:
    buffer = list(itertools.islice(samples, size))
    for sample in samples:
        chosen = generator.randrange(len(buffer))
        buffer[chosen], sample = sample, buffer[chosen]
        yield sample
    generator.shuffle(buffer)
    yield from buffer


def _decode_stream(samples: Iterator[Sample], corrupt: CorruptImages | None) -> Iterator[tuple[str, Image.Image, int]]:
    """(key, decoded image, class index) of an endless stream; the next readable image stands in for an unreadable one.

    That one is given again in its own place: what comes at a place depends on what follows alone, so that a stream
    that is taken up in its middle goes on exactly as it would have. Raises the errors of
    `CorruptImages.report`, and `ValueError` if an image cannot be read and there is no `corrupt`, or if none can.
    """
    ahead: deque[Sample] = deque()
    while True:
        offset = 0
        image = None
        while image is None:
            if offset == len(ahead):
                ahead.append(next(samples))
            image = _decoded(*ahead[offset][:2], corrupt)
            offset += 1
            # at most `limit` in a pass are unreadable, so where two passes meet at most twice as many follow each other
            if image is None and corrupt is not None and offset > 2 * corrupt.limit:
                raise ValueError(
                    f"a worker's share of the stream has no readable image (such as {ahead[0][0]!r}); lower "
                    f"data.workers or remove what {corrupt.path} names"
                )
        yield ahead[0][0], image, ahead[offset - 1][2]
        ahead.popleft()


def _decoded(name: str, data: bytes, corrupt: CorruptImages | None) -> Image.Image | None:
    return read_or_report(lambda: open_image(data, name=name), name, corrupt)
