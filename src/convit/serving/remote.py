"""Images fetched from the few hosts that a service allows."""

from convit.serving.errors import ServiceError
from convit.serving.options import ServiceOptions


async def fetch(url: str, options: ServiceOptions) -> bytes:
    """Fetch an image.

    Raises:
        ServiceError: its host is not allowed, or it cannot be fetched.
    """
    raise ServiceError(400, "url_not_allowed", "this service fetches no images from this URL; send the image itself")
