"""Shards that are too many for memory, read one after the other and shuffled on the way."""

from __future__ import annotations

import itertools
import random
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from convit.data.corrupt import CorruptImages
from convit.data.datasets import Transform, apply_seeded
from convit.data.remote import shown
from convit.data.sampling import augmentation_seed, plain_worker_errors
from convit.data.shards import Sample, Shard, read_shard
from convit.images import open_image


class ShardStream(IterableDataset[tuple[Any, int]]):
    """An endless stream of (transformed image, class index) from shards, for training.

    Every pass over the shards takes them in a new order and deals them to processes and workers; each worker shuffles
    within a buffer.
    All of it is a function of (seed, epoch), so that an epoch can be taken up in its middle: what was handed out is
    read past, undecoded.

    Args:
        shards: the files, or their URLs.
        transform: takes a PIL image.
        batch_size: samples per batch and process; how workers are dealt with when an epoch is taken up.
        seed: start of all randomness.
        buffer: samples that are shuffled among, per worker.
        rank: number of this process.
        world_size: number of processes.
        classes: number of classes, where known; labels must lie below it.
        corrupt: takes note of images that cannot be read; the next readable ones stand in for them. Without it they are
            errors.

    Raises:
        ValueError: there are fewer shards than processes.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        transform: Transform,
        *,
        batch_size: int,
        seed: int,
        buffer: int,
        rank: int = 0,
        world_size: int = 1,
        classes: int | None = None,
        corrupt: CorruptImages | None = None,
    ) -> None:
        if len(shards) < world_size:
            raise ValueError(
                f"{len(shards)} shards cannot be dealt to {world_size} processes; use more and smaller shards, "
                f"or data.reader=memory"
            )
        self.shards, self.transform, self.batch_size = list(shards), transform, batch_size
        self.seed, self.buffer, self.rank, self.world_size = seed, buffer, rank, world_size
        self.classes, self.corrupt = classes, corrupt
        self.epoch = 0
        self.batches_done = 0

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        worker = get_worker_info()
        workers, number = (1, 0) if worker is None else (worker.num_workers, worker.id)
        # PyTorch takes batches from its workers in turn, beginning with number 0, also when an epoch is taken up.
        lane = (number + self.batches_done) % workers
        done = len(range(lane, self.batches_done, workers)) * self.batch_size
        # Raw samples are counted, readable or not: each has one place in the stream.
        rest = itertools.islice(self._samples(lane, workers), done, None)
        for name, image, label in decode_stream(rest, self.corrupt):
            seed = augmentation_seed(self.seed, self.epoch, zlib.crc32(name.encode()))
            yield apply_seeded(self.transform, image, seed), label

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
                    f"the shards ({shown(self.shards[0])} …) hold fewer samples than there are workers; lower "
                    f"data.workers or data.reader=memory"
                )

    def _pass(self, lane: int, workers: int, turn: int) -> Iterator[Sample]:
        lanes, mine = self.world_size * workers, self.rank * workers + lane
        order = random.Random(augmentation_seed(self.seed, self.epoch, turn)).sample(self.shards, len(self.shards))
        if len(order) >= lanes:
            for shard in order[mine::lanes]:
                yield from read_shard(shard, self.classes)
        else:  # some workers share a shard, each taking its part of the samples
            sharers = range(mine % len(order), lanes, len(order))
            samples = read_shard(order[mine % len(order)], self.classes)
            yield from itertools.islice(samples, sharers.index(mine), None, len(sharers))


class ShardSequence(IterableDataset[tuple[Any, int]]):
    """The samples of some shards, once, in their order; every process takes its share.

    Args:
        shards: the files, or their URLs.
        transform: takes a PIL image.
        rank: number of this process.
        world_size: number of processes.
        classes: number of classes, where known; labels must lie below it.
        corrupt: takes note of images that cannot be read, which are left out. Without it they are errors.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        transform: Transform,
        *,
        rank: int = 0,
        world_size: int = 1,
        classes: int | None = None,
        corrupt: CorruptImages | None = None,
    ) -> None:
        self.shards, self.transform, self.rank, self.world_size = list(shards), transform, rank, world_size
        self.classes, self.corrupt = classes, corrupt

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        everything = itertools.chain.from_iterable(read_shard(shard, self.classes) for shard in self.shards)
        mine = itertools.islice(everything, self.rank, None, self.world_size)
        for _, image, label in decode_readable(mine, self.corrupt):
            yield self.transform(image), label


class StreamLoader:
    """Batches of a stream, a fixed number per epoch; remembers how many of them were handed out.

    Args:
        stream: where samples come from.
        batches: batches per epoch and process.
        workers: processes that load; 0 loads in this one.
        pin_memory: whether batches go to page-locked memory, for GPUs.
        begin_epoch: is told the number of each epoch before its first batch is loaded.
    """

    def __init__(
        self,
        stream: ShardStream,
        *,
        batches: int,
        workers: int,
        pin_memory: bool = False,
        begin_epoch: Callable[[int], None] | None = None,
    ) -> None:
        self.dataset, self.batches, self.workers, self.pin_memory = stream, batches, workers, pin_memory
        self.sampler = _Epoch(stream)  # Lightning announces epochs to the sampler of a loader
        self.begin_epoch = begin_epoch
        self.handed_out = 0

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        if self.begin_epoch is not None:
            self.begin_epoch(self.dataset.epoch)
        self.handed_out = self.dataset.batches_done
        # A fresh loader per epoch: its workers copy the stream with its epoch and position.
        loader: Iterable[Any] = DataLoader(
            self.dataset, self.dataset.batch_size, num_workers=self.workers, pin_memory=self.pin_memory
        )
        batches = itertools.islice(loader, self.batches - self.handed_out)
        with plain_worker_errors():
            for batch in batches:
                self.handed_out += 1
                yield batch
        self.dataset.batches_done = 0

    def state_dict(self) -> dict[str, int]:
        """Epoch and batches of it that were handed out."""
        return {"epoch": self.dataset.epoch, "batches": self.handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that `state_dict` counted."""
        finished = state["batches"] >= self.batches
        self.dataset.epoch = state["epoch"] + int(finished)
        self.dataset.batches_done = 0 if finished else state["batches"]


class _Epoch:
    def __init__(self, stream: ShardStream) -> None:
        self.stream = stream

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.stream.epoch:
            self.stream.epoch, self.stream.batches_done = epoch, 0


def _shuffled(samples: Iterator[Sample], size: int, generator: random.Random) -> Iterator[Sample]:
    buffer = list(itertools.islice(samples, size))
    for sample in samples:
        chosen = generator.randrange(len(buffer))
        buffer[chosen], sample = sample, buffer[chosen]
        yield sample
    generator.shuffle(buffer)
    yield from buffer


def decode_stream(samples: Iterator[Sample], corrupt: CorruptImages | None) -> Iterator[tuple[str, Image.Image, int]]:
    """Decode an endless stream; where an image cannot be read, the next readable one is given in its place.

    That one is given again in its own place: what comes at a place depends on what follows alone, so that a stream
    that is taken up in its middle goes on exactly as it would have.

    Args:
        samples: (key, encoded image, class index).
        corrupt: takes note of what cannot be read.

    Yields:
        (key of the place, decoded image, class index of that image).

    Raises:
        TooManyCorruptError: there are more unreadable images than `corrupt` allows.
        ValueError: an image cannot be read and there is no `corrupt`, or the stream has none but unreadable images.
    """
    ahead: deque[Sample] = deque()
    while True:
        offset = 0
        image = None
        while image is None:
            if offset == len(ahead):
                ahead.append(next(samples))
            image = _decoded(ahead[offset], corrupt)
            offset += 1
            # at most `limit` in a pass are unreadable, so where two passes meet at most twice as many follow each other
            if image is None and corrupt is not None and offset > 2 * corrupt.limit:
                raise ValueError(
                    f"a worker's share of the stream has no readable image (such as {ahead[0][0]!r}); lower "
                    f"data.workers or remove what {corrupt.path} names"
                )
        yield ahead[0][0], image, ahead[offset - 1][2]
        ahead.popleft()


def decode_readable(samples: Iterator[Sample], corrupt: CorruptImages | None) -> Iterator[tuple[str, Image.Image, int]]:
    """Decode samples and leave out those that cannot be read.

    Args:
        samples: (key, encoded image, class index).
        corrupt: takes note of what cannot be read.

    Yields:
        (key, decoded image, class index).

    Raises:
        TooManyCorruptError: there are more unreadable images than `corrupt` allows.
        ValueError: an image cannot be read and there is no `corrupt`.
    """
    for sample in samples:
        image = _decoded(sample, corrupt)
        if image is not None:
            yield sample[0], image, sample[2]


def _decoded(sample: Sample, corrupt: CorruptImages | None) -> Image.Image | None:
    name, data, _ = sample
    try:
        return open_image(data, name=name)
    except ValueError as error:
        if corrupt is None:
            raise
        corrupt.report(name, error)
        return None
