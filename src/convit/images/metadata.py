"""What an image file carries besides pixels: which way up a camera was held, and what costs more than it is worth."""

import re
import struct
import zlib

from PIL import Image

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_TAG = 0x0112
_SHORT, _LONG = 3, 4
_PREFIXES = re.compile(rb"(?:Exif\x00\x00)*+")
_INFLATED = 2**20  # bytes of one compressed block above which Pillow refuses the whole PNG file
_PPM_HEADER = 2**16  # bytes, comments included, which Pillow reads one by one
_XMP = b"XML:com.adobe.xmp\x00"


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn or mirror an image as its EXIF orientation (1 to 8) asks; 1 and unknown numbers leave it as it is."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def lies_on_its_side(orientation: int) -> bool:
    """Whether turning an image upright swaps its width and height."""
    return orientation in (5, 6, 7, 8)


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation that an opened image carries (else the one in its XMP), 1 if there is none."""
    exif = image.info.get("exif")
    orientation = parse_orientation(exif) if isinstance(exif, bytes) else 1
    xmp = image.info.get("xmp")
    if orientation == 1 and isinstance(xmp, bytes):
        found = re.search(rb"tiff:Orientation(?:=[\"']|>)([1-8])", xmp)
        orientation = int(found[1]) if found else 1
    return orientation


def parse_orientation(exif: bytes) -> int:
    r"""Find the orientation in an EXIF block, 1 if it is absent or the block is broken.

    Pillow's own reader warns about broken blocks and gives up on the whole of one; this looks for the one tag alone,
    which stands near the front, and so still finds it in a block that is cut off further back.

    >>> parse_orientation(b"MM\x00*" + bytes([0, 0, 0, 8, 0, 1, 1, 18, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0]))
    6
    """
    prefixes = _PREFIXES.match(exif)
    exif = exif[prefixes.end() if prefixes else 0 :]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(f"{order}L", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, offset)
        for start in range(offset + 2, offset + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, start)
            if tag == _ORIENTATION_TAG and kind in (_SHORT, _LONG):
                (orientation,) = struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'L'}", exif, start + 8)
                return orientation if orientation in _TURNS else 1
    except struct.error:  # it ends before the place that it points to
        pass
    return 1


def without_ballast(content: bytes, most: int) -> bytes:
    """An image file without the text, comments and metadata for which Pillow would refuse it, or read for minutes.

    PNG and JPEG files are looked through; up to `most` bytes of EXIF, XMP, color profile and the like are kept.

    Raises:
        ValueError: the header of a PPM file does not end.
    """
    if content.startswith(b"\x89PNG"):
        ballast = _png_ballast(content, most)
    elif content.startswith(b"\xff\xd8"):
        ballast = _jpeg_ballast(content, most)
    else:
        if content[:2] in (b"P4", b"P5", b"P6", b"Pf") and len(content) > _PPM_HEADER:
            tokens = [each for each in re.findall(rb"#[^\r\n]*|[^\s#]+", content[:_PPM_HEADER]) if each[:1] != b"#"]
            if len(tokens) < (3 if content.startswith(b"P4") else 4):
                raise ValueError(f"its header is longer than {_PPM_HEADER:,} bytes")
        return content
    if not ballast:
        return content
    starts, ends = [0, *(end for _, end in ballast)], [*(start for start, _ in ballast), len(content)]
    return b"".join(content[start:end] for start, end in zip(starts, ends, strict=True))


def _png_ballast(content: bytes, most: int) -> list[tuple[int, int]]:
    """Where text stands, and what is too large or does not inflate."""
    found: list[tuple[int, int]] = []
    at, kept = 8, 0
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf"):
            is_kept = kind not in (b"tEXt", b"zTXt") and kept + length <= most
            body = content[at + 8 : end - 4] if is_kept else b""
            if kind == b"iTXt":
                is_kept = body.startswith(_XMP) and (body[18:19] == b"\0" or _inflates(body[20:].split(b"\0", 2)[-1]))
            elif kind == b"iCCP":
                _, _, packed = body.partition(b"\0")
                is_kept = packed.startswith(b"\0") and _inflates(packed[1:])
            kept += length if is_kept else 0
            found += [] if is_kept else [(at, end)]
        at = end
    return found


def _inflates(packed: bytes) -> bool:
    inflating = zlib.decompressobj()
    try:
        inflating.decompress(packed, _INFLATED)
    except zlib.error:
        return False
    return not inflating.unconsumed_tail


def _jpeg_ballast(content: bytes, most: int) -> list[tuple[int, int]]:
    """Where comments stand, EXIF blocks after the first, and what is too much."""
    found: list[tuple[int, int]] = []
    at, kept, has_exif = 2, 0, False
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:  # where the pixels begin
        marker = content[at + 1]
        if marker == 0xFF or marker <= 0x01 or 0xD0 <= marker <= 0xD9:  # filling, and marks without a length
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == 0xFE or 0xE0 <= marker <= 0xEF:
            is_exif = marker == 0xE1 and content[at + 4 : at + 10] == b"Exif\0\0"
            kept += end - at
            if marker == 0xFE or (is_exif and has_exif) or kept > most:
                found.append((at, end))
            has_exif |= is_exif
        at = end
    return found
