"""The script in an exported folder prepares images as the package does, and needs nothing of it."""

import inspect
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from convit.export.predict import prepare
from convit.images import open_image
from convit.transforms import EvaluationTransform, TransformSettings
from convit.transforms.settings import CROP_MODES, INTERPOLATIONS

CAT = Image.fromarray(data.chelsea())


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("mode", CROP_MODES)
def test_images_are_prepared_as_by_the_package(mode: str, channels: int, tmp_path: Path) -> None:
    sizes = [(64, 64), (48, 96), (97, 33)]
    for number, (size, interpolation) in enumerate(product(sizes, INTERPOLATIONS)):
        shown = CAT.resize(((451, 300), (90, 200), (20, 31))[number % 3])
        shown = shown.convert("L") if channels == 1 else shown
        shown.save(tmp_path / f"{number}.png")
        crop = (0.875, 1.0, 0.6)[number % 3]
        settings = TransformSettings((channels, *size), interpolation, crop_pct=crop, crop_mode=mode)
        expected = EvaluationTransform(settings).to_pixels(shown)
        found = prepare(str(tmp_path / f"{number}.png"), {**settings.to_dict(), "input_size": [channels, *size]})
        assert np.array_equal(found, expected), settings


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK", "1", "I;16", "turned"])
def test_odd_images_are_prepared_as_by_the_package(mode: str, tmp_path: Path) -> None:
    file, settings, deep = tmp_path / "odd", TransformSettings((3, 48, 64)), np.asarray(CAT.convert("L"), np.uint16)
    shown = CAT if mode == "turned" else Image.fromarray(deep * 257 + 90) if mode == "I;16" else CAT.convert(mode)
    if mode == "RGBA":
        shown.putalpha(Image.linear_gradient("L").resize(shown.size))
    exif = Image.Exif()
    exif[0x0112] = 6 if mode == "turned" else 1
    if mode == "I;16":  # which no TIFF file has a transparent color of
        shown.save(file, "PNG", exif=exif, transparency=int(np.asarray(shown)[9, 9]))
    else:
        shown.save(file, "TIFF", exif=exif)
    expected = EvaluationTransform(settings).to_pixels(open_image(file, apply_exif=True))
    assert np.array_equal(prepare(str(file), settings.to_dict()), expected)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_gray_of_an_unknown_range_is_refused(mode: str, tmp_path: Path) -> None:
    CAT.convert("L").convert(mode).save(tmp_path / "deep.tif")
    with pytest.raises(ValueError, match=r"deep.tif holds 32-bit gray, .* save it with 8 or 16 bits"):
        prepare(str(tmp_path / "deep.tif"), TransformSettings((3, 48, 64)).to_dict())


def test_the_script_is_short_and_stands_alone() -> None:
    lines = Path(inspect.getfile(prepare)).read_text("utf-8").splitlines()
    assert len(lines) < 80
    assert not any("convit" in line for line in lines if "import" in line)
