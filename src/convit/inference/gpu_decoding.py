"""JPEG files decoded, resized and cropped on the GPU that runs the model; asked for with `decode="gpu"`.

Only files that such a decoder reads as Pillow does are handed to it: whole, upright, gray or RGB JPEG files without a
color profile to apply. All others are read on the CPU. Tested with a stand-in for the decoder; never run on a GPU.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from convit.images.colors import changes_colors
from convit.images.metadata import read_orientation
from convit.images.opening import ImageSource, open_header, read_bytes, source_name
from convit.transforms.evaluation import LARGEST_RESIZED, resized_size
from convit.transforms.settings import TransformSettings

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from PIL import Image
    from torch import Tensor

    Decode = Callable[[list[UInt8[Tensor, " bytes"]]], list[UInt8[Tensor, "3 height width"]]]

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_SMOOTH = ("bilinear", "bicubic")  # what PyTorch resizes with antialiasing


def find_decoder(device: torch.device) -> Decode:
    """Give the function that decodes JPEG files on a CUDA device: torchvision's, which uses nvJPEG.

    torchvision calls it deprecated since 0.29; where a later one has dropped it, that is said here.

    Raises:
        ValueError: the device is not a CUDA GPU, or this torchvision has no such decoder.
    """
    if device.type != "cuda":
        raise ValueError(f"decode is 'gpu', but the model runs on {device}; use device='cuda', or decode='cpu'")
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError as error:
        raise ValueError(
            "decode is 'gpu', but this torchvision cannot decode JPEG files any more; use decode='cpu'"
        ) from error

    def decode(files: list[Tensor]) -> list[Tensor]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return decode_jpeg(files, mode=ImageReadMode.RGB, device=device)  # pyright: ignore[reportReturnType]

    return decode


class GpuReader:
    """Turns JPEG files into cropped levels on a device.

    Pixels differ from those of the CPU's way: nvJPEG rounds otherwise than libjpeg (by how much was not measured), and
    PyTorch resizes in float where Pillow keeps 8 bits between its two passes.

    Args:
        decode: files (1-d uint8 tensors on the CPU) to RGB levels on the device; see `find_decoder`.
        settings: sizes, interpolation and crop.
        apply_exif: whether images are to be turned upright; those that would be turned are left to the CPU then.
    """

    def __init__(self, decode: Decode, settings: TransformSettings, *, apply_exif: bool) -> None:
        self._decode = decode
        self._settings = settings
        self._apply_exif = apply_exif

    def take(self, source: ImageSource) -> bytes | None:
        """Give the bytes of an image that `read` can read; `None` leaves it to the CPU, errors included."""
        settings = self._settings
        if settings.crop_mode == "border" or settings.interpolation not in _SMOOTH or settings.input_size[0] != 3:
            return None
        if not isinstance(source, str | os.PathLike | bytes):
            return None
        try:
            content = read_bytes(source)
            # without its end a file is cut off; Pillow says so
            if not (content.startswith(_START) and content.endswith(_END)):
                return None
            with open_header(content, source_name(source)) as image:
                return content if self._suits(image) else None
        except Exception:  # the CPU's way meets it again, and says what is wrong
            return None

    def read(self, files: list[bytes]) -> list[UInt8[Tensor, "height width 3"]] | None:
        """Decode, resize and crop files that `take` gave; `None` where the decoder refuses one, unnamed, of them."""
        encoded = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in files]
        try:
            images = self._decode(encoded)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return None
        return [self._crop(image) for image in images]

    def _suits(self, image: Image.Image) -> bool:
        profile = image.info.get("icc_profile")
        width, height = resized_size(image.width, image.height, self._settings)
        return (
            image.format == "JPEG"
            and image.mode in ("RGB", "L")
            # Adobe's mark for components that are RGB already
            and image.info.get("adobe_transform") != 0
            and not (self._apply_exif and read_orientation(image) != 1)
            and not (isinstance(profile, bytes) and changes_colors(profile, image.mode))
            and width * height <= LARGEST_RESIZED
        )

    def _crop(self, image: UInt8[Tensor, "3 height width"]) -> UInt8[Tensor, "height width 3"]:
        settings = self._settings
        width, height = resized_size(image.shape[2], image.shape[1], settings)
        resized = F.interpolate(
            image[None].float(), (height, width), mode=settings.interpolation, align_corners=False, antialias=True
        )
        top, left = round((height - settings.height) / 2.0), round((width - settings.width) / 2.0)
        cropped = resized[0, :, top : top + settings.height, left : left + settings.width]
        return cropped.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
