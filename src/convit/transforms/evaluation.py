"""The evaluation transform: Pillow and numpy, with a thin edge to torch."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from convit.transforms.cropping import crop_or_pad_center, crop_while_resizing, resize_for_crop
from convit.transforms.settings import TransformSettings

if TYPE_CHECKING:
    from torch import Tensor


class EvaluationTransform:
    """Turns one picture into a model's input, the same every time.

    Resizes (antialiased), crops and normalizes as timm 1.0.31's evaluation transform does, equal to the last bit on
    8-bit RGB pictures. Nothing is drawn at random and EXIF orientation is left alone: `convit.images.open_image`
    applies it. Instances can be pickled and shared between threads.

    Args:
        settings: sizes, interpolation, crop and scale.
        normalize: whether a call gives normalized float32 values; otherwise it gives the cropped 8-bit levels.

    >>> EvaluationTransform(TransformSettings(input_size=(3, 32, 48)))(Image.new("RGB", (640, 480))).shape
    torch.Size([3, 32, 48])
    """

    def __init__(self, settings: TransformSettings, *, normalize: bool = True) -> None:
        self.settings = settings
        self.normalize_output = normalize

    def __call__(
        self, image: Image.Image
    ) -> Float32[Tensor, "channels height width"] | UInt8[Tensor, "channels height width"]:
        """Give the model's input for one picture.

        Args:
            image: a Pillow image; modes other than RGB (or L, for gray input) are converted as Pillow does.

        Returns:
            A tensor of the settings' input size on the CPU: float32, normalized; or uint8 with `normalize=False`.

        Raises:
            TypeError: `image` is no Pillow image.
        """
        import torch

        if self.normalize_output:
            return torch.from_numpy(self.to_array(image))
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(self.to_pixels(image), -1, 0)))

    def to_pixels(self, image: Image.Image) -> UInt8[np.ndarray, "height width channels"]:
        """Resize and crop one picture, without scaling its levels.

        Raises:
            TypeError: `image` is no Pillow image.
        """
        image, settings = self._in_mode(image), self.settings
        fill = settings.fill if settings.crop_mode == "border" else (0,) * len(settings.mean)
        resized = resize_for_crop(image, settings)
        return _levels_of(crop_or_pad_center(resized, settings.height, settings.width, fill))

    def to_nearly_equal_pixels(
        self, image: Image.Image, full_size: tuple[int, int]
    ) -> UInt8[np.ndarray, "height width channels"]:
        """Give nearly what `to_pixels` gives, in about half its time: only what the crop reads is resized.

        Args:
            image: a Pillow image, perhaps decoded at a fraction of its size; see
                `convit.images.opening.open_reduced`.
            full_size: (width, height) of the picture at full size; the crop lies where it would lie in that.

        Returns:
            The cropped levels: equal to those of `to_pixels` but for a few levels in some pixels, as far as the image
            is not reduced. With the crop mode "border", which cuts nothing off, they are those of `to_pixels`.

        Raises:
            TypeError: `image` is no Pillow image.
        """
        if self.settings.crop_mode == "border":
            return self.to_pixels(image)
        return _levels_of(crop_while_resizing(self._in_mode(image), full_size, self.settings))

    def _in_mode(self, image: Image.Image) -> Image.Image:
        if not isinstance(image, Image.Image):
            raise TypeError(
                f"the transform takes a Pillow image, not {type(image).__name__}; see convit.images.open_image"
            )
        mode = "RGB" if self.settings.input_size[0] == 3 else "L"
        return image if image.mode == mode else image.convert(mode)

    def to_array(self, image: Image.Image) -> Float32[np.ndarray, "channels height width"]:
        """Give the model's input for one picture without torch.

        Raises:
            TypeError: `image` is no Pillow image.
        """
        return self.normalize(self.to_pixels(image))

    def normalize(
        self, pixels: UInt8[np.ndarray, "*batch height width channels"]
    ) -> Float32[np.ndarray, "*batch channels height width"]:
        """Scale 8-bit levels to what the model was trained on: (level / 255 - mean) / std, channels first."""
        # each of the 256 levels is scaled once, with the roundings of float32 arithmetic on whole pictures
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
        return f"{type(self).__name__}({chosen}{'' if self.normalize_output else ', normalize=False'})"


def _levels_of(image: Image.Image) -> UInt8[np.ndarray, "height width channels"]:
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]
