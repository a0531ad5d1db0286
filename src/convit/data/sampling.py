"""The order of training samples: a function of seed and epoch alone, so that a run can be taken up anywhere."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

Key = tuple[int, int]


@dataclass(frozen=True)
class StepSharding:
    """How the images of a step are dealt to processes, and within each to the parts that it computes one by one.

    Images are dealt in pairs of neighbors, so that those that are mixed with each other (see
    `convit.training.mixing`) stay together and a step is the same for any number of processes and parts.

    Attributes:
        step_size: images of a step in all processes and parts together.
        parts: parts in each process (gradient accumulation).
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ValueError: the step's images cannot be dealt in equal shares of whole pairs.

    >>> StepSharding(8, rank=1, world_size=2).positions(0).tolist()
    [2, 3, 6, 7]
    """

    step_size: int
    parts: int = 1
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        shares = self.parts * self.world_size
        if shares > 1 and self.step_size % (2 * shares):
            raise ValueError(
                f"run.batch_size is {self.step_size}, which {self.world_size} processes with run.accumulate "
                f"{self.parts} cannot share in whole pairs; choose a multiple of {2 * shares}"
            )

    @property
    def batch_size(self) -> int:
        """Images of one part in one process."""
        return self.step_size // (self.parts * self.world_size)

    def positions(self, part: int) -> Int[Tensor, " batch"]:
        """Positions in the step's order of the images that this process computes in a part."""
        return self._table()[part]

    def deal(self, step: Int[Tensor, "steps step_size"]) -> Int[Tensor, " images"]:
        """What this process takes of whole steps, part after part, step after step."""
        return step[:, self._table().flatten()].flatten()

    def _table(self) -> Int[Tensor, "parts batch"]:
        every = torch.arange(self.step_size)
        if self.parts * self.world_size == 1:
            return every[None]
        return every.view(self.parts, -1, self.world_size, 2)[:, :, self.rank].flatten(1)


class EpochSampler(Sampler[Key]):
    """Shuffles anew in each epoch, deals the samples to processes, and can start in the middle.

    Args:
        length: number of samples in the set.
        seed: start of all randomness.
        sharding: how a step's images are shared out; the remainder of an epoch that fills no step is left out.
        repeats: repeated augmentation (Hoffer et al. 2020): each chosen sample comes this often within a step, under
            different augmentations, and an epoch keeps its length.
        balance: class index of every sample; then every class is drawn equally often, small ones repeatedly.

    Yields:
        (index, augmentation seed): the seed depends on (seed, epoch, index, how often it came before) and on nothing
        else.

    Raises:
        ValueError: the set is smaller than one step.
    """

    def __init__(
        self, length: int, *, seed: int, sharding: StepSharding, repeats: int = 1, balance: Sequence[int] | None = None
    ) -> None:
        self.length, self.seed, self.sharding, self.repeats = length, seed, sharding, repeats
        self.balance = balance
        self.batch_size = sharding.batch_size
        self.epoch = 0
        self.batches_done = 0
        self.steps = length // sharding.step_size
        self.batches = self.steps * sharding.parts
        if self.batches == 0:
            raise ValueError(
                f"{length} training images do not fill one step of {sharding.step_size}; lower run.batch_size or add "
                f"images"
            )

    def __len__(self) -> int:
        return self.batches * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to shuffle for; a position inside another epoch is forgotten."""
        if epoch != self.epoch:
            self.epoch, self.batches_done = epoch, 0

    def __iter__(self) -> Iterator[Key]:
        generator = torch.Generator().manual_seed(augmentation_seed(self.seed, self.epoch))
        order = self._order(generator).repeat_interleave(self.repeats)
        steps = order[: self.steps * self.sharding.step_size].view(self.steps, -1)
        if self.repeats > 1:  # repeats of an image should not be each other's partner in mixing
            steps = steps.gather(1, torch.rand(steps.shape, generator=generator).argsort(dim=1))
        turns = _occurrences(steps.flatten()).view_as(steps)
        start = self.batches_done * self.batch_size
        dealt = (self.sharding.deal(each)[start:].tolist() for each in (steps, turns))
        for index, turn in zip(*dealt, strict=True):
            yield index, augmentation_seed(self.seed, self.epoch, index, turn)

    def _order(self, generator: torch.Generator) -> Int[Tensor, " length"]:
        if self.balance is None:
            return torch.randperm(self.length, generator=generator)
        labels = torch.as_tensor(self.balance)
        present = labels.unique()
        share = -(-self.length // len(present))
        drawn: list[Tensor] = []
        for label in present:
            own = (labels == label).nonzero()[:, 0]
            rounds = [own[torch.randperm(len(own), generator=generator)] for _ in range(-(-share // len(own)))]
            drawn.append(torch.cat(rounds)[:share])
        everything = torch.cat(drawn)
        return everything[torch.randperm(len(everything), generator=generator)][: self.length]


def _occurrences(values: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """For every place, how often its value stands before it."""
    ranked, order = values.sort(stable=True)
    first = torch.searchsorted(ranked, ranked)
    counts = torch.empty_like(values)
    counts[order] = torch.arange(len(values)) - first
    return counts


def augmentation_seed(*parts: int) -> int:
    """One well mixed 63-bit seed from some whole numbers (SplitMix64's finalizer over a running sum)."""
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


class ResumableLoader:
    """The batches of an epoch; remembers how many of them were handed out.

    Lightning tells `sampler` the epoch, stores `state_dict` in its checkpoints and restores it before the first batch
    of a resumed run.

    Args:
        dataset: gives a sample for (index, augmentation seed); or a `ShardStream`, which is its own sampler.
        sampler: an `EpochSampler`.
        batches: of an epoch, in this process; without it the sampler's.
        workers: processes that load; 0 loads in this one.
        begin_epoch: is told the number of each epoch before its first batch is loaded.
        pin_memory: whether batches go to page-locked memory, for GPUs.
        worker_init_fn: as of PyTorch's `DataLoader`, such as `convit.images.limits.share_in_flight`.
    """

    def __init__(
        self,
        dataset: Any,
        sampler: EpochSampler | None = None,
        *,
        batches: int | None = None,
        workers: int = 0,
        begin_epoch: Callable[[int], None] = lambda epoch: None,
        pin_memory: bool = False,
        worker_init_fn: Callable[[int], None] | None = None,
    ) -> None:
        self.dataset, self.begin_epoch = dataset, begin_epoch
        self.sampler: Any = sampler or dataset
        self.batches: int = batches or self.sampler.batches
        self.handed_out = 0
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            self.sampler.batch_size,
            sampler=sampler,
            num_workers=workers,
            # those of a stream are new in each epoch, and copy it with its epoch and position
            persistent_workers=workers > 0 and sampler is not None,
            pin_memory=pin_memory,
            worker_init_fn=worker_init_fn,
        )

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        self.begin_epoch(self.sampler.epoch)
        self.handed_out = self.sampler.batches_done
        with plain_worker_errors():
            for batch in islice(self._loader, self.batches - self.handed_out):
                self.handed_out += 1
                yield batch
        self.sampler.batches_done = 0

    def state_dict(self) -> dict[str, int]:
        """Epoch and batches of it that were handed out."""
        return {"epoch": self.sampler.epoch, "batches": self.handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that `state_dict` counted."""
        finished = state["batches"] >= self.batches
        self.sampler.epoch = state["epoch"] + int(finished)
        self.sampler.batches_done = 0 if finished else state["batches"]


_MARK = "DataLoader worker process"


@contextmanager
def plain_worker_errors() -> Generator[None]:
    """Restore the one-line message of an error in a loader's worker; PyTorch puts the worker's traceback into it."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        text = str(error).rstrip()
        if not text.startswith("Caught ") or _MARK not in text:
            raise
        # the last line is "package.ErrorType: message"
        message = text.rpartition("\n")[2].partition(": ")[2]
        raise type(error)(message) from error
