"""From any Pillow mode to RGB, in one documented way."""

import numpy as np
from jaxtyping import Float, Integer, UInt8
from PIL import Image

from convit.images.profiles import to_srgb

_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB.

    - 1 and L (black-and-white, gray): the level is repeated.
    - P (palette): the palette's colors.
    - Transparency (RGBA, LA, PA, a transparent palette entry or color): composited on white.
    - 16-bit gray (I;16): 0..65535 becomes 0..255, nothing is stretched. (Of 16-bit color Pillow keeps the upper half.)
    - 32-bit integers (I): read as 8-bit levels if all lie in 0..255, else as 16-bit ones if all lie in 0..65535;
      otherwise the range from smallest to largest is stretched over 0..255.
    - 32-bit float (F): read as 0..1 if all lie there, else as 8-bit levels if all lie in 0..255; otherwise stretched.
      Values that are not finite become black.
    - CMYK (and YCCK, which Pillow reads as CMYK), YCbCr, HSV, LAB: converted to RGB.
    - An embedded ICC profile is applied: RGB, gray and CMYK become sRGB. Broken profiles are passed over.

    Args:
        image: any Pillow image; it is not changed, but its pixels are loaded.

    Returns:
        An RGB image, `image` itself if there was nothing to do.

    Raises:
        OSError, SyntaxError, ValueError and what else Pillow's decoders raise: the pixels cannot be decoded.
    """
    image.load()
    profile = image.info.get("icc_profile")
    if image.mode in _DEEP_MODES:
        image = Image.fromarray(deep_to_levels(np.asarray(image)))
    if image.has_transparency_data:
        image = _composite_on_white(image)
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode == "P":
        image = image.convert("RGB")
    if isinstance(profile, bytes):
        image = to_srgb(image, profile)
    return image if image.mode == "RGB" else image.convert("RGB")


def deep_to_levels(
    values: Integer[np.ndarray, "height width"] | Float[np.ndarray, "height width"],
) -> UInt8[np.ndarray, "height width"]:
    """Bring gray values of 16 or 32 bits to 0..255, by the rules of `to_rgb`.

    >>> deep_to_levels(np.array([[0, 257, 65535]], dtype=np.uint16))
    array([[  0,   1, 255]], dtype=uint8)
    """
    if values.dtype.itemsize == 2:
        return _scale(values, 0.0, 65535.0)
    finite = np.isfinite(values)
    if not finite.all():
        values = np.where(finite, values, values[finite].min(initial=0))
    low, high = float(values.min()), float(values.max())
    limits = (1.0, 255.0) if values.dtype.kind == "f" else (255.0, 65535.0)
    for limit in limits:
        if low >= 0.0 and high <= limit:
            return _scale(values, 0.0, limit)
    return _scale(values, low, high if high > low else low + 1.0)


def _scale(values: np.ndarray, low: float, high: float) -> UInt8[np.ndarray, "height width"]:
    stretched = (values.astype(np.float64) - low) * (255.0 / (high - low))
    return np.rint(stretched).astype(np.uint8)


def _composite_on_white(image: Image.Image) -> Image.Image:
    # gray stays gray, so that a gray profile still fits
    mode = "LA" if image.mode in ("LA", "La", "L", "1") else "RGBA"
    layered = image if image.mode == mode else image.convert(mode)
    opaque = mode.removesuffix("A") if mode == "LA" else "RGB"
    alpha = layered.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return layered.convert(opaque)
    white = Image.new(opaque, image.size, "white")
    white.paste(layered.convert(opaque), mask=alpha)
    return white
