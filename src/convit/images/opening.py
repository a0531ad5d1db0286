"""Opening one image, whatever it is and whatever is wrong with it."""

import os
import re
import stat
import threading
import warnings
from io import BytesIO
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from convit.images.colors import array_to_image, to_rgb
from convit.images.formats import ImageError, describe_unread, formats_for
from convit.images.orientation import lies_on_its_side, read_orientation, turn_upright

ImageSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | np.ndarray | IO[bytes]"
)
"""A path, an encoded image's bytes, a Pillow image, an array, or a file open for reading bytes."""

DEFAULT_PIXEL_LIMIT = 178_956_970
"""Pixels above which a file is refused: where Pillow, too, raises an error. 16 times a usual photograph."""

LARGEST_FILE = 2 << 30
"""Bytes above which a file is refused unread; as many as all the pixels that are allowed take at 12 bytes each."""

# Pillow keeps its limit, and Python its warning filters, once for the whole process
_pillow_settings = threading.Lock()
# one Pillow image that stands in a list twice must not be decoded by two threads at once
_loading_given_images = threading.Lock()
_BREAKS_LINES = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def open_image(
    source: ImageSource,
    *,
    apply_exif: bool = True,
    pixel_limit: int | None = DEFAULT_PIXEL_LIMIT,
    at_least: int | None = None,
    name: str | None = None,
) -> Image.Image:
    """Open one image as 8-bit RGB, upright.

    Colors: see `convit.images.colors.to_rgb` (transparency is composited on white, ICC profiles are applied, 16-bit
    levels are scaled). Of animations and multi-page files the first frame is taken.

    Args:
        source: a path; the bytes of an image file; a file open for reading bytes; a Pillow image; or a numpy array
            (see `convit.images.colors.array_to_image` for layouts and ranges).
        apply_exif: whether the image is turned as its EXIF orientation asks; broken EXIF counts as none. Off, it is
            read as timm's transform would get it. (TIFF files are always turned: Pillow does it while decoding.)
        pixel_limit: files and bytes with more pixels (width times height) are refused before they are decoded;
            `None` for no limit. Pillow images and arrays are in memory already and are not measured.
        at_least: side in pixels; JPEG files may then be decoded at a half, a quarter or an eighth of their size, as
            long as both sides stay at least that long. Several times faster for large photographs, and no longer
            equal to the last bit after resizing. `None`: at full size.
        name: what messages call the image; without it its path, or what it is, such as "<bytes>".

    Returns:
        A loaded Pillow image of mode RGB; `source` itself if that is one already and is upright.

    Raises:
        ImageError: the file is missing, a folder, empty, text, cut off, damaged, in no known format or above the
            limit; or the array has the wrong shape or range. One line that says which image and what to do.
        TypeError: `source` is of another type.
    """
    return open_reduced(source, apply_exif=apply_exif, pixel_limit=pixel_limit, at_least=at_least, name=name)[0]


def open_reduced(
    source: ImageSource,
    *,
    apply_exif: bool = True,
    pixel_limit: int | None = DEFAULT_PIXEL_LIMIT,
    at_least: int | None = None,
    name: str | None = None,
) -> tuple[Image.Image, tuple[int, int]]:
    """Open one image as `open_image` does, and say how large it is.

    Args:
        source: as in `open_image`.
        apply_exif: as in `open_image`.
        pixel_limit: as in `open_image`.
        at_least: as in `open_image`.
        name: as in `open_image`.

    Returns:
        The image, and its (width, height) at full size, turned as the image is. The sides of a JPEG file that was
        decoded at a fraction are rounded up, so that only this size gives the ratio of width to height exactly.

    Raises:
        ImageError: as `open_image`.
        TypeError: as `open_image`.
    """
    name = source_name(source) if name is None else source_name(name)
    if isinstance(source, np.ndarray):
        image = array_to_image(source, name)
        return image, image.size
    content = b"" if isinstance(source, Image.Image) else read_bytes(source)
    try:
        if isinstance(source, Image.Image):
            with _loading_given_images:
                source.load()
            return _decode(source, apply_exif)
        with open_header(content, name, pixel_limit) as image:
            full_size = image.size
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            return _decode(image, apply_exif, full_size)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(name, pixel_limit) from None
    except MemoryError:
        raise ImageError(name, "there is not enough memory to decode it; scale it down first") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on files that are broken on purpose
        raise _damaged(name, error) from error


def source_name(source: object) -> str:
    r"""Say what messages and result rows call a source: its path if it has one, else what it is, such as "<bytes>".

    Control characters, and the stand-ins for bytes that are no UTF-8, are escaped, so that the name can be printed.

    >>> source_name(b"..."), source_name("a\nb.jpg")
    ('<bytes>', 'a\\nb.jpg')
    """
    name = source if isinstance(source, str | os.PathLike) else getattr(source, "filename", getattr(source, "name", ""))
    if not isinstance(name, str | os.PathLike) or not os.fspath(name):
        kinds = {np.ndarray: "<array>", Image.Image: "<image>"}
        return next((label for kind, label in kinds.items() if isinstance(source, kind)), f"<{type(source).__name__}>")
    return "".join(repr(letter)[1:-1] if _BREAKS_LINES.match(letter) else letter for letter in os.fspath(name))


def read_bytes(source: ImageSource) -> bytes:
    """Read the encoded bytes behind a path, a bytes-like object or a file open for reading bytes.

    Raises:
        ImageError: the path is missing, a folder, not readable, or no regular file.
        TypeError: `source` is of another type, or a file that is open for reading text.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        if not os.fspath(source):
            raise ImageError("''", "is an empty path; name a file")
    else:
        read = getattr(source, "read", None)
        if read is None:
            raise TypeError(
                f"an image is a path, bytes, a Pillow image, a numpy array or a file open for reading bytes, but got "
                f"{type(source).__name__}"
            )
        content = read()
        if not isinstance(content, bytes):
            raise TypeError(f"{source_name(source)} gives {type(content).__name__}, not bytes; open it with mode 'rb'")
        return content
    path, name = Path(source), source_name(source)
    try:
        status = path.stat()
        if status.st_size > LARGEST_FILE:
            raise ImageError(name, f"is {status.st_size >> 30:,} GB large, too much for one image; check what it is")
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
    except FileNotFoundError:
        remedy = "download it first" if name.startswith(("http:", "https:")) else "check the path"
        raise ImageError(name, f"there is no such file; {remedy}") from None
    except PermissionError:
        raise ImageError(name, "there is no permission to read it; change its mode or owner") from None
    except OSError as error:
        problem = error.strerror or str(error)
        raise ImageError(name, f"cannot be read ({problem}); check the path and the disk") from error
    except ImageError:
        raise
    except ValueError as error:  # a null byte, for one
        raise ImageError(name, f"is not a path ({error}); check it") from None
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(name, "is a folder, not an image; convit.images.find_images lists its images")
    if content is None:
        raise ImageError(name, "is a device or a pipe, not an image file; hand over its bytes")
    return content


def open_header(content: bytes, name: str, pixel_limit: int | None) -> Image.Image:
    """Read an image's header; the pixels stay undecoded.

    Args:
        content: an image file's bytes.
        name: what messages call it.
        pixel_limit: as in `open_image`.

    Raises:
        ImageError: the bytes are empty, in no known format, or hold more pixels than the limit.
        Image.DecompressionBombError: the same, where Pillow notices first.
    """
    if not content:
        raise ImageError(name, "is empty (0 bytes); fetch or export it again")
    start = content[:512]
    formats = formats_for(start)
    with _pillow_settings, warnings.catch_warnings():
        # Pillow warns on large images and broken metadata; both are dealt with here
        warnings.simplefilter("ignore")
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None if pixel_limit is None else pixel_limit // 2 + 1
        try:
            # an empty tuple of formats would mean all of Pillow's
            image = Image.open(BytesIO(content), formats=formats) if formats else None
        except UnidentifiedImageError:
            image = None
        finally:
            Image.MAX_IMAGE_PIXELS = before
    if image is None:
        raise ImageError(name, describe_unread(start))
    if pixel_limit is not None and image.width * image.height > pixel_limit:
        raise _too_large(name, pixel_limit)
    return image


def image_size(content: bytes, name: str) -> tuple[int, int]:
    """(width, height) of an encoded image, upright, without decoding its pixels.

    Raises:
        ImageError: its header cannot be read.
    """
    try:
        with open_header(content, name, DEFAULT_PIXEL_LIMIT) as image:
            turned = lies_on_its_side(read_orientation(image))
            return (image.height, image.width) if turned else (image.width, image.height)
    except ImageError:
        raise
    except Exception as error:  # Pillow raises nearly anything
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> ImageError:
    return ImageError(name, f"is cut off or damaged ({str(error) or type(error).__name__}); fetch or export it again")


def _decode(
    image: Image.Image, apply_exif: bool, full_size: tuple[int, int] | None = None
) -> tuple[Image.Image, tuple[int, int]]:
    """The image and its size at full size; `full_size`: of one opened here, before it is turned, as its header says."""
    opened_size = image.size
    decoded = to_rgb(image)
    # read after decoding: PNG keeps EXIF behind the pixels
    orientation = read_orientation(image) if apply_exif else 1
    if orientation != 1:
        decoded = turn_upright(decoded, orientation)
    if full_size is not None or decoded is not image:
        # what has been applied must not be applied again by the next reader
        for key in ("icc_profile", "transparency", *(("exif", "xmp") if apply_exif else ())):
            decoded.info.pop(key, None)
    if full_size is None or full_size == opened_size:
        return decoded, decoded.size
    width, height = full_size
    return decoded, (height, width) if lies_on_its_side(orientation) else (width, height)


def _too_large(name: str, pixel_limit: int | None) -> ImageError:
    limit = DEFAULT_PIXEL_LIMIT if pixel_limit is None else pixel_limit
    return ImageError(
        name, f"has more than {limit:,} pixels and may be a decompression bomb; raise pixel_limit if you trust it"
    )
