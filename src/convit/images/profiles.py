"""Color profiles: images that say what their numbers mean are converted to sRGB."""

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

# The largest difference, in 8-bit levels, at which a profile counts as sRGB itself: sRGB profiles differ by as much.
_SAME_AS_SRGB = 2


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an image from its ICC profile's colors to sRGB.

    Args:
        image: mode L, RGB, CMYK or LAB.
        profile: the ICC profile that the file carries.

    Returns:
        An RGB image; or `image` itself where there is nothing to convert: no profile, one that is sRGB to within two
        levels, or one that is broken or belongs to another mode.
    """
    transform = _transform_to_srgb(profile, image.mode) if profile else None
    return image if transform is None else transform.apply(image)


def changes_colors(profile: bytes, mode: str) -> bool:
    """Whether `to_srgb` would convert an image of this mode with this profile."""
    return _transform_to_srgb(profile, mode) is not None


# Images of one folder mostly come from one camera, and building a transform costs more than a small image takes.
@lru_cache(maxsize=32)
def _transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
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
