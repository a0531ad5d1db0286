"""Training-time preprocessing: PIL image in, augmented float32 tensor out (torchvision v2 where it is fast enough)."""

from __future__ import annotations

import re
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


def create_training_transform(
    input_size: int | Sequence[int],
    *,
    interpolation: str = "bicubic",
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    scale: tuple[float, float] | None = None,
    ratio: tuple[float, float] | None = None,
    hflip: float = 0.5,
    color_jitter: float | None = 0.4,
    auto_augment: str | None = None,
    re_prob: float = 0.0,
    re_mode: str = "pixel",
    crop_pct: float | None = None,
    crop_mode: str | None = None,
) -> Callable[[Image.Image], Float[Tensor, "3 height width"]]:
    """`training_transform` under timm's names, for `create_transform(is_training=True)`.

    `interpolation` "random" means bicubic here; `hflip` is the probability of a left-right flip, `re_prob` that of
    erasing, whose only `re_mode` is "pixel" (noise for each pixel); `auto_augment` is "rand-m9-mstd0.5-inc1" and the
    like (see `parse_rand_augment`), in place of `color_jitter`; `crop_pct` and `crop_mode` are ignored, as in timm.

    Raises:
        ValueError: a value is unknown or out of range.
    """
    del crop_pct, crop_mode
    if re_mode != "pixel":
        raise ValueError(f"re_mode is {re_mode!r}, but erasing knows only 'pixel', the paper's")
    return training_transform(
        input_size,
        mean=mean,
        std=std,
        interpolation="bicubic" if interpolation == "random" else interpolation,
        scale=scale or (0.08, 1.0),
        ratio=ratio or (3 / 4, 4 / 3),
        flip=hflip,
        rand_augment=parse_rand_augment(auto_augment) if auto_augment else None,
        color_jitter=color_jitter or 0.0,
        erasing=re_prob,
    )


def parse_rand_augment(text: str) -> RandAugment:
    """The RandAugment that timm's short form means: m magnitude, mstd its noise, n operations, p probability.

    Operations always grow with the magnitude (inc1).

    Raises:
        ValueError: the text has another form.

    >>> parse_rand_augment("rand-m9-mstd0.5-inc1")
    RandAugment(operations=2, magnitude=9.0, noise=0.5, probability=0.5)
    """
    head, *parts = text.split("-")
    options: dict[str, float] = {"m": 10.0, "mstd": 0.0, "n": 2.0, "p": 0.5, "inc": 1.0}
    for part in parts:
        match = re.fullmatch(r"([a-z]+)(\d+\.?\d*)", part)
        if match is None or match[1] not in options:
            raise ValueError(
                f"auto_augment is {text!r}, where {part!r} means nothing; write it as 'rand-m9-mstd0.5-inc1', "
                f"optionally with n2 and p0.5"
            )
        options[match[1]] = float(match[2])
    if head != "rand" or options["inc"] != 1.0:
        raise ValueError(
            f"auto_augment is {text!r}, but only 'rand-…' with inc1 is known, such as 'rand-m9-mstd0.5-inc1'"
        )
    return RandAugment(int(options["n"]), options["m"], options["mstd"], options["p"])


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
    """Left-right flip with a probability."""

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image, or its mirror image."""
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if torch.rand(()).item() < self.probability else image


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
