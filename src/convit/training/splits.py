"""From a recipe's data section to training and validation images."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convit.data.classes import ClassName, read_classes
from convit.data.corrupt import CorruptImages
from convit.data.datasets import DecodedSamples, ImageDataset, Transform, check_trainable, hold_out, take_share
from convit.data.locate import Source, find_files, located
from convit.data.opening import fingerprint, open_samples
from convit.data.samples import Samples
from convit.data.streams import ShardSequence, StreamSource
from convit.images.listing import evenly_spaced
from convit.output.text import first_few
from convit.training.recipe import OF_EVALUATION, AugmentRecipe, DataRecipe, Recipe
from convit.transforms.augmentation import RandAugment
from convit.transforms.evaluation import EvaluationTransform
from convit.transforms.training import training_transform


class SizedTransform:
    """A transform that changes to another one, `late`, from an epoch on (counted from 0), in worker processes too."""

    def __init__(self, early: Transform, late: Transform, late_from: int) -> None:
        self.early, self.late, self.late_from = early, late, late_from
        # Shared memory: workers live through all epochs and must see the change.
        self._is_late = torch.zeros(1, dtype=torch.bool).share_memory_()

    def begin_epoch(self, epoch: int) -> None:
        """Take the transform of an epoch, numbered from 0."""
        self._is_late.fill_(epoch >= self.late_from)

    def __call__(self, image: Any) -> Any:
        """The transformed image."""
        return self.late(image) if self._is_late.item() else self.early(image)


def transforms_for(recipe: Recipe, height: int, width: int) -> tuple[SizedTransform, SizedTransform]:
    """The (training, validation) transforms of a recipe for a model's image size in pixels."""
    late_from, final = recipe.schedule.early_epochs, recipe.schedule.final_img_size
    training, validation = _transforms_at(recipe.augment, height, width)
    late = _transforms_at(recipe.augment, final or height, final or width)
    return SizedTransform(training, late[0], late_from), SizedTransform(validation, late[1], late_from)


def _transforms_at(augment: AugmentRecipe, height: int, width: int) -> tuple[Transform, Transform]:
    wanted = {key: value for key, value in augment if key not in (*OF_EVALUATION, "repeats")}
    if augment.rand_augment is not None:
        wanted["rand_augment"] = RandAugment(**augment.rand_augment.model_dump())
    return training_transform((height, width), **wanted), EvaluationTransform(augment.preprocessing(height, width))


@dataclass(frozen=True)
class Split:
    """Training and validation images of one set.

    Attributes:
        train, validation: with augmentation, and with the evaluation transform; None if there are none.
        transforms: of both; they are told when an epoch begins.
        classes: class names in index order, where known.
        origins: of the training images, and of validation images of their own: what the recipe says, the folder or URL
            that it starts from, and all of its images, or None if they are streamed.
    """

    train: ImageDataset | StreamSource
    validation: ImageDataset | StreamSource | None
    transforms: tuple[SizedTransform, SizedTransform]
    classes: tuple[str, ...] | None
    origins: Sequence[tuple[Source, str | Path, Samples | None]]

    @cached_property
    def files(self) -> dict[str, str]:
        """What the data are, by name; see `convit.data.fingerprint`. Read when it is first asked for."""
        return fingerprint(*self.origins[0])

    @cached_property
    def validation_files(self) -> dict[str, str]:
        """As `files`, of the validation images; empty where they are held out of the former, or there are none."""
        return fingerprint(*self.origins[1]) if len(self.origins) > 1 else {}

    @cached_property
    def labels(self) -> dict[str, str]:
        """The sha256 of all labels as the model counts them, by source; streams are left out."""
        opened = ((str(source), samples) for source, _, samples in self.origins if samples is not None)
        return {source: hashlib.sha256(array("q", samples.labels)).hexdigest() for source, samples in opened}

    def __str__(self) -> str:
        """What is trained on and validated with, in words."""
        named = "" if self.classes is None else f" of {len(self.classes)} classes ({first_few(self.classes, 12)})"
        if isinstance(self.train, StreamSource):
            return f"a stream of images{named}"
        held = f", {len(self.validation):,} to validate with" if isinstance(self.validation, ImageDataset) else ""
        return f"{len(self.train):,} images{named}{held}"

    def count(self, streamed: int | None) -> int | None:
        """Number of training and validation images; of a stream what the recipe says, `streamed`."""
        if isinstance(self.train, StreamSource) or isinstance(self.validation, StreamSource):
            return streamed
        return len(self.train) + len(self.validation or ())

    def begin_epoch(self, epoch: int) -> None:
        """Prepare images as this epoch, numbered from 0, wants them."""
        for transform in self.transforms:
            transform.begin_epoch(epoch)


def open_split(
    recipe: Recipe,
    root: str | Path,
    height: int,
    width: int,
    corrupt: CorruptImages | None = None,
    opened: Mapping[str, Samples] | None = None,
) -> Split:
    """Open a recipe's training data and its validation data, or hold some of the former out.

    Images become `height` x `width` pixels large. `corrupt` takes note of those that cannot be read; without it they
    are errors. `opened` are data that are open already, by what the recipe calls them; their labels count in the
    model's order.

    Raises:
        ConnectionError: a server cannot be reached.
        FileNotFoundError: a file or folder is absent.
        ImportError: a package that the form of the data needs is not installed.
        ValueError: a shard, a class folder, `held_out` or `validation` is not as it must be, or there is but one class.
    """
    data = recipe.data
    named = None if data.classes is None else located(data.classes, root)
    if isinstance(named, Path) and not named.is_file():
        raise FileNotFoundError(
            f"there is no {named}, which the recipe's data.classes names; give the right folder with --data"
        )
    if data.validation is not None and data.held_out:
        raise ValueError(
            f"data.validation is {data.validation!r} and data.held_out is {data.held_out}; choose one of them"
        )
    classes = None if named is None else read_classes(named)
    transforms = transforms_for(recipe, height, width)
    if data.reader == "stream":
        streams = (
            StreamSource(shards, transform, len(classes) if classes else None, corrupt) if shards else None
            for shards, transform in zip(_split_shards(data, root), transforms, strict=True)
        )
        train, validation = streams
        assert train is not None
        names = None if classes is None else tuple(each.name for each in classes)
        origins = [(source, root, None) for source in (data.train, data.validation) if source is not None]
        return Split(train, validation, transforms, names, origins)
    opened = opened or {}
    whole = _open(data.train, root, classes, opened)
    names = whole.class_names
    kept, held = hold_out(whole.labels, data.held_out, recipe.seed)
    share = take_share([whole.labels[position] for position in kept], data.share, recipe.seed)
    chosen = [kept[position] for position in share]
    samples = DecodedSamples(whole, corrupt=corrupt, only={*chosen, *held}) if data.decode == "once" else whole
    train = ImageDataset(samples, transforms[0], indices=chosen, classes=names, corrupt=corrupt)
    check_trainable(train)
    origins = [(data.train, root, whole)]
    if data.validation is not None:
        samples, held = _open(data.validation, root, whole.classes or whole.class_titles, opened), None
        origins.append((data.validation, root, samples))
    validation = None
    if held is None or held:
        validation = ImageDataset(samples, transforms[1], indices=held, classes=names, corrupt=corrupt)
    return Split(train, validation, transforms, names, origins)


def _split_shards(data: DataRecipe, root: str | Path) -> tuple[list[Path | str], list[Path | str]]:
    """Shards to train on and to validate with."""
    if data.share < 1 or data.balanced:
        raise ValueError(
            "data.share and data.balanced need images that can be reached one by one; use data.reader=memory"
        )
    shards = find_files(data.train, root)
    if data.validation is not None:
        return shards, find_files(data.validation, root)
    if data.held_out >= len(shards):
        raise ValueError(
            f"data.held_out is {data.held_out} of {len(shards)} shards; with data.reader=stream it counts shards and "
            f"must leave some to train on"
        )
    cut = len(shards) - data.held_out
    return shards[:cut], shards[cut:]


def _open(
    source: Source, root: str | Path, classes: Sequence[str | ClassName] | None, opened: Mapping[str, Samples]
) -> Samples:
    found = opened.get(str(source))
    names = tuple(each.name if isinstance(each, ClassName) else each for each in classes or ())
    if found is not None and (classes is None or names == found.class_names):
        return found
    return open_samples(source, classes=classes, root=root, in_memory=True)


def steps_per_epoch(recipe: Recipe, split: Split) -> int:
    """Whole steps that the training images make.

    Raises:
        ValueError: a stream's recipe does not say, or the images do not make a step.
    """
    images = recipe.data.samples if isinstance(split.train, StreamSource) else len(split.train)
    if images is None:
        raise ValueError("data.reader is 'stream', so data.samples must say how many training images there are")
    if images < recipe.run.batch_size:
        raise ValueError(f"run.batch_size is {recipe.run.batch_size}, more than the {images} training images; lower it")
    return images // recipe.run.batch_size


def sample_images(split: Split, count: int) -> Tensor:
    """At most `count` images to watch a model by: evenly from those for validation, else for training.

    (images, channels, height, width), with the evaluation transform. Of a stream, the first ones are taken.
    """
    source = split.validation or split.train
    transform = split.transforms[1]
    if isinstance(source, StreamSource):
        images: Iterable[tuple[Any, int]] = ShardSequence(replace(source, transform=transform))
    else:
        chosen = ImageDataset(source.samples, transform, indices=source.indices, corrupt=source.corrupt)
        images = (chosen[place] for place in evenly_spaced(count, len(chosen)))
    return torch.stack([image for image, _ in islice(images, count)])
