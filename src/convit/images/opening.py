"""Opening one image, whatever it is and whatever is wrong with it."""

import ctypes
import functools
import os
import stat
import threading
import warnings
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from PIL import Image, ImageMode, UnidentifiedImageError

from convit.images.colors import array_to_image, decode_transparent_color, peak_bytes, to_levels
from convit.images.formats import ImageError, describe_unread, formats_for
from convit.images.limits import IN_FLIGHT, Limits, current_limits
from convit.images.metadata import lies_on_its_side, read_orientation, turn_upright, without_ballast
from convit.images.names import broken_link, given_path, path_text, remedy_for

ImageSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | np.ndarray | IO[bytes]"
)
"""A path, an encoded image's bytes, a Pillow image, an array, or a file open for reading bytes."""

_MOST_SCANNED = 2**32  # pixels times scans of a progressive JPEG file: 24 of the largest image that is allowed

_HARMLESS = 2**16  # bytes of a file that hold nothing that takes time, unless they are compressed
_COUNTED = 2**20  # decoded bytes from which an image counts as in flight
# what these decoders hold besides the image, in bytes per pixel and channel
_DECODER_BYTES = {"WEBP": 3, "AVIF": 2, "JPEG2000": 4}

# Pillow keeps its limit, and Python its warning filters, once for the whole process
_pillow_settings = threading.Lock()
# one Pillow image that stands in a list twice must not be decoded by two threads at once
_loading_given_images = threading.Lock()


def open_image(
    source: ImageSource,
    *,
    apply_exif: bool = True,
    limits: Limits | None = None,
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
        limits: what a file or bytes may cost; `None`: `convit.images.current_limits`. Pillow images and arrays are in
            memory already and are not measured.
        at_least: side in pixels; JPEG files may then be decoded at a half, a quarter or an eighth of their size, as
            long as both sides stay at least that long. Several times faster for large photographs, and no longer
            equal to the last bit after resizing. `None`: at full size.
        name: what messages call the image; without it its path, or what it is, such as "<bytes>".

    Returns:
        A loaded Pillow image of mode RGB; `source` itself if that is one already and is upright.

    Raises:
        ImageError: the file is missing, a folder, empty, text, cut off, damaged, in no known format or above a
            limit; or the array has the wrong shape or range. One line that says which image and what to do.
        TypeError: `source` is of another type.
    """
    with opened(source, apply_exif=apply_exif, limits=limits, at_least=at_least, name=name) as (image, _):
        return image if image.mode == "RGB" else image.convert("RGB")


@contextmanager
def opened(
    source: ImageSource,
    *,
    apply_exif: bool = True,
    limits: Limits | None = None,
    at_least: int | None = None,
    name: str | None = None,
) -> Generator[tuple[Image.Image, tuple[int, int]]]:
    """Open one image as `open_image` does for as long as it counts as in flight: until it has been scaled down.

    Gives the image, gray ones in mode L; and its (width, height) at full size, turned as the image is. The sides of a
    JPEG file that was decoded at a fraction are rounded up, so that only this size gives their ratio exactly.

    Raises:
        ImageError: as `open_image`; also where the block runs out of memory.
        TypeError: as `open_image`.
    """
    name = source_name(source) if name is None else name
    limits = limits or current_limits()
    try:
        with ExitStack() as held:
            content = source if isinstance(source, Image.Image | np.ndarray) else read_bytes(source, limits)
            try:
                if isinstance(content, np.ndarray):
                    image = array_to_image(content, name)
                    found = image, image.size
                elif isinstance(content, Image.Image):
                    with _loading_given_images:
                        decode_transparent_color(content)
                        content.load()
                    found = _decode(content, apply_exif)
                else:
                    image = held.enter_context(open_header(content, name, limits))
                    full_size = image.size
                    if at_least is not None:
                        image.draft(None, (at_least, at_least))
                    mode = ImageMode.getmode(image.mode)
                    size = max(np.dtype(mode.typestr).itemsize, _DECODER_BYTES.get(image.format or "", 1))
                    decoded = image.width * image.height * len(mode.bands) * size
                    if decoded > limits.decoded_bytes:
                        problem = f"takes {decoded:,} bytes decoded, more than the {limits.decoded_bytes:,} that are"
                        raise ImageError(name, f"{problem} allowed; scale it down, or raise the limit decoded_bytes")
                    if decoded > _COUNTED:
                        turns = apply_exif and read_orientation(image) != 1
                        taken = max(decoded, peak_bytes(image, turns=turns))
                        held.enter_context(IN_FLIGHT.hold(taken, limits.bytes_in_flight))
                    found = _decode(image, apply_exif, full_size)
            except (ImageError, MemoryError):
                raise
            except Exception as error:  # Pillow's decoders raise nearly anything on files that are broken on purpose
                raise _damaged(name, error) from error
            yield found
    except MemoryError:
        raise ImageError(name, "there is not enough memory to decode it; scale it down first") from None


def source_name(source: object) -> str:
    """Say what results call a source: its path, in a form that opens again, else what it is, such as "<bytes>".

    See `convit.images.names.path_text` for the form; `ImageError` spells out what must not be printed.

    >>> source_name(b"..."), source_name("holiday/cat.jpg")
    ('<bytes>', 'holiday/cat.jpg')
    """
    if isinstance(source, NamedBytes):
        return source.name or "<bytes>"
    name = source if isinstance(source, str | os.PathLike) else getattr(source, "filename", getattr(source, "name", ""))
    if not isinstance(name, str | os.PathLike) or not os.fspath(name):
        array, image = isinstance(source, np.ndarray), isinstance(source, Image.Image)
        return "<array>" if array else "<image>" if image else f"<{type(source).__name__}>"
    text = os.fspath(name)
    return text if text.isascii() and ":" not in text else path_text(text)


def read_bytes(source: ImageSource, limits: Limits | None = None) -> bytes:
    """Read the encoded bytes behind a path, a bytes-like object or a file open for reading bytes.

    Raises:
        ImageError: the path is missing, a folder, not readable, no regular file, or larger than the limit.
        TypeError: `source` is of another type, or a file that is open for reading text.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return source if isinstance(source, bytes) else bytes(source)
    most = (limits or current_limits()).file_bytes
    if not isinstance(source, str | os.PathLike):
        return _read_file(source, most)
    if not os.fspath(source):
        raise ImageError("''", "is an empty path; name a file")
    path, name = given_path(source) if isinstance(source, str) else Path(source), source_name(source)
    try:
        status = path.stat()
        is_file = stat.S_ISREG(status.st_mode)
        content = path.read_bytes() if is_file and status.st_size <= most else None
    except FileNotFoundError:
        raise ImageError(name, broken_link(path) or f"no such file; {remedy_for(name)}") from None
    except PermissionError:
        raise ImageError(name, "there is no permission to read it; change its mode or owner") from None
    except OSError as error:
        problem = error.strerror or str(error)
        raise ImageError(name, f"cannot be read ({problem}); check the path and the disk") from error
    except ValueError as error:  # a null byte, for one
        raise ImageError(name, f"is not a path ({error}); check it") from None
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(name, "is a folder, not an image; name an image in it (convit.images.find_images lists them)")
    if not is_file:
        raise ImageError(name, "is a device or a pipe, not an image file; hand over its bytes")
    if content is None:
        raise _too_large(name, "bytes", "file_bytes", most)
    return content


def _read_file(file: object, most: int) -> bytes:
    read = getattr(file, "read", None)
    if read is None:
        raise TypeError(
            f"an image is a path, bytes, a Pillow image, a numpy array or a file open for reading bytes, but got "
            f"{type(file).__name__}"
        )
    content = read(most + 1)
    if not isinstance(content, bytes):
        raise TypeError(f"{source_name(file)} gives {type(content).__name__}, not bytes; open it with mode 'rb'")
    if len(content) > most:
        raise _too_large(source_name(file), "bytes", "file_bytes", most)
    return content


def open_header(content: bytes, name: str, limits: Limits | None = None) -> Image.Image:
    """Read the header of an image file; the pixels stay undecoded. `name` and `limits` are as in `open_image`.

    Raises:
        ImageError: the bytes are empty, in no known format, or hold more pixels than the limit.
        Whatever Pillow raises on a damaged header.
    """
    if not content:
        raise ImageError(name, getattr(content, "reason", "") or "is empty (0 bytes); fetch or export it again")
    limits = limits or current_limits()
    start = content[:512]
    formats = formats_for(start)
    if len(content) > _HARMLESS or start.startswith(b"\x89PNG"):
        content = without_ballast(content, limits.metadata_bytes)
    with _pillow_settings, warnings.catch_warnings():
        # Pillow warns on large images and broken metadata; both are dealt with here
        warnings.simplefilter("ignore")
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, limits.pixels // 2 + 1
        try:
            # an empty tuple of formats would mean all of Pillow's
            image = Image.open(BytesIO(content), formats=formats) if formats else None
        except UnidentifiedImageError:
            image = None
        except Image.DecompressionBombError:
            raise _too_large(name, "pixels", "pixels", limits.pixels) from None
        finally:
            Image.MAX_IMAGE_PIXELS = before
    if not any(each[2] is Image.DecompressionBombWarning for each in warnings.filters):
        # measured here; Pillow would warn again wherever a part is cut out, or within an ICO file
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    if image is None:
        raise ImageError(name, describe_unread(start))
    if image.format == "TIFF":
        _silence_libtiff()
    if image.width * image.height > limits.pixels:
        raise _too_large(name, "pixels", "pixels", limits.pixels)
    if image.format in ("JPEG", "MPO") and content.count(b"\xff\xda") * image.width * image.height > _MOST_SCANNED:
        raise ImageError(name, "has so many scans that it would be decoded for minutes; save it as a plain JPEG")
    return image


@functools.cache
def _silence_libtiff() -> None:
    """Keep libtiff, which Pillow carries, from writing to standard error what it finds wrong with a file."""
    with suppress(OSError, AttributeError):  # linked into Pillow, or hidden in it: the lines are only a nuisance
        libraries = ctypes.CDLL(Image.core.__file__)
        libraries.TIFFSetErrorHandler(None)
        libraries.TIFFSetWarningHandler(None)


def image_size(content: bytes, name: str) -> tuple[int, int]:
    """(width, height) of an encoded image, upright, without decoding its pixels.

    Raises:
        ImageError: its header cannot be read.
    """
    try:
        with open_header(content, name) as image:
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
    decoded = to_levels(image)
    # read after decoding: PNG keeps EXIF behind the pixels
    orientation = read_orientation(image) if apply_exif and not {"exif", "xmp"}.isdisjoint(image.info) else 1
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


class NamedBytes(bytes):
    """An encoded image with what results and messages call it, as `source_name` does a path.

    One that is not there is empty and says the `reason`.
    """

    name: str
    reason: str

    def __new__(cls, content: bytes = b"", name: str = "", *, reason: str = "") -> "NamedBytes":
        """The reason, if there is any, is the end of "row 3 …"."""
        made = super().__new__(cls, content)
        made.name, made.reason = name, reason or getattr(content, "reason", "")
        return made


def _too_large(name: str, unit: str, limit: str, most: int) -> ImageError:
    what = "is too large for an image" if unit == "bytes" else "may be a decompression bomb"
    return ImageError(name, f"has more than {most:,} {unit} and {what}; raise the limit {limit} if you trust it")
