"""The evaluation transform: Pillow and numpy, with a thin edge to torch."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from convit.transforms.settings import TransformSettings

if TYPE_CHECKING:
    from torch import Tensor

# An image a thousand times longer than high would become gigabytes when its short side is scaled to 256 pixels.
_LARGEST_RESIZED = 2**26  # pixels


class EvaluationTransform:
    """Turns one image into a model's input, the same every time.

    Resizes (antialiased), crops and normalizes as timm 1.0.31's evaluation transform does, equal to the last bit on
    8-bit RGB images. Nothing is drawn at random and EXIF orientation is left alone: `convit.images.open_image`
    applies it. Instances can be pickled and shared between threads.

    Args:
        settings: sizes, interpolation, crop and scale.
        normalize: whether a call gives normalized float32 values; otherwise it gives the cropped uint8 pixel values.
        border: pixels that are cut off every side first.

    Attributes:
        least_side: pixels that an image's sides must keep where it is decoded at a fraction of its size.

    >>> EvaluationTransform(TransformSettings(input_size=(3, 32, 48)))(Image.new("RGB", (640, 480))).shape
    torch.Size([3, 32, 48])
    """

    def __init__(self, settings: TransformSettings, *, normalize: bool = True, border: int = 0) -> None:
        self.settings, self.border = settings, border
        self.normalize_output = normalize
        # twice the size before the crop leaves the resizing enough to average over
        self.least_side = 2 * max(settings.resized_size)

    def __call__(
        self, image: Image.Image
    ) -> Float32[Tensor, "channels height width"] | UInt8[Tensor, "channels height width"]:
        """Return the model's input for one Pillow image, converted to RGB (or L, for gray input) as Pillow does.

        It lies on the CPU: float32 and normalized, or uint8 with `normalize=False`. Raises the errors of `to_pixels`.
        """
        return self.to_tensor(self.to_pixels(image))

    def to_tensor(self, pixels: UInt8[np.ndarray, "height width channels"]) -> Tensor:
        """Return what a call gives, for an image that has been cropped."""
        import torch

        if self.normalize_output:
            return torch.from_numpy(self.normalize(pixels))
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 0)))

    def to_pixels(
        self, image: Image.Image, full_size: tuple[int, int] | None = None
    ) -> UInt8[np.ndarray, "height width channels"]:
        """Resize and crop one image, without scaling its levels.

        Args:
            image: a Pillow image; with `full_size` perhaps one that was decoded at a fraction of its size, see
                `convit.images.opening.opened`.
            full_size: (width, height) of the image at full size, for nearly the same in about half the time: only what
                the crop reads is resized, so that some pixels differ by a few levels, as far as the image is not
                reduced. The crop mode "border", which cuts nothing off, ignores it.

        Raises:
            TypeError: `image` is not a Pillow image.
            ValueError: nothing is left of it within the border.
        """
        if not isinstance(image, Image.Image):
            raise TypeError(
                f"the transform takes a Pillow image, not {type(image).__name__}; see convit.images.open_image"
            )
        if self.border:
            image, inner = _without_border(image, self.border, full_size or image.size)
            full_size = None if full_size is None else inner
        mode = "RGB" if self.settings.input_size[0] == 3 else "L"
        # gray stays gray until it is small, unless it gets a border in color
        if image.mode != mode and (image.mode != "L" or self.settings.crop_mode == "border"):
            image = image.convert(mode)
        if full_size is None or self.settings.crop_mode == "border":
            cropped = _resize_and_crop(image, self.settings)
        else:
            cropped = _crop_while_resizing(image, full_size, self.settings)
        pixels = np.asarray(cropped if cropped.mode == mode else cropped.convert(mode))
        return pixels if pixels.ndim == 3 else pixels[:, :, None]

    def to_array(self, image: Image.Image) -> Float32[np.ndarray, "channels height width"]:
        """Return the model's input for one image, normalized, without torch."""
        return self.normalize(self.to_pixels(image))

    def normalize(
        self, pixels: UInt8[np.ndarray, "*batch height width channels"]
    ) -> Float32[np.ndarray, "*batch channels height width"]:
        """Scale uint8 pixel values to what the model was trained on: (level / 255 - mean) / std, channels first."""
        # each of the 256 levels is scaled once, with the roundings of float32 arithmetic on whole images
        shape = (*pixels.shape[:-3], pixels.shape[-1], *pixels.shape[-3:-1])
        values = np.empty(shape, dtype=np.float32)
        for channel, levels in enumerate(self._levels):
            np.take(levels, pixels[..., channel], out=values[..., channel, :, :], mode="clip")
        return values

    @cached_property
    def _levels(self) -> Float32[np.ndarray, "channels 256"]:
        levels = np.arange(256, dtype=np.float32) / np.float32(255)
        mean, std = (np.array(values, dtype=np.float32)[:, None] for values in (self.settings.mean, self.settings.std))
        return (levels - mean) / std

    def __repr__(self) -> str:
        chosen = ", ".join(f"{name}={value!r}" for name, value in self.settings.to_dict().items())
        chosen += "" if self.normalize_output else ", normalize=False"
        return f"{type(self).__name__}({chosen}{f', border={self.border}' if self.border else ''})"


def _without_border(image: Image.Image, border: int, full_size: tuple[int, int]) -> tuple[Image.Image, tuple[int, int]]:
    """Cut pixels of the full size off every side of an image, and give it with its new full size (width, height)."""
    width, height = full_size
    if min(width, height) <= 2 * border:
        raise ValueError(f"an image of {width} x {height} pixels (width x height) ends within a border of {border}")
    across, down = round(border * image.width / width), round(border * image.height / height)
    inner = image.crop((across, down, image.width - across, image.height - down))
    return inner, (width - 2 * border, height - 2 * border)


def normalize_batch(
    pixels: UInt8[Tensor, "batch height width channels"], settings: TransformSettings
) -> Float32[Tensor, "batch channels height width"]:
    """Scale a batch of uint8 pixel values on its device, equal to `EvaluationTransform.normalize` to the last bit."""
    import torch

    def constants(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=pixels.device).view(1, -1, 1, 1)

    levels = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    # by a tensor and not by a number: GPUs multiply by the rounded reciprocal of a number
    return levels.div_(constants(255.0)).sub_(constants(*settings.mean)).div_(constants(*settings.std))


def _resize_and_crop(image: Image.Image, settings: TransformSettings) -> Image.Image:
    """Scale an image, and cut the center out of it or fill it up to the settings' size."""
    channels, height, width = settings.input_size
    scaled_width, scaled_height = _resized_size(image.width, image.height, settings)
    if scaled_width * scaled_height > _LARGEST_RESIZED:
        return _crop_while_resizing(image, image.size, settings)
    image = image.resize((scaled_width, scaled_height), Image.Resampling[settings.interpolation.upper()])
    # Python's round: halves go to the even neighbor; where there is less than the size, the odd pixel goes to the end
    left, top = (round(by / 2) if by > 0 else -(-by // 2) for by in (scaled_width - width, scaled_height - height))
    fill = settings.fill if settings.crop_mode == "border" else (0,) * channels
    cropped = Image.new(image.mode, (width, height), fill if image.mode == "RGB" else fill[0])
    cropped.paste(image, (-left, -top))
    return cropped


def _resized_size(width: int, height: int, settings: TransformSettings) -> tuple[int, int]:
    """Return the (width, height) in pixels that an image is scaled to before the crop."""
    target_height, target_width = settings.resized_size
    if settings.crop_mode == "squash":
        return target_width, target_height
    if settings.crop_mode == "center" and target_height == target_width:
        # the short side is exact; the long one is rounded down
        short = min(width, height)
        return int(target_width * width / short), int(target_height * height / short)
    ratios = height / target_height, width / target_width
    ratio = max(ratios) if settings.crop_mode == "border" else min(ratios)
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def _crop_while_resizing(image: Image.Image, full_size: tuple[int, int], settings: TransformSettings) -> Image.Image:
    """Scale only what the center crop reads, in place of `_resize_and_crop`.

    Differs from it by a few levels in some pixels: Pillow keeps the box that it scales in single precision, and may
    take height before width. `full_size`, (width, height), decides where the crop lies.
    """
    width, height = _resized_size(*full_size, settings)
    left, top = round((width - settings.width) / 2.0), round((height - settings.height) / 2.0)
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, (left + settings.width) * across, (top + settings.height) * down)
    # single precision may round the far edges up by a little, which Pillow would refuse
    box = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))
    resampling = Image.Resampling[settings.interpolation.upper()]
    return image.resize((settings.width, settings.height), resampling, box)
