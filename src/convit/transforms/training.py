"""Training-time preprocessing: recipes' pipeline, and the three stages of timm's; random numbers are torch's alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from convit.transforms.augmentation import RandAugment, parse_policy
from convit.transforms.evaluation import EvaluationTransform
from convit.transforms.settings import IMAGENET_MEAN, IMAGENET_STD, TransformSettings, as_height_width

Crop = Literal["resized", "padded", "none"]
_ERASING = ("const", "rand", "pixel")


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
        steps.append(_jitter(color_jitter))
    return v2.Compose([*steps, make_tensor(settings, normalize=True, re_prob=erasing, re_mode="pixel", re_count=1)])


def crop_and_flip(
    size: tuple[int, int],
    interpolation: str,
    mode: str | None,
    scale: tuple[float, float] | None,
    ratio: tuple[float, float] | None,
    hflip: float,
    vflip: float,
) -> v2.Compose:
    """The first stage of `create_transform`, whose arguments and errors these are; image in, image out."""
    if mode not in (None, "", "rrc", "rkrc", "rkrr"):
        raise ValueError(f"train_crop_mode is {mode!r}, but must be 'rrc', 'rkrc' or 'rkrr'")
    kinds = ("bilinear", "bicubic") if interpolation == "random" else (interpolation,)
    if mode in ("rkrc", "rkrr"):
        keeping = (scale or (0.8, 1.0), ratio or (0.9, 1 / 0.9), mode == "rkrr")
        crops: list[Any] = [RatioCrop(size, Image.Resampling[each.upper()], *keeping) for each in kinds]
    else:
        shape: dict[str, Any] = {"scale": scale or (0.08, 1.0), "ratio": ratio or (3 / 4, 4 / 3)}
        crops = [v2.RandomResizedCrop(size, interpolation=v2.InterpolationMode(each), **shape) for each in kinds]
    flips = {v2.RandomHorizontalFlip: hflip, v2.RandomVerticalFlip: vflip}
    crop = crops[0] if len(crops) == 1 else v2.RandomChoice(crops)
    return v2.Compose([crop, *(flip(chance) for flip, chance in flips.items() if chance > 0)])


def change_colors(
    settings: TransformSettings,
    auto_augment: str | None,
    jitter: float | Sequence[float] | None,
    jitter_prob: float | None,
    grayscale_prob: float,
    gaussian_blur_prob: float,
) -> v2.Compose:
    """The second stage of `create_transform`, whose arguments and errors these are; image in, image out."""
    steps: list[Any] = [parse_policy(auto_augment, settings.interpolation, settings.fill)] if auto_augment else []
    if jitter and (not auto_augment or "3a" in auto_augment):
        steps.append(_sometimes(_jitter(jitter), jitter_prob))
    steps += [v2.RandomGrayscale(grayscale_prob)] if grayscale_prob else []
    steps += [_sometimes(v2.GaussianBlur(23), gaussian_blur_prob)] if gaussian_blur_prob else []
    return v2.Compose(steps or [v2.Identity()])


def make_tensor(
    settings: TransformSettings, normalize: bool, re_prob: float, re_mode: str, re_count: int
) -> v2.Compose:
    """The last stage of `create_transform`, whose arguments and errors these are; image in, tensor out."""
    if re_mode not in _ERASING or re_count < 1:
        raise ValueError(
            f"re_mode is {re_mode!r} and re_count {re_count}, but must be one of {', '.join(_ERASING)}, and at least 1"
        )
    steps: list[Any] = [np.asarray, EvaluationTransform(settings, normalize=normalize).to_tensor]
    if re_prob > 0 and normalize:
        steps.append(_erasing(re_prob, re_mode, re_count))
    return v2.Compose(steps)


@dataclass(eq=False)
class RatioCrop:
    """Resize the short side to the size with a little scale and aspect, each with probability 0.5, and crop or pad.

    Attributes:
        size: (height, width) of the result, pixels.
        resampling: how pixels are interpolated.
        scale: share of the area that the crop shows.
        ratio: width over height, over the image's own.
        anywhere: cuts at a random place instead of the center.
    """

    size: tuple[int, int]
    resampling: Image.Resampling
    scale: tuple[float, float]
    ratio: tuple[float, float]
    anywhere: bool

    def __call__(self, image: Image.Image) -> Image.Image:
        """The crop, `size` large; what the image lacks is mirrored at its edges."""
        applied = torch.rand(2).tolist()
        draws = torch.rand(4).tolist()
        zoom = 1.0 if applied[0] >= 0.5 else 1 / math.sqrt(_between(*self.scale, draws[0]))
        aspect = 1.0
        if applied[1] < 0.5:
            low, high = (math.log(each) for each in self.ratio)
            aspect = math.exp(_between(low, high, draws[1]) / 2)
        (height, width), short = self.size, min(image.height / self.size[0], image.width / self.size[1])
        scaled = round(image.width * zoom * aspect / short), round(image.height * zoom / aspect / short)
        image = image.resize(scaled, self.resampling)
        places = draws[2:] if self.anywhere else None
        down, across = max(0, height - image.height), max(0, width - image.width)
        if down or across:
            left, top = across // 2, down // 2
            image = v2.Pad([left, top, across - left, down - top], padding_mode="reflect")(image)
        spare = image.height - height, image.width - width
        top, left = (
            round(room / 2.0) if places is None else int(place * (room + 1))
            for room, place in zip(spare, places or (0, 0), strict=True)
        )
        return image.crop((left, top, left + width, top + height))


@dataclass(eq=False)
class Erasing:
    """Random erasing (Zhong et al. 2020) of a normalized tensor, with timm's kinds and counts.

    Attributes:
        probability: that an image is changed.
        mode: what the rectangles hold: "const" zeros, "rand" one random color each, "pixel" noise.
        most: at most so many rectangles, each a share of the area.
    """

    probability: float
    mode: str
    most: int

    def __call__(self, values: Float[Tensor, "channels height width"]) -> Float[Tensor, "channels height width"]:
        """The values, perhaps with rectangles in them."""
        if torch.rand(()).item() >= self.probability:
            return values
        count = int(torch.randint(1, self.most + 1, ()).item())
        for _ in range(count):
            kinds: dict[str, Any] = {"const": 0, "pixel": "random", "rand": torch.randn(values.shape[0]).tolist()}
            values = _rectangle(1.0, kinds[self.mode], count)(values)
        return values


def _erasing(probability: float, mode: str, most: int) -> Callable[[Tensor], Tensor]:
    if mode == "rand" or most > 1:
        return Erasing(probability, mode, most)
    return _rectangle(probability, "random" if mode == "pixel" else 0)


def _rectangle(probability: float, value: Any, count: int = 1) -> v2.RandomErasing:
    """One rectangle of `count` that share the area."""
    return v2.RandomErasing(probability, scale=(0.02 / count, 1 / 3 / count), ratio=(0.3, 3.3), value=value)


def _jitter(strength: float | Sequence[float]) -> v2.ColorJitter:
    factors = [strength] * 3 if isinstance(strength, int | float) else list(strength)
    if len(factors) not in (3, 4):
        raise ValueError(f"color_jitter is {strength}, but must be one number, three or four")
    return v2.ColorJitter(*factors)


def _sometimes(step: Any, probability: float | None) -> Any:
    return step if probability is None else v2.RandomApply([step], probability)


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share
