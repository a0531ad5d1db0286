"""The numbers that turn an image into a model's input, and where they are read from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from numbers import Integral, Real
from typing import Any

from convit.output.text import short

_log = logging.getLogger(__name__)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CROP_MODES = ("center", "squash", "border")
_LARGEST_SIDE = 2**14  # pixels
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")


@dataclass(frozen=True)
class TransformSettings:
    """How images are resized, cropped and scaled before a model sees them.

    The names and meanings are timm's, so that a `pretrained_cfg` can be handed over as it is.

    Attributes:
        input_size: (channels, height, width) of the model's input, pixels; channels is 3 (RGB) or 1 (gray).
        interpolation: one of "nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"; always antialiased.
        mean: subtracted per channel, on a scale where white is 1.
        std: what the difference is divided by, per channel, on the same scale.
        crop_pct: input side over resized side, in [0.01, 1]: 224 / 0.875 = 256 pixels before the crop. Rounded down.
        crop_mode: "center" keeps the aspect ratio and cuts the center out; "squash" stretches both sides to the size
            before the crop; "border" fits the whole image in and fills the rest with the mean color.

    Raises:
        ValueError: a value is out of range.

    >>> TransformSettings(input_size=(3, 224, 224)).resized_size
    (256, 256)
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop_pct: float = 0.875
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        size = self.input_size
        if (
            not isinstance(size, Sequence)
            or len(size) != 3
            or size[0] not in (1, 3)
            or not all(isinstance(number, Integral) and 1 <= number <= _LARGEST_SIDE for number in size)
        ):
            raise ValueError(
                f"input_size is {short(size)}, but must be (channels, height, width) with 1 or 3 channels and "
                f"sides of at most {_LARGEST_SIDE:,} pixels"
            )
        for name, known in (("interpolation", INTERPOLATIONS), ("crop_mode", CROP_MODES)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} is {short(value)}, but must be one of {', '.join(known)}")
        if not isinstance(self.crop_pct, Real) or not 0.01 <= self.crop_pct <= 1.0:
            raise ValueError(f"crop_pct is {short(self.crop_pct)}, but must lie in [0.01, 1]")
        object.__setattr__(self, "input_size", tuple(int(number) for number in size))
        object.__setattr__(self, "mean", _per_channel("mean", self.mean, size[0]))
        object.__setattr__(self, "std", _per_channel("std", self.std, size[0]))
        if min(self.std) <= 0.0:
            raise ValueError(f"std is {self.std}, but every channel's must be above 0")

    @property
    def height(self) -> int:
        """Height of the model's input, pixels."""
        return self.input_size[1]

    @property
    def width(self) -> int:
        """Width of the model's input, pixels."""
        return self.input_size[2]

    @cached_property
    def resized_size(self) -> tuple[int, int]:
        """(height, width) before the crop, pixels: the input's sides over `crop_pct`, rounded down."""
        _, height, width = self.input_size
        return int(height / self.crop_pct), int(width / self.crop_pct)

    @property
    def fill(self) -> tuple[int, ...]:
        """The mean color as uint8 pixel values: what "border" puts around an image."""
        return tuple(round(255 * level) for level in self.mean)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as keyword arguments of `create_transform`."""
        return asdict(self)

    @classmethod
    def from_card(cls, card: Mapping[str, Any], **changes: Any) -> TransformSettings:
        """Read the settings out of what describes weights: a card, a `pretrained_cfg`, a recipe's section.

        Args:
            card: holds fields by name, lists for tuples, and whatever else; those that are missing or `None`, as in
                older files, take their defaults.
            changes: fields that win over the card's; `None` is skipped.

        Raises:
            ValueError: a value is out of range.
        """
        found = {**{name: card.get(name) for name in _FIELDS}, **{k: v for k, v in changes.items() if v is not None}}
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in found.items()
            if value is not None
        }
        return cls(**given)

    @classmethod
    def from_model(
        cls,
        model: Any,
        args: Mapping[str, Any] | None = None,
        pretrained_cfg: Mapping[str, Any] | None = None,
        use_test_size: bool = False,
    ) -> TransformSettings:
        """Read the settings that a model was trained or published with; see `resolve_model_data_config`."""
        card = pretrained_cfg or getattr(model, "pretrained_cfg", None) or {}
        if use_test_size:
            tests = {key: card.get(f"test_{key}") for key in ("input_size", "crop_pct")}
            card = {**card, **{key: value for key, value in tests.items() if value}}
        given = args or {}
        wanted = {key: given[key] for key in _FIELDS if given.get(key) not in (None, "", 0)}
        if "input_size" not in wanted:
            config = getattr(model, "config", None)
            chosen = next((given[key] for key in ("in_chans", "chans") if given.get(key) is not None), None)
            own = card.get("input_size") or (
                int(chosen or getattr(config, "in_chans", 3)),
                *as_height_width(getattr(config, "img_size", 224)),
            )
            img_size = given.get("img_size")
            wanted["input_size"] = (
                tuple(own) if img_size is None else (int(chosen or own[0]), *as_height_width(img_size))
            )
        return cls.from_card(card, **wanted)


def resolve_data_config(
    args: Mapping[str, Any] | None = None,
    pretrained_cfg: Mapping[str, Any] | None = None,
    model: Any = None,
    use_test_size: bool = False,
    verbose: bool = False,
) -> dict[str, Any]:
    """`resolve_model_data_config` with its arguments in another order, and without a model if need be.

    Raises:
        ValueError: a value is out of range, or none of model, args and pretrained_cfg is given.
    """
    if model is None and not args and not pretrained_cfg:
        raise ValueError("nothing says how images are prepared; give a model, args or a pretrained_cfg")
    return resolve_model_data_config(model, args, pretrained_cfg, use_test_size, verbose)


def resolve_model_data_config(
    model: Any,
    args: Mapping[str, Any] | None = None,
    pretrained_cfg: Mapping[str, Any] | None = None,
    use_test_size: bool = False,
    verbose: bool = False,
) -> dict[str, Any]:
    """Read the preprocessing that belongs to a model, as keyword arguments of `create_transform`.

    Args:
        model: any object; its `pretrained_cfg` (dict) is read if there is one, and `config.img_size` and
            `config.in_chans` where that says nothing of the input's size.
        args: values that win over the model's; keys as in the result, and `img_size` (pixels: one side, or
            (height, width)) with `in_chans`, for which the model's channels stand. Those that are None, 0 or empty are
            passed over.
        pretrained_cfg: read in place of the model's own.
        use_test_size: takes `test_input_size` and `test_crop_pct`, where they are known.
        verbose: logs the result.

    Returns:
        A dict with `input_size` (channels, height, width), `interpolation`, `mean`, `std`, `crop_pct` and `crop_mode`;
        what nobody says is ImageNet's: 224 x 224, bicubic, ImageNet's mean and deviation, 0.875, "center".

    Raises:
        ValueError: a value is out of range.
    """
    found = TransformSettings.from_model(model, args, pretrained_cfg, use_test_size).to_dict()
    if verbose:
        _log.info("images are prepared with %s", found)
    return found


def as_height_width(size: int | Sequence[int]) -> tuple[int, int]:
    """Read one side, (height, width) or (channels, height, width) as (height, width), pixels.

    Raises:
        ValueError: another number of values.

    >>> as_height_width(224), as_height_width((3, 112, 448))
    ((224, 224), (112, 448))
    """
    if isinstance(size, int):
        return size, size
    if len(size) not in (2, 3):
        raise ValueError(f"a size is one side, (height, width) or (channels, height, width), but got {tuple(size)}")
    return int(size[-2]), int(size[-1])


_FIELDS = tuple(field.name for field in fields(TransformSettings))


def _per_channel(name: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    """One number per channel; a single number holds for all, and a gray input takes the average of three."""
    if not isinstance(values, Sequence) or not all(isinstance(each, Real) and abs(each) <= 1e6 for each in values):
        raise ValueError(f"{name} is {short(values)}, but must be numbers up to a million, one per channel")
    numbers = tuple(float(value) for value in values)
    if len(numbers) == channels:
        return numbers
    if len(numbers) == 1:
        return numbers * channels
    if channels == 1 and len(numbers) == 3:
        return (sum(numbers) / 3,)
    raise ValueError(f"{name} has {len(numbers)} values, but {channels} channels need {channels} of them, or one")
