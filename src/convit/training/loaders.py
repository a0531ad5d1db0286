"""From a recipe's data section to batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from convit.data.datasets import ImageDataset, hold_out, open_dataset
from convit.data.locate import file_sha256, find_shards, means_shards, read_class_names
from convit.data.samples import DecodedSamples
from convit.data.sampling import EpochSampler, ResumableLoader
from convit.data.streams import ShardSequence, ShardStream, StreamLoader
from convit.training.recipe import AugmentRecipe, Recipe
from convit.transforms.augmentation import RandAugment
from convit.transforms.evaluation import EvaluationTransform
from convit.transforms.settings import TransformSettings
from convit.transforms.training import training_transform

VALIDATION_BATCH = 256
WORTH_WORKERS = 2000  # held-out images from which starting workers pays


@dataclass(frozen=True)
class StreamSource:
    """Shards to be streamed, and what is done to their images."""

    shards: list[Path]
    transform: Callable[[Any], Any]


@dataclass(frozen=True)
class Split:
    """Training and held-out images of one set.

    Attributes:
        train: with augmentation.
        held_out: with the evaluation transform; None where nothing is held out.
        classes: class names in index order, where known.
        files: file name → sha256 of the shards, or folder → number of images.
    """

    train: ImageDataset | StreamSource
    held_out: ImageDataset | StreamSource | None
    classes: tuple[str, ...] | None
    files: dict[str, str]


def transforms_for(
    augment: AugmentRecipe, height: int, width: int
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """The (training, evaluation) transforms of a recipe for an image size in pixels."""
    rand_augment = RandAugment(**augment.rand_augment.model_dump()) if augment.rand_augment else None
    training = training_transform(
        (height, width),
        mean=augment.mean,
        std=augment.std,
        interpolation=augment.interpolation,
        crop=augment.crop,
        scale=augment.scale,
        padding=augment.padding,
        flip=augment.flip,
        rand_augment=rand_augment,
        color_jitter=augment.color_jitter,
        erasing=augment.erasing,
    )
    evaluation = EvaluationTransform(
        TransformSettings(
            input_size=(3, height, width),
            interpolation=augment.interpolation,
            mean=augment.mean,
            std=augment.std,
            crop_pct=augment.crop_pct,
            crop_mode="center",
        )
    )
    return training, evaluation


def open_split(recipe: Recipe, root: str | Path, height: int, width: int) -> Split:
    """Open a recipe's training data and hold some of it out.

    Args:
        recipe: the run.
        root: folder that the recipe's paths start from.
        height: of the model's images, pixels.
        width: of the model's images, pixels.

    Raises:
        FileNotFoundError: a file or folder is absent.
        ValueError: a shard, a class folder or `held_out` is not as it must be.
    """
    data = recipe.data
    if data.classes is not None and not Path(root, data.classes).is_file():
        raise FileNotFoundError(
            f"there is no {Path(root, data.classes)}, which the recipe's data.classes names; give the right "
            f"folder with --data"
        )
    classes = read_class_names(Path(root, data.classes)) if data.classes else None
    training, evaluation = transforms_for(recipe.augment, height, width)
    if data.reader == "stream":
        shards = find_shards(data.train, root)
        if data.held_out >= len(shards):
            raise ValueError(
                f"data.held_out is {data.held_out} of {len(shards)} shards; with data.reader=stream it counts "
                f"shards and must leave some to train on"
            )
        cut = len(shards) - data.held_out
        return Split(
            StreamSource(shards[:cut], training),
            StreamSource(shards[cut:], evaluation) if data.held_out else None,
            classes,
            _fingerprints(data.train, root),
        )
    whole = open_dataset(data.train, classes=classes, root=root)
    samples = DecodedSamples(whole.samples) if data.decode == "once" else whole.samples
    kept, held = hold_out(samples.labels, data.held_out, recipe.seed)
    return Split(
        train=ImageDataset(samples, training, indices=kept, classes=whole.classes),
        held_out=ImageDataset(samples, evaluation, indices=held, classes=whole.classes) if held else None,
        classes=whole.classes,
        files=_fingerprints(data.train, root),
    )


def _fingerprints(train: str | list[str], root: str | Path) -> dict[str, str]:
    if means_shards(train, root):
        return {shard.name: file_sha256(shard) for shard in find_shards(train, root)}
    return {str(train): "image folder"}


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
        size, workers, rank, world_size = self._share()
        pinned = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        if isinstance(source, StreamSource):
            stream = ShardStream(
                source.shards,
                source.transform,
                batch_size=size,
                seed=recipe.seed,
                buffer=recipe.data.shuffle_buffer,
                rank=rank,
                world_size=world_size,
            )
            batches = images_per_epoch(recipe, self.split) // recipe.run.batch_size * recipe.run.accumulate
            return StreamLoader(stream, batches=batches, workers=workers, pin_memory=pinned)
        sampler = EpochSampler(
            len(source),
            seed=recipe.seed,
            batch_size=size,
            accumulate=recipe.run.accumulate,
            repeats=recipe.augment.repeats,
            rank=rank,
            world_size=world_size,
        )
        return ResumableLoader(
            source,
            batch_size=size,
            sampler=sampler,
            num_workers=workers,
            drop_last=True,
            persistent_workers=workers > 0,
            pin_memory=pinned,
        )

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """The held-out images in order; every process takes its share. Empty where none are held out."""
        source = self.split.held_out
        size, workers, rank, world_size = self._share()
        size = min(size, VALIDATION_BATCH)
        if source is None:
            return []
        if isinstance(source, StreamSource):
            return [
                DataLoader(
                    ShardSequence(source.shards, source.transform, rank=rank, world_size=world_size),
                    size,
                    num_workers=min(workers, 1),
                )
            ]
        mine = range(rank, len(source), world_size)
        return [DataLoader(source, size, sampler=mine, num_workers=workers if len(mine) > WORTH_WORKERS else 0)]

    def _share(self) -> tuple[int, int, int, int]:
        """(images per batch, workers, rank, world size) of this process."""
        world_size, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        run = self.recipe.run
        size, rest = divmod(run.batch_size, world_size * run.accumulate)
        if rest:
            raise ValueError(
                f"run.batch_size is {run.batch_size}, which {world_size} processes with run.accumulate "
                f"{run.accumulate} do not divide; choose a multiple of {world_size * run.accumulate}"
            )
        return size, self.recipe.data.workers, rank, world_size


def images_per_epoch(recipe: Recipe, split: Split) -> int:
    """Training images, counted or as the recipe says.

    Raises:
        ValueError: a stream's recipe does not say.
    """
    if not isinstance(split.train, StreamSource):
        return len(split.train)
    if recipe.data.samples is None:
        raise ValueError("data.reader is 'stream', so data.samples must say how many training images there are")
    return recipe.data.samples
