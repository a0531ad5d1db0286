"""From arrays and any Pillow mode to RGB, in one documented way; an image with a color profile becomes sRGB."""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms

from convit.images.formats import ImageError

# The largest difference, in 8-bit levels, at which a profile counts as sRGB itself: sRGB profiles differ by as much.
_SAME_AS_SRGB = 2


# Images of one folder mostly come from one camera, and building a transform costs more than a small image takes.
@lru_cache(maxsize=32)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """How an image of this mode (L, RGB, CMYK or LAB) becomes sRGB by its ICC profile.

    None if there is nothing to convert: it is sRGB to within two levels, or is broken or belongs to another mode.
    """
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        probe = _probe(mode)
        difference = np.abs(np.asarray(transform.apply(probe), np.int16) - np.asarray(probe.convert("RGB"), np.int16))
    except Exception:  # a broken profile: littlecms, its binding and Pillow each have their own errors
        return None
    return None if difference.max() <= _SAME_AS_SRGB else transform


def _probe(mode: str) -> Image.Image:
    """A few colors from all over the cube, as an image of the given mode."""
    bands = Image.getmodebands(mode)
    levels = np.linspace(0, 255, 6).astype(np.uint8)
    colors = np.stack(np.meshgrid(*[levels] * bands), axis=-1).reshape(1, -1, bands)
    return Image.frombytes(mode, (colors.shape[1], 1), colors.tobytes())


# How Pillow makes 8 bits of the levels of PNG files, by its name for how a file stores them. The transparent color it
# leaves as it is stored.
_LEVELS_OF: dict[str, Callable[[int], int]] = {
    "L;2": lambda level: 85 * level,
    "L;4": lambda level: 17 * level,
    "RGB;16B": lambda level: level >> 8,
}
_GRAY_MODES = ("1", "L", "LA", "La")
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_STRIP = 2**20  # pixels that are converted at once, so that a large image takes little more than its own memory


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB.

    - 1 and L (black-and-white, gray): the level is repeated.
    - P (palette): the palette's colors.
    - Transparency (RGBA, LA, PA, a transparent palette entry or color): composited on white.
    - 16-bit gray (I;16): 0..65535 becomes 0..255, nothing is stretched. (Of 16-bit color Pillow keeps the upper half,
      by which a transparent color is then found.)
    - 32-bit integers (I): read as 8-bit levels if all lie in 0..255, else as 16-bit ones if all lie in 0..65535;
      otherwise the range from smallest to largest is stretched over 0..255.
    - 32-bit float (F): read as 0..1 if all lie there, else as 8-bit levels if all lie in 0..255; otherwise stretched.
      Values that are not finite become black.
    - CMYK (and YCCK, which Pillow reads as CMYK), YCbCr, HSV, LAB: converted to RGB.
    - An embedded ICC profile is applied: RGB, gray and CMYK become sRGB. Broken profiles are skipped.

    The image is loaded, and given itself if there is nothing to do; whatever Pillow's decoders raise is passed on.
    """
    levels = to_levels(image)
    return levels if levels.mode == "RGB" else levels.convert("RGB")


def to_levels(image: Image.Image) -> Image.Image:
    """Convert an image as `to_rgb` does, but leave gray in mode L: a third of the work, a quarter of the memory."""
    if "transparency" in image.info:
        decode_transparent_color(image)
    image.load()
    profile = image.info.get("icc_profile")
    if image.mode in _DEEP_MODES:
        low, high = _range_of(image)
        clear = image.info.get("transparency")
        image = _by_strips(image, "L", lambda strip: Image.fromarray(_scale(np.asarray(strip), low, high, clear)))
    if image.has_transparency_data:
        # gray stays gray, so that a gray profile still fits
        image = _by_strips(image, "L" if image.mode in _GRAY_MODES else "RGB", _composite_on_white)
    if image.mode in ("1", "P"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    transform = _to_srgb(profile, image.mode) if isinstance(profile, bytes) else None
    image = image if transform is None else transform.apply(image)
    return image if image.mode in ("RGB", "L") else image.convert("RGB")


def decode_transparent_color(image: Image.Image) -> None:
    """Before an image is loaded, bring the transparent color of a PNG file to the bits that its pixels have then."""
    stored = "".join(str(tile[3]) for tile in getattr(image, "tile", ()))
    levels_of, clear = _LEVELS_OF.get(stored), image.info.get("transparency")
    if levels_of is not None and clear is not None:
        image.info["transparency"] = tuple(map(levels_of, clear)) if isinstance(clear, tuple) else levels_of(clear)


def peak_bytes(image: Image.Image, *, turns: bool = False) -> int:
    """Memory that an image's pixels and the copies that `to_rgb` makes of them take, at most; before it is decoded.

    Pillow keeps a color in 4 bytes; the image itself stays beside the last two copies. `turns` says whether it is
    turned upright afterwards, which makes one more.
    """
    copies = turns + (image.mode != "RGB" or "transparency" in image.info)
    if isinstance(profile := image.info.get("icc_profile"), bytes):
        gray = image.mode in (*_GRAY_MODES, *_DEEP_MODES)
        copies += _to_srgb(profile, "L" if gray else image.mode if image.mode == "CMYK" else "RGB") is not None
    own = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    return image.width * image.height * (own + 4 * min(copies, 2))


def _by_strips(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    made = Image.new(mode, image.size)
    for strip in _strips(image):
        made.paste(convert(image.crop(strip)), strip)
    return made


def _strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    rows = max(1, _STRIP // image.width)
    return ((0, top, image.width, min(top + rows, image.height)) for top in range(0, image.height, rows))


def _range_of(image: Image.Image) -> tuple[float, float]:
    """Which values of a gray image of 16 or 32 bits become 0 and 255, by the rules of `to_rgb`."""
    if image.mode not in ("I", "F"):
        return 0.0, 65535.0
    low, high = math.inf, -math.inf
    for strip in _strips(image):
        values = np.asarray(image.crop(strip))
        finite = values[np.isfinite(values)]
        black = 0.0 if finite.size < values.size else math.inf
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        low, high = min(low, black), max(high, -black)
    for limit in (1.0, 255.0) if image.mode == "F" else (255.0, 65535.0):
        if low >= 0.0 and high <= limit:
            return 0.0, limit
    return low, high if high > low else low + 1.0


def _scale(values: np.ndarray, low: float, high: float, clear: int | None) -> UInt8[np.ndarray, "height width"]:
    is_clear = values == clear
    values = np.where(np.isfinite(values), values, low) if values.dtype.kind == "f" else values
    stretched = (values.astype(np.float64) - low) * (255.0 / (high - low))
    return np.where(is_clear, 255, np.rint(stretched)).astype(np.uint8)


def _composite_on_white(image: Image.Image) -> Image.Image:
    mode = "LA" if image.mode in _GRAY_MODES else "RGBA"
    layered = image if image.mode == mode else image.convert(mode)
    opaque = mode.removesuffix("A")
    alpha = layered.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return layered.convert(opaque)
    white = Image.new(opaque, image.size, "white")
    white.paste(layered.convert(opaque), mask=alpha)
    return white


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
