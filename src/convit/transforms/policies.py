"""The augmentation policies that timm's short forms name: RandAugment, AugMix, AutoAugment and 3-Augment."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from PIL import Image
from torchvision.transforms import v2

from convit.transforms.augmentation import RandAugment

_AUTO_AUGMENT = ("original", "originalr", "v0", "v0r")
_KNOWN = "'rand-m9-mstd0.5-inc1', 'augmix-m3-w3', 'original', 'v0' and '3a'"


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
