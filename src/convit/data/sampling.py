"""The order of training samples: a function of seed and epoch alone, so that a run can be taken up anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

Key = tuple[int, int]


class EpochSampler(Sampler[Key]):
    """Shuffles anew in each epoch, deals the samples to processes, and can start in the middle.

    Args:
        length: number of samples in the set.
        seed: start of all randomness.
        batch_size: samples per process and step; the remainder of an epoch that fills no global batch is left out.
        accumulate: the number of batches of an epoch is a multiple of this.
        repeats: repeated augmentation (Hoffer et al. 2020): each chosen sample comes this often, under different
            augmentations,
            and an epoch keeps its length.
        rank: number of this process.
        world_size: number of processes; they take turns, so that a global batch is the same for any number of them.

    Yields:
        (index, augmentation seed): the seed depends on (seed, epoch, index, repeat) and on nothing else.

    Raises:
        ValueError: the set is smaller than one global batch.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int,
        batch_size: int,
        accumulate: int = 1,
        repeats: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.length, self.seed, self.batch_size, self.repeats = length, seed, batch_size, repeats
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self.batches_done = 0
        images = batch_size * accumulate * world_size
        self.batches = length // images * accumulate
        if self.batches == 0:
            raise ValueError(
                f"{length} training images do not fill one batch of {images}; lower batch_size or add images"
            )

    def __len__(self) -> int:
        return self.batches * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to shuffle for; a position inside another epoch is forgotten."""
        if epoch != self.epoch:
            self.epoch, self.batches_done = epoch, 0

    def __iter__(self) -> Iterator[Key]:
        generator = torch.Generator().manual_seed(augmentation_seed(self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator).repeat_interleave(self.repeats)[: self.length]
        repeats = torch.arange(self.length) % self.repeats
        mine = slice(self.rank, len(self) * self.world_size, self.world_size)
        start = self.batches_done * self.batch_size
        for index, repeat in zip(order[mine][start:].tolist(), repeats[mine][start:].tolist(), strict=True):
            yield index, augmentation_seed(self.seed, self.epoch, index, repeat)


def augmentation_seed(*parts: int) -> int:
    """One well mixed 63-bit seed from some whole numbers (SplitMix64's finaliser over a running sum).

    >>> augmentation_seed(0, 1) != augmentation_seed(1, 0)
    True
    """
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


class ResumableLoader(DataLoader[Any]):
    """A `DataLoader` over an `EpochSampler` that remembers how many batches of the epoch were handed out.

    Lightning stores `state_dict` in its checkpoints and restores it before the first batch of a resumed run.
    """

    handed_out = 0

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        sampler = self._epoch_sampler()
        self.handed_out = sampler.batches_done
        for batch in super().__iter__():
            self.handed_out += 1
            yield batch
        sampler.batches_done = 0

    def state_dict(self) -> dict[str, int]:
        """Epoch and batches of it that were handed out."""
        return {"epoch": self._epoch_sampler().epoch, "batches": self.handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that `state_dict` counted."""
        sampler = self._epoch_sampler()
        finished = state["batches"] >= sampler.batches
        sampler.epoch = state["epoch"] + int(finished)
        sampler.batches_done = 0 if finished else state["batches"]

    def _epoch_sampler(self) -> EpochSampler:
        assert isinstance(self.sampler, EpochSampler)
        return self.sampler
