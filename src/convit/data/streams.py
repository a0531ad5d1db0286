"""Shards that are too many for memory, read one after the other and shuffled on the way."""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from convit.data.datasets import Transform, apply_seeded
from convit.data.samples import decode_image, read_shard
from convit.data.sampling import augmentation_seed

Sample = tuple[str, bytes, int]


class ShardStream(IterableDataset[tuple[Any, int]]):
    """An endless stream of (transformed image, class index) from shards, for training.

    Every pass over the shards takes them in a new order and deals them to processes and workers; each worker shuffles
    within a buffer.
    All of it is a function of (seed, epoch), so that an epoch can be taken up in its middle: what was handed out is
    read past, undecoded.

    Args:
        shards: the files.
        transform: takes a PIL image.
        batch_size: samples per batch and process; how workers are dealt with when an epoch is taken up.
        seed: start of all randomness.
        buffer: samples that are shuffled among, per worker.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ValueError: there are fewer shards than processes.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        transform: Transform,
        *,
        batch_size: int,
        seed: int,
        buffer: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if len(shards) < world_size:
            raise ValueError(
                f"{len(shards)} shards cannot be dealt to {world_size} processes; use more and smaller shards, "
                f"or data.reader=memory"
            )
        self.shards, self.transform, self.batch_size = list(shards), transform, batch_size
        self.seed, self.buffer, self.rank, self.world_size = seed, buffer, rank, world_size
        self.epoch = 0
        self.batches_done = 0

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        worker = get_worker_info()
        workers, number = (1, 0) if worker is None else (worker.num_workers, worker.id)
        # PyTorch takes batches from its workers in turn, beginning with number 0, also when an epoch is taken up.
        lane = (number + self.batches_done) % workers
        done = len(range(lane, self.batches_done, workers)) * self.batch_size
        for name, data, label in itertools.islice(self._samples(lane, workers), done, None):
            seed = augmentation_seed(self.seed, self.epoch, zlib.crc32(name.encode()))
            yield apply_seeded(self.transform, decode_image(data, name), seed), label

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
                    f"the shards ({self.shards[0]} …) hold fewer samples than there are workers; lower "
                    f"data.workers or data.reader=memory"
                )

    def _pass(self, lane: int, workers: int, turn: int) -> Iterator[Sample]:
        lanes, mine = self.world_size * workers, self.rank * workers + lane
        order = random.Random(augmentation_seed(self.seed, self.epoch, turn)).sample(self.shards, len(self.shards))
        if len(order) >= lanes:
            for shard in order[mine::lanes]:
                yield from read_shard(shard)
        else:  # some workers share a shard, each taking its part of the samples
            sharers = range(mine % len(order), lanes, len(order))
            yield from itertools.islice(read_shard(order[mine % len(order)]), sharers.index(mine), None, len(sharers))


class ShardSequence(IterableDataset[tuple[Any, int]]):
    """The samples of some shards, once, in their order; every process takes its share.

    Args:
        shards: the files.
        transform: takes a PIL image.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(self, shards: Sequence[Path], transform: Transform, *, rank: int = 0, world_size: int = 1) -> None:
        self.shards, self.transform, self.rank, self.world_size = list(shards), transform, rank, world_size

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        everything = itertools.chain.from_iterable(read_shard(shard) for shard in self.shards)
        for name, data, label in itertools.islice(everything, self.rank, None, self.world_size):
            yield self.transform(decode_image(data, name)), label


class StreamLoader:
    """Batches of a stream, a fixed number per epoch; remembers how many of them were handed out.

    Args:
        stream: where samples come from.
        batches: batches per epoch and process.
        workers: processes that load; 0 loads in this one.
        pin_memory: whether batches go to page-locked memory, for GPUs.
    """

    def __init__(self, stream: ShardStream, *, batches: int, workers: int, pin_memory: bool = False) -> None:
        self.dataset, self.batches, self.workers, self.pin_memory = stream, batches, workers, pin_memory
        self.sampler = _Epoch(stream)  # Lightning announces epochs to the sampler of a loader
        self.handed_out = 0

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        self.handed_out = self.dataset.batches_done
        # A fresh loader per epoch: its workers copy the stream with its epoch and position.
        loader: Iterable[Any] = DataLoader(
            self.dataset, self.dataset.batch_size, num_workers=self.workers, pin_memory=self.pin_memory
        )
        for batch in itertools.islice(loader, self.batches - self.handed_out):
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
