"""What is done to single images: the transforms of a recipe, which may change to another image size near the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from convit.training.recipe import AugmentRecipe, Recipe
from convit.training.schedule import total_epochs
from convit.transforms.augmentation import RandAugment
from convit.transforms.evaluation import EvaluationTransform
from convit.transforms.training import training_transform

Transform = Callable[[Any], Any]


class SizedTransform:
    """A transform that changes to another image size in a run's last epochs, in worker processes too.

    Args:
        early: the transform of most epochs.
        late: that of the last ones; None for a run of one size.
        late_from: first epoch, from 0, that takes it.
    """

    def __init__(self, early: Transform, late: Transform | None = None, late_from: int = 0) -> None:
        self.early, self.late, self.late_from = early, late, late_from
        # Shared memory: workers live through all epochs and must see the change.
        self._is_late = torch.zeros(1, dtype=torch.bool).share_memory_()

    def begin_epoch(self, epoch: int) -> None:
        """Take the transform of an epoch, numbered from 0."""
        self._is_late.fill_(self.late is not None and epoch >= self.late_from)

    def __call__(self, image: Any) -> Any:
        """The transformed image."""
        return self.late(image) if self.late is not None and self._is_late.item() else self.early(image)


def transforms_for(recipe: Recipe, height: int, width: int) -> tuple[SizedTransform, SizedTransform]:
    """The (training, validation) transforms of a recipe for a model's image size in pixels."""
    training, validation = _transforms_at(recipe.augment, height, width)
    schedule = recipe.schedule
    if schedule.final_img_size is None:
        return SizedTransform(training), SizedTransform(validation)
    late = _transforms_at(recipe.augment, schedule.final_img_size, schedule.final_img_size)
    late_from = total_epochs(schedule) - schedule.final_epochs
    return SizedTransform(training, late[0], late_from), SizedTransform(validation, late[1], late_from)


def _transforms_at(augment: AugmentRecipe, height: int, width: int) -> tuple[Transform, Transform]:
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
    return training, EvaluationTransform(augment.preprocessing(height, width))
