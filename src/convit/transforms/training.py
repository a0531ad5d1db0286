"""Training-time preprocessing: PIL image in, augmented float32 tensor out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from convit.transforms.augmentation import RandAugment
from convit.transforms.evaluation import EvaluationTransform
from convit.transforms.settings import IMAGENET_MEAN, IMAGENET_STD, TransformSettings, as_height_width

Crop = Literal["resized", "padded", "none"]


def training_transform(
    input_size: int | Sequence[int],
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    interpolation: str = "bicubic",
    crop: Crop = "resized",
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    padding: int = 4,
    flip: float = 0.5,
    rand_augment: RandAugment | None = None,
    color_jitter: float = 0.0,
    erasing: float = 0.0,
) -> Callable[[Image.Image], Float[Tensor, "3 height width"]]:
    """The training pipeline: crop, flip, RandAugment or color jitter, normalize, erase.

    All random numbers come from torch's global generator.

    Args:
        input_size: side in pixels, (height, width), or (channels, height, width) as model configurations write it.
        mean: subtracted per channel, white being 1.
        std: what the difference is divided by, per channel.
        interpolation: as in `create_transform`.
        crop: "resized" cuts a random area of a random shape and resizes it; "padded" resizes to the size, pads every
            side by `padding` pixels of the mean color and cuts out the size; "none" only resizes.
        scale: share of the area that "resized" cuts out.
        ratio: width over height that "resized" cuts out.
        padding: pixels that "padded" adds on every side.
        flip: probability of a left-right flip.
        rand_augment: random operations. With it color jitter is left out, as in the paper's recipe.
        color_jitter: strength for brightness, contrast and saturation.
        erasing: probability that a rectangle of the normalized tensor is overwritten with noise (Zhong et al. 2020).

    Raises:
        ValueError: `interpolation` or `crop` is unknown, or a probability is out of range.
    """
    size = as_height_width(input_size)
    settings = TransformSettings((3, *size), interpolation, tuple(mean), tuple(std))
    mode = v2.InterpolationMode(interpolation)
    crops: dict[str, list[Any]] = {
        "resized": [v2.RandomResizedCrop(size, scale=scale, ratio=ratio, interpolation=mode)],
        # He et al. 2016's augmentation of CIFAR
        "padded": [v2.Resize(size, mode), v2.RandomCrop(size, padding=padding, fill=settings.fill)],
        "none": [v2.Resize(size, mode)],
    }
    if crop not in crops:
        raise ValueError(f"crop is {crop!r}, but must be 'resized', 'padded' or 'none'")
    steps = crops[crop] + ([v2.RandomHorizontalFlip(flip)] if flip > 0 else [])
    if rand_augment is not None:
        steps.append(rand_augment.bind(Image.Resampling[interpolation.upper()], settings.fill))
    elif color_jitter > 0:
        steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
    steps += [np.asarray, EvaluationTransform(settings).to_tensor]
    if erasing > 0:
        steps.append(v2.RandomErasing(erasing, scale=(0.02, 1 / 3), ratio=(0.3, 3.3), value="random"))  # pyright: ignore[reportArgumentType]
    return v2.Compose(steps)
