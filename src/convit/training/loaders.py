"""From images to batches, the same for any number of processes."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from convit.data.sampling import EpochSampler, ResumableLoader, StepSharding
from convit.data.streams import ShardSequence, ShardStream, StreamLoader
from convit.training.recipe import Recipe
from convit.training.splits import Split, StreamSource, images_per_epoch

VALIDATION_BATCH = 256
WORTH_WORKERS = 2000  # validation images from which starting workers pays


class RecipeData(LightningDataModule):
    """Loaders for a split.

    Args:
        split: the images.
        recipe: the run.
    """

    def __init__(self, split: Split, recipe: Recipe) -> None:
        super().__init__()
        self.split, self.recipe = split, recipe

    def train_dataloader(self) -> ResumableLoader | StreamLoader:
        """Shuffled, augmented batches; the last incomplete one of an epoch is left out."""
        recipe, source = self.recipe, self.split.train
        sharding, workers = self._sharding(), recipe.data.workers
        assert self.trainer is not None
        pinned = self.trainer.strategy.root_device.type == "cuda"
        if isinstance(source, StreamSource):
            stream = ShardStream(
                source.shards,
                source.transform,
                batch_size=sharding.batch_size,
                seed=recipe.seed,
                buffer=recipe.data.shuffle_buffer,
                rank=sharding.rank,
                world_size=sharding.world_size,
                classes=source.classes,
                corrupt=source.corrupt,
            )
            return StreamLoader(
                stream,
                batches=images_per_epoch(recipe, self.split) // sharding.step_size * sharding.parts,
                workers=workers,
                pin_memory=pinned,
                begin_epoch=self.split.begin_epoch,
            )
        sampler = EpochSampler(
            len(source),
            seed=recipe.seed,
            dealing=sharding,
            repeats=recipe.augment.repeats,
            balance=[source.label(index) for index in range(len(source))] if recipe.data.balanced else None,
        )
        return ResumableLoader(
            source,
            begin_epoch=self.split.begin_epoch,
            batch_size=sharding.batch_size,
            sampler=sampler,
            num_workers=workers,
            drop_last=True,
            persistent_workers=workers > 0,
            pin_memory=pinned,
        )

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """The validation images in order; every process takes its share. Empty where there are none."""
        source, sharding, workers = self.split.validation, self._sharding(), self.recipe.data.workers
        size = min(sharding.batch_size, VALIDATION_BATCH)
        if source is None:
            return []
        if isinstance(source, StreamSource):
            images = ShardSequence(
                source.shards,
                source.transform,
                rank=sharding.rank,
                world_size=sharding.world_size,
                classes=source.classes,
                corrupt=source.corrupt,
            )
            return [DataLoader(images, size, num_workers=min(workers, 1))]
        mine = range(sharding.rank, len(source), sharding.world_size)
        return [DataLoader(source, size, sampler=mine, num_workers=workers if len(mine) > WORTH_WORKERS else 0)]

    def _sharding(self) -> StepSharding:
        assert self.trainer is not None, "loaders are made when a run begins"
        return sharding_of(self.trainer, self.recipe)


def sharding_of(trainer: Trainer, recipe: Recipe) -> StepSharding:
    """How a step's images are shared out among the processes of a run that has begun.

    Raises:
        ValueError: they cannot be.
    """
    parts = trainer.accumulate_grad_batches
    return StepSharding(recipe.run.batch_size, parts, trainer.global_rank, trainer.world_size)
