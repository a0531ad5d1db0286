"""The evaluation transform against timm's, bit by bit."""

import numpy as np
import pytest
import timm.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from convit.transforms import create_transform, normalize_batch
from convit.transforms.settings import CROP_MODES, INTERPOLATIONS


def photograph(name: str = "chelsea") -> Image.Image:
    return Image.fromarray(getattr(data, name)())


def resized(width: int, height: int) -> Image.Image:
    return photograph("coffee").resize((width, height))


def assert_equal_to_timm(image: Image.Image, **config: object) -> None:
    ours = create_transform(**config, is_training=False)(image)
    theirs = timm.data.create_transform(**config, is_training=False)(image)
    assert ours.dtype == theirs.dtype == torch.float32
    assert ours.is_contiguous()
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["chelsea", "coffee", "rocket", "astronaut"])
def test_photographs_of_the_family_settings(name: str) -> None:
    assert_equal_to_timm(photograph(name), input_size=(3, 224, 224), interpolation="bicubic", crop_pct=0.875)


@pytest.mark.parametrize(
    "size", [(1, 1), (3, 500), (500, 3), (31, 33), (223, 225), (256, 256), (257, 511), (1501, 90), (97, 640)]
)
@pytest.mark.parametrize("crop_mode", CROP_MODES)
def test_odd_small_and_long_pictures(size: tuple[int, int], crop_mode: str) -> None:
    assert_equal_to_timm(resized(*size), input_size=(3, 224, 224), interpolation="bicubic", crop_mode=crop_mode)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("crop_mode", CROP_MODES)
def test_every_interpolation(interpolation: str, crop_mode: str) -> None:
    assert_equal_to_timm(resized(301, 200), input_size=(3, 96, 128), interpolation=interpolation, crop_mode=crop_mode)


def test_timm_defaults_are_ours() -> None:
    assert_equal_to_timm(resized(301, 200))
    assert_equal_to_timm(resized(301, 200), input_size=64)
    assert_equal_to_timm(resized(301, 200), input_size=(64, 48))


@settings(max_examples=80, deadline=None)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    crop_pct=st.floats(0.3, 1.0),
    crop_mode=st.sampled_from(CROP_MODES),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
)
def test_any_size(
    width: int, height: int, rows: int, columns: int, crop_pct: float, crop_mode: str, interpolation: str
) -> None:
    config = {"input_size": (3, 16 * rows, 16 * columns), "crop_pct": crop_pct, "crop_mode": crop_mode}
    image = resized(width, height)
    try:
        theirs = timm.data.create_transform(**config, interpolation=interpolation)(image)
    except ValueError:
        # timm rounds a thin picture's short side to 0 pixels and fails; ours keeps one
        theirs = None
    ours = create_transform(**config, interpolation=interpolation)(image)
    assert ours.shape == config["input_size"]
    assert theirs is None or torch.equal(ours, theirs)


def test_cifar_settings() -> None:
    small = {"input_size": (3, 32, 32), "crop_pct": 1.0, "interpolation": "bilinear"}
    assert_equal_to_timm(resized(32, 32), **small, mean=(0.491, 0.482, 0.447), std=(0.247, 0.243, 0.262))


@pytest.mark.parametrize("mode", ["center", "border"])
def test_all_levels_are_scaled_alike_everywhere(mode: str) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(np.stack([levels, levels.T, levels[::-1]], axis=-1))
    config = {"input_size": (3, 16, 16), "crop_pct": 1.0, "interpolation": "nearest", "crop_mode": mode}
    assert_equal_to_timm(image, **config)
    transform = create_transform(**config)
    pixels = transform.to_pixels(image)
    assert pixels.dtype == np.uint8
    batch = normalize_batch(torch.from_numpy(np.stack([pixels, pixels[::-1]])), transform.settings)
    assert torch.equal(batch[0], transform(image))
    assert torch.equal(batch[1], transform(image).flip(1))
    assert np.array_equal(transform.normalize(np.stack([pixels, pixels[::-1]])), batch.numpy())
    assert np.array_equal(transform.to_array(image), batch[0].numpy())


def test_levels_without_scaling() -> None:
    image = resized(301, 200)
    ours = create_transform(input_size=(3, 64, 96), normalize=False)(image)
    theirs = timm.data.create_transform(input_size=(3, 64, 96), normalize=False)(image)
    assert ours.dtype == torch.uint8
    assert torch.equal(ours, theirs)
