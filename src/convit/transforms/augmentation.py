"""RandAugment on PIL images: the random operations of the paper's recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageEnhance, ImageOps

_LEVELS = 10.0  # magnitudes run from 0 to 10, as in AutoAugment's tables
Operation = Callable[[Image.Image, float, Image.Resampling, tuple[int, int, int]], Image.Image]


@dataclass(frozen=True)
class RandAugment:
    """Some random operations per image (Cubuk et al. 2020), with timm's two additions.

    These are noise on the magnitude, and operations that all grow with it. "rand-m9-mstd0.5-inc1" of the paper's recipe
    is `RandAugment(operations=2, magnitude=9, noise=0.5)`: each of the two is applied with probability 0.5.

    Attributes:
        operations: number drawn per image, with repetition.
        magnitude: strength, 0 to 10.
        noise: standard deviation of a normal that is added to the magnitude per operation.
        probability: that a drawn operation is applied.
    """

    operations: int = 2
    magnitude: float = 9.0
    noise: float = 0.5
    probability: float = 0.5

    def __post_init__(self) -> None:
        in_range = 0 <= self.magnitude <= _LEVELS and 0 <= self.probability <= 1
        if not in_range or self.operations < 1 or self.noise < 0:
            raise ValueError(
                f"{self} is out of range: operations at least 1, magnitude 0 to 10, noise at least 0, "
                f"probability 0 to 1"
            )

    def bind(self, resampling: Image.Resampling, fill: tuple[int, ...]) -> Callable[[Image.Image], Image.Image]:
        """The operation on images, for a resampling and a fill color."""
        operations = list(_OPERATIONS.values())
        red, green, blue = fill

        def augment(image: Image.Image) -> Image.Image:
            chosen = torch.randint(len(operations), (self.operations,)).tolist()
            draws = torch.rand(self.operations, 2).tolist()
            noises = torch.randn(self.operations).tolist()
            for number, (apply, sign), noise in zip(chosen, draws, noises, strict=True):
                if apply >= self.probability:
                    continue
                level = min(max(self.magnitude + self.noise * noise, 0.0), _LEVELS) / _LEVELS
                image = operations[number](image, level if sign < 0.5 else -level, resampling, (red, green, blue))
            return image

        return augment


def _turning(resampling: Image.Resampling) -> Image.Resampling:
    """A filter that turns and shears: Pillow has three, bicubic stands for the others."""
    known = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
    return resampling if resampling in known else Image.Resampling.BICUBIC


def _affine(
    image: Image.Image, matrix: tuple[float, ...], resampling: Image.Resampling, fill: tuple[int, int, int]
) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, _turning(resampling), fillcolor=fill)


def _enhance(kind: Callable[[Image.Image], Any]) -> Operation:
    # 0.9 times the signed level around 1: strength 0 leaves the image, either sign moves away from it.
    return lambda image, level, resampling, fill: kind(image).enhance(max(0.1, 1.0 + 0.9 * level))


# Levels come signed, in [-1, 1]; operations without a direction take their size. Ranges are those of AutoAugment's
# Table 6.
_OPERATIONS: dict[str, Operation] = {
    "auto contrast": lambda image, level, resampling, fill: ImageOps.autocontrast(image),
    "equalize": lambda image, level, resampling, fill: ImageOps.equalize(image),
    "invert": lambda image, level, resampling, fill: ImageOps.invert(image),
    "rotate": lambda image, level, resampling, fill: image.rotate(30.0 * level, _turning(resampling), fillcolor=fill),
    "posterize": lambda image, level, resampling, fill: ImageOps.posterize(image, max(1, 4 - int(4 * abs(level)))),
    "solarize": lambda image, level, resampling, fill: ImageOps.solarize(image, 256 - int(256 * abs(level))),
    "solarize add": lambda image, level, resampling, fill: image.point(
        [min(255, value + int(110 * abs(level))) if value < 128 else value for value in range(256)] * 3
    ),
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear x": lambda image, level, resampling, fill: _affine(image, (1, 0.3 * level, 0, 0, 1, 0), resampling, fill),
    "shear y": lambda image, level, resampling, fill: _affine(image, (1, 0, 0, 0.3 * level, 1, 0), resampling, fill),
    "translate x": lambda image, level, resampling, fill: _affine(
        image, (1, 0, 0.45 * level * image.width, 0, 1, 0), resampling, fill
    ),
    "translate y": lambda image, level, resampling, fill: _affine(
        image, (1, 0, 0, 0, 1, 0.45 * level * image.height), resampling, fill
    ),
}
