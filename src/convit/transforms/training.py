"""Training-time preprocessing: PIL image in, augmented float32 tensor out (torchvision v2 where it is fast enough)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
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
        ValueError: `interpolation` or `crop` is unknown.
    """
    size = as_height_width(input_size)
    settings = TransformSettings((3, *size), interpolation, tuple(mean), tuple(std))
    mode, resampling = v2.InterpolationMode(interpolation), Image.Resampling[interpolation.upper()]
    steps: list[Any] = []
    if crop == "resized":
        steps.append(v2.RandomResizedCrop(size, scale=scale, ratio=ratio, interpolation=mode))
    elif crop == "padded":
        steps.append(PaddedCrop(size, padding, resampling, settings.fill))
    elif crop == "none":
        steps.append(PaddedCrop(size, 0, resampling, settings.fill))
    else:
        raise ValueError(f"crop is {crop!r}, but must be 'resized', 'padded' or 'none'")
    if flip > 0:
        steps.append(Flip(flip))
    if rand_augment is not None:
        steps.append(rand_augment.bind(resampling, settings.fill))
    elif color_jitter > 0:
        steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
    steps += [np.asarray, EvaluationTransform(settings).normalize, torch.from_numpy]
    if erasing > 0:
        steps.append(v2.RandomErasing(erasing, scale=(0.02, 1 / 3), ratio=(0.3, 3.3), value="random"))  # pyright: ignore[reportArgumentType]
    return Pipeline(steps)


class Pipeline:
    """Steps in order; unlike `v2.Compose` it is a plain callable without a module's overhead per call."""

    def __init__(self, steps: Sequence[Callable[[Any], Any]]) -> None:
        self.steps = list(steps)

    def __call__(self, image: Any) -> Any:
        """Apply every step."""
        for step in self.steps:
            image = step(image)
        return image


class Flip:
    """Left-right (or top-bottom) flip with a probability."""

    def __init__(self, probability: float, *, vertical: bool = False) -> None:
        self.probability = probability
        self.method = Image.Transpose.FLIP_TOP_BOTTOM if vertical else Image.Transpose.FLIP_LEFT_RIGHT

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image, or its mirror image."""
        return image.transpose(self.method) if torch.rand(()).item() < self.probability else image


class PaddedCrop:
    """Resize to `size`, pad every side and cut `size` out at a random place (He et al. 2016's CIFAR augmentation)."""

    def __init__(
        self, size: tuple[int, ...], padding: int, resampling: Image.Resampling, fill: tuple[int, ...]
    ) -> None:
        self.height, self.width = size
        self.padding, self.resampling, self.fill = padding, resampling, fill

    def __call__(self, image: Image.Image) -> Image.Image:
        """The cut-out, `size` large."""
        if image.size != (self.width, self.height):
            image = image.resize((self.width, self.height), self.resampling)
        if self.padding == 0:
            return image
        top, left = torch.randint(2 * self.padding + 1, (2,)).tolist()
        canvas = Image.new("RGB", image.size, self.fill)
        canvas.paste(image, (self.padding - left, self.padding - top))
        return canvas
