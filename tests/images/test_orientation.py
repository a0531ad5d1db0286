"""Pictures are turned upright by their EXIF orientation, whatever state it is in."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from convit.images import open_image
from tests.data.making import encoded


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(cat: Image.Image, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(cat, kind, exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        as_stored = image.convert("RGB")
    opened = open_image(content)
    assert np.array_equal(pixels(opened), pixels(upright))
    assert np.array_equal(pixels(open_image(content, apply_exif=False)), pixels(as_stored))
    # a picture that has been turned is not turned again
    assert np.array_equal(pixels(open_image(opened)), pixels(upright))


def test_orientation_of_opened_pillow_images(cat: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(encoded(cat, "JPEG", exif=exif))) as image:
        assert open_image(image).size == (cat.height, cat.width)
        assert open_image(image, apply_exif=False).size == cat.size
        assert image.size == cat.size
        assert "exif" in image.info


def test_broken_exif_is_tolerated(cat: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a camera with a long name"
    whole = exif.tobytes()
    for cut in range(6, len(whole), 3):
        opened = open_image(encoded(cat, "JPEG", exif=whole[:cut]))
        assert opened.size in (cat.size, cat.size[::-1])
    assert open_image(encoded(cat, "JPEG", exif=whole[:-4])).size == cat.size[::-1]
    for wrong in (0, 9, 255):
        exif[0x0112] = wrong
        assert open_image(encoded(cat, "JPEG", exif=exif.tobytes())).size == cat.size


def test_orientation_in_xmp(cat: Image.Image) -> None:
    content = encoded(cat, "JPEG", xmp=b'<x tiff:Orientation="8"/>')
    assert open_image(content).size == cat.size[::-1]
