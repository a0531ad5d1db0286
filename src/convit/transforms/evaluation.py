"""The evaluation transform: Pillow and numpy, with a thin edge to torch."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from convit.transforms.cropping import crop_while_resizing, resize_and_crop
from convit.transforms.settings import TransformSettings

if TYPE_CHECKING:
    from torch import Tensor


class EvaluationTransform:
    """Turns one image into a model's input, the same every time.

    Resizes (antialiased), crops and normalizes as timm 1.0.31's evaluation transform does, equal to the last bit on
    8-bit RGB images. Nothing is drawn at random and EXIF orientation is left alone: `convit.images.open_image`
    applies it. Instances can be pickled and shared between threads.

    Args:
        settings: sizes, interpolation, crop and scale.
        normalize: whether a call gives normalized float32 values; otherwise it gives the cropped uint8 pixel values.

    >>> EvaluationTransform(TransformSettings(input_size=(3, 32, 48)))(Image.new("RGB", (640, 480))).shape
    torch.Size([3, 32, 48])
    """

    def __init__(self, settings: TransformSettings, *, normalize: bool = True) -> None:
        self.settings = settings
        self.normalize_output = normalize

    def __call__(
        self, image: Image.Image
    ) -> Float32[Tensor, "channels height width"] | UInt8[Tensor, "channels height width"]:
        """Give the model's input for one image.

        Args:
            image: a Pillow image; modes other than RGB (or L, for gray input) are converted as Pillow does.

        Returns:
            A tensor of the settings' input size on the CPU: float32, normalized; or uint8 with `normalize=False`.

        Raises:
            TypeError: `image` is not a Pillow image.
        """
        import torch

        if self.normalize_output:
            return torch.from_numpy(self.to_array(image))
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(self.to_pixels(image), -1, 0)))

    def to_pixels(
        self, image: Image.Image, full_size: tuple[int, int] | None = None
    ) -> UInt8[np.ndarray, "height width channels"]:
        """Resize and crop one image, without scaling its levels.

        Args:
            image: a Pillow image; with `full_size` perhaps one that was decoded at a fraction of its size, see
                `convit.images.opening.open_reduced`.
            full_size: (width, height) of the image at full size, for nearly the same in about half the time: only what
                the crop reads is resized, so that some pixels differ by a few levels, as far as the image is not
                reduced. The crop mode "border", which cuts nothing off, ignores it.

        Raises:
            TypeError: `image` is not a Pillow image.
        """
        if not isinstance(image, Image.Image):
            raise TypeError(
                f"the transform takes a Pillow image, not {type(image).__name__}; see convit.images.open_image"
            )
        mode = "RGB" if self.settings.input_size[0] == 3 else "L"
        image = image if image.mode == mode else image.convert(mode)
        if full_size is None or self.settings.crop_mode == "border":
            pixels = np.asarray(resize_and_crop(image, self.settings))
        else:
            pixels = np.asarray(crop_while_resizing(image, full_size, self.settings))
        return pixels if pixels.ndim == 3 else pixels[:, :, None]

    def to_array(self, image: Image.Image) -> Float32[np.ndarray, "channels height width"]:
        """Give the model's input for one image without torch.

        Raises:
            TypeError: `image` is not a Pillow image.
        """
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
        return f"{type(self).__name__}({chosen}{'' if self.normalize_output else ', normalize=False'})"


def normalize_batch(
    pixels: UInt8[Tensor, "batch height width channels"], settings: TransformSettings
) -> Float32[Tensor, "batch channels height width"]:
    """Scale a batch of uint8 pixel values on its device, equal to `EvaluationTransform.normalize` to the last bit.

    Args:
        pixels: levels, channels last, as `EvaluationTransform.to_pixels` gives them.
        settings: where mean and deviation are read.
    """
    import torch

    def constants(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=pixels.device).view(1, -1, 1, 1)

    levels = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    # by a tensor and not by a number: GPUs multiply by the rounded reciprocal of a number
    return levels.div_(constants(255.0)).sub_(constants(*settings.mean)).div_(constants(*settings.std))
