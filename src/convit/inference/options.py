"""The options of a run, said once for the command line, `Classifier`, `Embedder` and `Evaluator`; needs no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from convit.optimization.precision import check_precision

if TYPE_CHECKING:
    import torch
    from torch import nn

    from convit.images.opening import ImageSource

DEFAULT_MODEL = "convit_base.fb_in1k"
_NAMELESS = ("weights.safetensors", "model.safetensors", "pytorch_model.bin")  # what every run calls its file
_MOST_NUMBERS = 1000  # in one range
KINDS = ("pooled", "pre_logits", "tokens", "patches", "layer:N")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a model is run over images.

    Attributes:
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" … or "mps". A module stays where it is under
            "auto", and is copied to another place otherwise.
        precision: "fp32", "bf16", "fp16", "fp8", "int8"; "auto": bf16 on CUDA GPUs that compute in it, else fp32; or
            "fastest": whichever of fp32 and the half precisions is timed as the fastest. A module keeps its own under
            "auto". See `convit.optimize`, which prepares models that are loaded by name.
        batch_size: images per forward pass; `None`: 8 on the CPU, 64 on a GPU.
        workers: threads that open images ahead of the model; `None`: one per core, 0: none.
        apply_exif: whether photographs are turned upright as their EXIF orientation asks.
        img_size: side or (height, width) of the model's input, pixels; `None`: what the model was made for.
        crop_pct: side of the model's input over that of the resized image, in [0.01, 1]; `None`: as the model was
            measured.
        fast_decode: whether large JPEG files are decoded at a fraction of their size, down to twice what is needed, and
            of every image only what the crop reads is resized: faster, and no longer equal to timm's preprocessing:
            the pixels of a photograph move by less than 5 of 255 levels on average.
        compile: puts the model through `torch.compile`: half a minute at the start, faster afterward.
        calibration: some images of the kind to come (16 to 300), on which int8 on a CPU chooses its ranges.

    Raises:
        ValueError: an option is out of range.
    """

    device: str | torch.device = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    apply_exif: bool = True
    img_size: int | tuple[int, int] | None = None
    crop_pct: float | None = None
    fast_decode: bool = False
    compile: bool = False
    calibration: Sequence[ImageSource] | None = None

    def __post_init__(self) -> None:
        check_precision(self.precision)
        for name, value, least in (("batch_size", self.batch_size, 1), ("workers", self.workers, 0)):
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, but must be at least {least}; leave it out to have it chosen")
        sides = (self.img_size,) if isinstance(self.img_size, int) else self.img_size
        if sides is not None and (len(sides) > 2 or min(sides) < 1):
            raise ValueError(f"img_size is {self.img_size}, but must be a side or (height, width) in pixels")
        if self.crop_pct is not None:
            from convit.transforms.settings import TransformSettings  # brings numpy

            TransformSettings(crop_pct=self.crop_pct)  # refuses what no preprocessing takes

    def check_shared(self) -> None:
        """Refuse "fastest" for work that several processes share, as each would time, and choose, for itself.

        Raises:
            ValueError: the precision is "fastest".
        """
        if self.precision == "fastest":
            raise ValueError("precision is 'fastest', which may differ between processes; name one, such as 'bf16'")

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that are not at their defaults, by name."""
        return {each.name: given for each in fields(self) if (given := getattr(self, each.name)) != each.default}


class RunKeywords(TypedDict, total=False):
    """The fields of `RunOptions` as keyword arguments, for those who check types."""

    device: str | torch.device
    precision: str
    batch_size: int | None
    workers: int | None
    apply_exif: bool
    img_size: int | tuple[int, int] | None
    crop_pct: float | None
    fast_decode: bool
    compile: bool
    calibration: Sequence[ImageSource] | None


def parse_size(text: str | None, option: str = "--img-size") -> int | tuple[int, int] | None:
    """Read an option such as `--img-size`: one number (square) or height x width, in pixels.

    Raises:
        ValueError: if the text is neither.

    >>> parse_size("224"), parse_size("112x448")
    (224, (112, 448))
    """
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and int(side) > 0 for side in sides):
        raise ValueError(
            f"{option} is {text!r}, but must be a number of pixels or HEIGHTxWIDTH, such as 224 or 112x448"
        )
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def parse_numbers(option: str, text: str, what: str = "numbers and ranges from 1, such as 1,4-6") -> list[int]:
    """Read a list of numbers and ranges, from 1; raises `ValueError`, which says `what` it must be, for anything else.

    >>> parse_numbers("--layers", "1,4-6")
    [1, 4, 5, 6]
    """
    numbers: list[int] = []
    for part in text.split(","):
        ends = [end.strip() for end in part.split("-")]
        if len(ends) > 2 or not all(end.isascii() and end.isdigit() and len(end) < 10 and int(end) for end in ends):
            raise ValueError(f"{option} is {text!r}, but must be {what}")
        first, last = int(ends[0]), int(ends[-1])
        if first > last or last - first >= _MOST_NUMBERS:
            rule = f"put the smaller number first, and name at most {_MOST_NUMBERS:,} numbers"
            raise ValueError(f"{option} is {text!r}, but {part} is not a valid range; {rule}")
        numbers += range(first, last + 1)
    return numbers


def check_kind(kind: str) -> None:
    """Refuse a kind of embedding that does not exist (see `Embedder`); needs no model.

    Raises:
        ValueError: another name.
    """
    if kind not in KINDS[:-1] and layer_of(kind) is None:
        from convit.output.text import short  # brings numpy

        raise ValueError(f"kind is {short(kind)}, but must be one of {', '.join(KINDS)} (N counts blocks from 0)")


def layer_of(kind: str) -> int | None:
    """The block's number in "layer:N"; `None` for other kinds.

    >>> layer_of("layer:7"), layer_of("tokens")
    (7, None)
    """
    match = re.fullmatch(r"layer:([0-9]{1,4})", kind)
    return int(match[1]) if match else None


def model_name(model: str | nn.Module | None, weights: str | Path | None) -> str:
    """What to call a model: its name, its file's, or that of the run or folder whose weights have no name of their own.

    >>> model_name(None, "runs/flowers/weights.safetensors"), model_name(None, "runs/roses.safetensors")
    ('flowers', 'roses.safetensors')
    """
    if model is not None and not isinstance(model, str):
        card: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
        known = ".".join(str(card[key]) for key in ("architecture", "tag") if card.get(key))
        return known or type(model).__name__
    if model is not None or weights is None:
        return model or DEFAULT_MODEL
    file = Path(weights).expanduser()
    return (file.resolve().parent.name if file.name in _NAMELESS else "") or file.name
