"""Mixup and cutmix on batches, and soft targets."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from convit.training.recipe import MixingRecipe


def soft_targets(labels: Int[Tensor, " batch"], classes: int, smoothing: float) -> Float[Tensor, "batch classes"]:
    """One-hot targets with a share of `smoothing` spread over all classes (Szegedy et al. 2016)."""
    return F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes


def mix(
    images: Float[Tensor, "batch channels height width"],
    targets: Float[Tensor, "batch classes"],
    recipe: MixingRecipe,
    generator: np.random.Generator,
) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, "batch classes"]]:
    """Mix each image of a batch with its neighbor, the first with the second and so on, by mixup or cutmix.

    One ratio and one rectangle per batch. Neighbors stay together however a step is dealt to processes, so with a
    generator seeded by the step the mixing is the same for any number of them. The last of an odd number stays as it
    is. Gives new tensors where something was mixed, else the given ones.

    Source: mixup (Zhang et al. 2018, arXiv 1710.09412), CutMix (Yun et al. 2019, arXiv 1905.04899).
    """
    if recipe.mixup == recipe.cutmix == 0 or generator.random() >= recipe.probability:
        return images, targets
    cut = recipe.cutmix > 0 and (recipe.mixup == 0 or generator.random() < recipe.switch)
    alpha = recipe.cutmix if cut else recipe.mixup
    ratio = float(generator.beta(alpha, alpha))
    if cut:
        images, ratio = _paste(images, ratio, generator)
    else:
        images = images * ratio + swap_neighbors(images) * (1 - ratio)
    return images, targets * ratio + swap_neighbors(targets) * (1 - ratio)


def swap_neighbors(values: Float[Tensor, " batch *rest"]) -> Float[Tensor, " batch *rest"]:
    """The same with each pair of neighbors swapped; the last of an odd number stays.

    >>> swap_neighbors(torch.tensor([1.0, 2.0, 3.0])).tolist()
    [2.0, 1.0, 3.0]
    """
    pairs = len(values) // 2 * 2
    swapped = values[:pairs].unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    return torch.cat((swapped, values[pairs:])) if pairs < len(values) else swapped


def _paste(images: Tensor, ratio: float, generator: np.random.Generator) -> tuple[Tensor, float]:
    """The partner's rectangle in each image, and the share of pixels that are still the image's own."""
    height, width = images.shape[-2:]
    side = (1 - ratio) ** 0.5
    center_y, center_x = generator.integers(height), generator.integers(width)
    top, bottom = (int(np.clip(center_y + sign * height * side / 2, 0, height)) for sign in (-1, 1))
    left, right = (int(np.clip(center_x + sign * width * side / 2, 0, width)) for sign in (-1, 1))
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = swap_neighbors(images[:, :, top:bottom, left:right])
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)
