"""EXIF orientation: which way up a camera was held."""

import re
import struct

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
_PREFIX = b"Exif\x00\x00"


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn or mirror an image as its EXIF orientation (1 to 8) asks; 1 and unknown numbers leave it as it is."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def lies_on_its_side(orientation: int) -> bool:
    """Whether turning an image upright swaps its width and height."""
    return orientation in (5, 6, 7, 8)


def read_orientation(image: Image.Image) -> int:
    """Give the EXIF orientation that an opened image carries (else the one in its XMP), 1 where there is none."""
    exif = image.info.get("exif")
    orientation = parse_orientation(exif) if isinstance(exif, bytes) else 1
    xmp = image.info.get("xmp")
    if orientation == 1 and isinstance(xmp, bytes):
        found = re.search(rb"tiff:Orientation(?:=[\"']|>)([1-8])", xmp)
        orientation = int(found[1]) if found else 1
    return orientation


def parse_orientation(exif: bytes) -> int:
    r"""Find the orientation in an EXIF block, 1 where it is absent or the block is broken.

    Pillow's own reader warns about broken blocks and gives up on the whole of one; this looks for the one tag alone,
    which stands near the front, and so still finds it in a block that is cut off further back.

    >>> parse_orientation(b"MM\x00*" + bytes([0, 0, 0, 8, 0, 1, 1, 18, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0]))
    6
    """
    while exif.startswith(_PREFIX):
        exif = exif[len(_PREFIX) :]
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
