"""Augmentation policies on PIL images: RandAugment as the paper's recipe has it, and those of timm's short forms."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import v2

_AUTO_AUGMENT = ("original", "originalr", "v0", "v0r")
_KNOWN = "'rand-m9-mstd0.5-inc1', 'augmix-m3-w3', 'original', 'v0' and '3a'"
_LEVELS = 10.0  # magnitudes run from 0 to 10, as in AutoAugment's tables
Operation = Callable[[Image.Image, float], Image.Image]


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
        operations = list(_operations(resampling, fill).values())

        def augment(image: Image.Image) -> Image.Image:
            chosen = torch.randint(len(operations), (self.operations,)).tolist()
            draws = torch.rand(self.operations, 2).tolist()
            noises = torch.randn(self.operations).tolist()
            for number, (apply, sign), noise in zip(chosen, draws, noises, strict=True):
                if apply >= self.probability:
                    continue
                level = min(max(self.magnitude + self.noise * noise, 0.0), _LEVELS) / _LEVELS
                image = operations[number](image, level if sign < 0.5 else -level)
            return image

        return augment


def _operations(resampling: Image.Resampling, fill: tuple[int, ...]) -> dict[str, Operation]:
    """The operations by name; they turn and shear with a filter, bicubic for those that cannot.

    Levels come signed, in [-1, 1]; operations without a direction take their size. Ranges are those of AutoAugment's
    Table 6.
    """
    turning = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
    filtered = resampling if resampling in turning else Image.Resampling.BICUBIC

    def affine(image: Image.Image, *matrix: float) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, matrix, filtered, fillcolor=fill)

    def enhance(kind: Callable[[Image.Image], Any]) -> Operation:
        # 0.9 times the signed level around 1: strength 0 leaves the image, either sign moves away from it.
        return lambda image, level: kind(image).enhance(max(0.1, 1.0 + 0.9 * level))

    return {
        "auto contrast": lambda image, level: ImageOps.autocontrast(image),
        "equalize": lambda image, level: ImageOps.equalize(image),
        "invert": lambda image, level: ImageOps.invert(image),
        "rotate": lambda image, level: image.rotate(30.0 * level, filtered, fillcolor=fill),
        "posterize": lambda image, level: ImageOps.posterize(image, max(1, 4 - int(4 * abs(level)))),
        "solarize": lambda image, level: ImageOps.solarize(image, 256 - int(256 * abs(level))),
        "solarize add": lambda image, level: image.point(
            [min(255, value + int(110 * abs(level))) if value < 128 else value for value in range(256)] * 3
        ),
        "color": enhance(ImageEnhance.Color),
        "contrast": enhance(ImageEnhance.Contrast),
        "brightness": enhance(ImageEnhance.Brightness),
        "sharpness": enhance(ImageEnhance.Sharpness),
        "shear x": lambda image, level: affine(image, 1, 0.3 * level, 0, 0, 1, 0),
        "shear y": lambda image, level: affine(image, 1, 0, 0, 0.3 * level, 1, 0),
        "translate x": lambda image, level: affine(image, 1, 0, 0.45 * level * image.width, 0, 1, 0),
        "translate y": lambda image, level: affine(image, 1, 0, 0, 0, 1, 0.45 * level * image.height),
    }


def parse_policy(text: str, interpolation: str, fill: tuple[int, ...]) -> Callable[[Any], Any]:
    """Make the operation on images that timm's short form means.

    - "rand-m9-mstd0.5-inc1": `RandAugment`, see `parse_rand_augment`.
    - "augmix-m3-w3-d2-a1": torchvision's AugMix of a severity m, width w, depth d (random without it) and alpha a.
      Differs from timm's: the steps of each operation are torchvision's, and magnitudes are drawn up to m.
    - "original", "originalr", "v0", "v0r": torchvision's AutoAugment with the paper's policy for ImageNet. Differs from
      timm's: "v0" and the forms with r are the same policy here.
    - "3a": one of gray, solarized and blurred (DeiT III), on torchvision.

    Args:
        text: the short form.
        interpolation: with which operations turn and shear; bicubic stands for filters that cannot.
        fill: color of what they lay bare, uint8 pixel values.

    Raises:
        ValueError: the text has another form, or asks for what the operation does not have.
    """
    head, *parts = text.split("-")
    if head == "rand":
        return parse_rand_augment(text).bind(Image.Resampling[interpolation.upper()], fill)
    mode = v2.InterpolationMode(interpolation if interpolation in ("nearest", "bilinear") else "bicubic")
    if head == "augmix":
        found = _read(text, parts, {"m": 3, "w": 3, "d": -1, "a": 1}, "'augmix-m3-w3-d2-a1'")
        width, depth = int(found["w"]), int(found["d"])
        return v2.AugMix(int(found["m"]), width, depth, found["a"], interpolation=mode, fill=list(fill))
    if head in _AUTO_AUGMENT and not parts:
        return v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET, mode, list(fill))
    if text == "3a":
        return v2.RandomChoice([v2.Grayscale(3), v2.RandomSolarize(128, p=1.0), v2.GaussianBlur(9)])
    raise ValueError(f"auto_augment is {text!r}, but must be a policy such as {_KNOWN}")


def parse_rand_augment(text: str) -> RandAugment:
    """The RandAugment that timm's short form means: m magnitude, mstd its noise, n operations, p probability.

    Operations always grow with the magnitude (inc1).

    Raises:
        ValueError: the text has another form.

    >>> parse_rand_augment("rand-m9-mstd0.5-inc1")
    RandAugment(operations=2, magnitude=9.0, noise=0.5, probability=0.5)
    """
    head, *parts = text.split("-")
    example = "'rand-m9-mstd0.5-inc1', optionally with n2 and p0.5"
    found = _read(text, parts, {"m": 10, "mstd": 0, "n": 2, "p": 0.5, "inc": 1}, example)
    if head != "rand" or found["inc"] != 1.0:
        raise ValueError(
            f"auto_augment is {text!r}, but only 'rand-…' with inc1 is known, such as 'rand-m9-mstd0.5-inc1'"
        )
    return RandAugment(int(found["n"]), found["m"], found["mstd"], found["p"])


def _read(text: str, parts: list[str], known: dict[str, float], example: str) -> dict[str, float]:
    options = {name: float(value) for name, value in known.items()}
    for part in parts:
        match = re.fullmatch(r"([a-z]+)(\d+\.?\d*)", part)
        if match is None or match[1] not in options:
            raise ValueError(f"auto_augment is {text!r}, where {part!r} means nothing; write it as {example}")
        options[match[1]] = float(match[2])
    return options
