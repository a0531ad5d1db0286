"""Images from anywhere: listed, opened safely, upright, 8-bit RGB; one line that says what is wrong with the others.

Every command and every data set lists and opens through this package, so that all of them see the same pixels. Start
reading at `opening.py`. Nothing here imports torch.
"""

from convit.images.formats import IMAGE_SUFFIXES, ImageError
from convit.images.limits import Limits, current_limits
from convit.images.listing import find_images
from convit.images.opening import ImageSource, open_image, source_name

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageError",
    "ImageSource",
    "Limits",
    "current_limits",
    "find_images",
    "open_image",
    "source_name",
]
