from .formats import IMAGE_SUFFIXES, ImageError
from .limits import Limits, current_limits
from .listing import find_images
from .opening import ImageSource, open_image, source_name

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
