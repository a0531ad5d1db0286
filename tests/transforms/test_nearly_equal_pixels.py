"""Resizing only what the crop reads: how far that is from resizing the whole picture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from convit.transforms import EvaluationTransform, TransformSettings, create_transform

COFFEE = Image.fromarray(data.coffee())


def errors(image: Image.Image, transform: EvaluationTransform) -> np.ndarray:
    near = transform.to_pixels(image, image.size)
    exact = transform.to_pixels(image)
    assert (near.shape, near.dtype) == (exact.shape, exact.dtype)
    return np.abs(near.astype(int) - exact)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(40, 600),
    height=st.integers(40, 400),
    sides=st.tuples(st.integers(16, 96), st.integers(16, 96)),
    crop_pct=st.sampled_from([0.7, 0.875, 1.0]),
    crop_mode=st.sampled_from(["center", "squash", "border"]),
)
def test_whole_photographs(width: int, height: int, sides: tuple[int, int], crop_pct: float, crop_mode: str) -> None:
    image = COFFEE.crop((0, 0, width, height))
    transform = create_transform((3, *sides), interpolation="bicubic", crop_pct=crop_pct, crop_mode=crop_mode)
    found = errors(image, transform)
    assert found.mean() < 0.5
    assert found.max() <= 20


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (2000, 2), (223, 225), (20_000, 1)])
def test_thin_and_tiny_pictures(size: tuple[int, int]) -> None:
    transform = create_transform((3, 64, 64), interpolation="bicubic")
    assert errors(Image.new("RGB", size, (200, 100, 50)), transform).max() == 0


def test_borders_are_those_of_the_exact_way() -> None:
    transform = EvaluationTransform(TransformSettings(input_size=(3, 64, 96), crop_mode="border"))
    assert errors(COFFEE, transform).max() == 0


def test_the_full_size_decides_where_the_crop_lies() -> None:
    transform = create_transform((3, 32, 32), interpolation="bicubic", crop_pct=1.0)
    large = COFFEE.resize((1281, 1111), Image.Resampling.BICUBIC)
    # an eighth, rounded up as libjpeg does: taken for the whole picture, it would be 37 pixels wide instead of 36
    small = large.resize((161, 139), Image.Resampling.BOX)
    exact = transform.to_pixels(large).astype(int)
    with_size = np.abs(transform.to_pixels(small, large.size) - exact).mean()
    without = np.abs(transform.to_pixels(small, small.size) - exact).mean()
    assert with_size < 2 < without


def test_gray_inputs_and_wrong_types() -> None:
    transform = EvaluationTransform(TransformSettings(input_size=(1, 32, 32), mean=(0.5,), std=(0.5,)))
    assert transform.to_pixels(COFFEE, COFFEE.size).shape == (32, 32, 1)
    with pytest.raises(TypeError, match="the transform takes a Pillow image, not ndarray"):
        transform.to_pixels(np.zeros((4, 4, 3), np.uint8), (4, 4))  # type: ignore[arg-type]
