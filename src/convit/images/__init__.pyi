from .formats import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from .formats import ImageError as ImageError
from .limits import Limits as Limits
from .limits import current_limits as current_limits
from .listing import find_images as find_images
from .opening import ImageSource as ImageSource
from .opening import open_image as open_image
from .opening import source_name as source_name
