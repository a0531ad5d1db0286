"""numpy arrays as images."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from convit.images.colors import to_rgb
from convit.images.errors import ImageError


def array_to_image(array: np.ndarray, name: str = "<array>") -> Image.Image:
    """Read an array as one image.

    Args:
        array: (height, width) gray, or (height, width, channels) with 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA)
            channels, last. uint8 holds levels 0..255, uint16 levels 0..65535, bool black and white, other integers
            levels 0..255, float values 0..1.
        name: what messages call it.

    Returns:
        An RGB image; transparency is composited on white.

    Raises:
        ImageError: another shape, a type that is not a number, or values out of the type's range.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)) or 0 in array.shape:
        hint = "hand over list(batch)" if array.ndim == 4 else "move the channels last"
        raise ImageError(
            name,
            f"shape {array.shape} is not (height, width) or (height, width, channels) with 1 to 4 channels; {hint}",
        )
    levels = _to_levels(array, name)
    if levels.ndim == 3 and levels.shape[2] == 1:
        levels = levels[:, :, 0]
    return to_rgb(Image.fromarray(np.ascontiguousarray(levels)))


def _to_levels(array: np.ndarray, name: str) -> UInt8[np.ndarray, "height width *channels"]:
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return array
    if kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if kind not in "iuf":
        raise ImageError(name, f"type {array.dtype} holds no levels; use uint8, uint16 or float")
    limit = 1.0 if kind == "f" else 65535.0 if array.dtype == np.uint16 else 255.0
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= limit):  # also where a value is not a number
        raise ImageError(
            name,
            f"{array.dtype} values lie in {low:g}..{high:g}, but must lie in 0..{limit:g}; scale them"
            + (" or hand over uint8" if limit == 1.0 else ""),
        )
    return np.rint(array.astype(np.float64) * (255.0 / limit)).astype(np.uint8)
