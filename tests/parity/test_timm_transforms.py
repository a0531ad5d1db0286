"""`create_transform` and data configurations under timm's arguments: equal where nothing is random, else alike."""

import logging
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import timm.data
import torch
from PIL import Image
from skimage import data

from convit.data import create_transform, resolve_data_config, resolve_model_data_config
from convit.transforms import EvaluationTransform
from convit.transforms.training import Erasing, RatioCrop
from convit.weights import create_model

MAKERS = (create_transform, timm.data.create_transform)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
FIXED: dict[str, Any] = {"is_training": True, "hflip": 0.0, "color_jitter": None, "mean": MEAN, "std": STD}
WHOLE: dict[str, Any] = {**FIXED, "scale": (1.0, 1.0), "ratio": (1.0, 1.0)}


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    return Image.fromarray(data.chelsea()).resize((150, 100))


@pytest.fixture(scope="module")
def square() -> Image.Image:
    return Image.fromarray(data.chelsea()).crop((100, 50, 228, 178))


@pytest.mark.parametrize(
    "options",
    [
        {"use_prefetcher": True},
        {"normalize": False},
        {"crop_border_pixels": 7, "crop_pct": 1.0},
        {"crop_border_pixels": 20, "crop_mode": "border", "interpolation": "bicubic"},
        {"is_training": True, "no_aug": True},
        {"is_training": True, "no_aug": True, "interpolation": "random", "use_prefetcher": True},
        {"is_training": True, "no_aug": True, "interpolation": "bicubic", "crop_pct": 0.5, "crop_mode": "border"},
        {"no_aug": True, "re_num_splits": 2, "patch_size": 4, "max_seq_len": 7, "train_crop_mode": "nonsense"},
    ],
)
@pytest.mark.parametrize("size", [48, (40, 56), (3, 48, 32)])
def test_what_is_not_random_is_timms(cat: Image.Image, options: dict[str, Any], size: Any) -> None:
    ours, theirs = (make(size, mean=MEAN, std=STD, **options)(cat) for make in MAKERS)
    assert ours.dtype == theirs.dtype
    assert torch.equal(ours, theirs)


def test_positional_arguments_are_timms(square: Image.Image) -> None:
    positional = (48, True, False, None, (1.0, 1.0), (1.0, 1.0), 1.0, 1.0, None)
    ours, theirs = (make(*positional)(square) for make in MAKERS)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hflip": 1.0, "vflip": 1.0},
        {"vflip": 1.0, "grayscale_prob": 1.0, "interpolation": "bicubic"},
        {"use_prefetcher": True, "re_prob": 1.0},
        {"normalize": False},
    ],
)
@pytest.mark.parametrize("mode", ["rrc", "rkrc", "rkrr"])
def test_certain_changes_are_timms(square: Image.Image, options: dict[str, Any], mode: str) -> None:
    ours, theirs = (make(48, **{**WHOLE, "train_crop_mode": mode, **options})(square) for make in MAKERS)
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_a_ratio_crop_pads_with_mirrors_and_stays_in_the_image(cat: Image.Image) -> None:
    bright = Image.fromarray(np.maximum(np.asarray(cat), 40))
    for anywhere in (False, True):
        crop = RatioCrop((40, 60), Image.Resampling.BILINEAR, (0.5, 1.6), (0.5, 2.0), anywhere)
        torch.manual_seed(0)
        results = [np.asarray(crop(bright)) for _ in range(60)]
        assert {each.shape for each in results} == {(40, 60, 3)}
        assert min(each.min() for each in results) >= 40  # no black edges
        assert len({each.tobytes() for each in results}) > 20


def test_stages_make_the_whole(cat: Image.Image) -> None:
    options: dict[str, Any] = {"is_training": True, "auto_augment": "augmix-m3-w2", "re_prob": 1.0, "mean": MEAN}
    stages: Any = create_transform(40, separate=True, **options)
    assert len(stages) == len(timm.data.create_transform(40, separate=True, **options)) == 3
    torch.manual_seed(0)
    value: Any = cat
    for stage in stages:
        value = stage(value)
    torch.manual_seed(0)
    assert torch.equal(value, create_transform(40, **options)(cat))
    assert stages[0](cat).size == (40, 40)
    for refused in ({}, {"is_training": True, "no_aug": True}):
        with pytest.raises(ValueError, match="separate is True, but only training with augmentation has stages"):
            create_transform(40, separate=True, **refused)


@pytest.mark.parametrize("name", ["naflex", "patchify", "tf_preprocessing"])
def test_what_no_convit_takes_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is True, but a ConViT takes whole images"):
        create_transform(40, **{name: True})


def test_a_border_shrinks_with_the_image_and_leaves_something_of_it() -> None:
    with pytest.raises(ValueError, match=r"an image of 20 x 30 pixels \(width x height\) ends within a border of 10"):
        create_transform(16, crop_border_pixels=10)(Image.new("RGB", (20, 30)))
    transform = create_transform(16, crop_border_pixels=40)
    assert repr(transform).endswith("border=40)")
    assert isinstance(transform, EvaluationTransform)
    whole = Image.fromarray(data.chelsea())
    half = whole.resize((whole.width // 2, whole.height // 2))
    expected = transform.to_pixels(whole).astype(int)
    assert np.abs(transform.to_pixels(half, whole.size) - expected).mean() < 4
    assert np.abs(create_transform(16).to_pixels(whole) - expected).mean() > 8


def _change(make: Any, image: Image.Image, **options: Any) -> float:
    """Mean change of levels over draws."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # timm draws from it
    torch.manual_seed(0)
    whole = {**WHOLE, "use_prefetcher": True, "interpolation": "bilinear"}
    plain, change = make(96, **whole)(image).float(), make(96, **{**whole, **options})
    return float(np.mean([(change(image).float() - plain).abs().mean() for _ in range(60)]))


@pytest.mark.parametrize(
    ("options", "at_most"),
    [
        ({"auto_augment": "augmix-m5-w4-d2"}, 3.0),
        ({"auto_augment": "original"}, 1.5),
        ({"auto_augment": "v0r"}, 1.5),
        ({"auto_augment": "3a"}, 2.0),
        ({"auto_augment": "rand-m9-mstd0.5-inc1"}, 1.5),
        ({"color_jitter": (0.4, 0.4, 0.4, 0.1), "color_jitter_prob": 0.5}, 1.5),
        ({"color_jitter": 0.4}, 1.5),
        ({"gaussian_blur_prob": 0.5}, 1.5),
        ({"grayscale_prob": 0.5}, 1.5),
    ],
)
def test_random_changes_are_about_as_strong_as_timms(
    square: Image.Image, options: dict[str, Any], at_most: float
) -> None:
    ours, theirs = (_change(make, square, **options) for make in MAKERS)
    assert 1 / at_most < ours / theirs < at_most, (ours, theirs)


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
@pytest.mark.parametrize("count", [1, 3])
def test_erasing_puts_in_what_timm_puts_in(mode: str, count: int) -> None:
    gray = Image.new("RGB", (64, 64), (200, 200, 200))
    shares, colors = [], []
    for make in MAKERS:
        random.seed(0)
        torch.manual_seed(0)
        plain = make(64, **WHOLE)(gray)
        change = make(64, **WHOLE, re_prob=1.0, re_mode=mode, re_count=count)
        results = [change(gray) for _ in range(60)]
        erased = [(each != plain).any(dim=0) for each in results]
        shares.append(float(torch.stack(erased).float().mean()))
        colors.append([len(each[0][gone].unique()) for each, gone in zip(results, erased, strict=True)])
    assert 0.7 < shares[0] / shares[1] < 1.4
    most = {"const": 1, "rand": count, "pixel": 64 * 64}[mode]
    for each in colors:
        assert 0 < max(each) <= most
        assert (np.median(each) > 20) == (mode == "pixel")


def test_erasing_happens_as_often_as_asked() -> None:
    torch.manual_seed(0)
    erase = Erasing(0.25, "rand", 2)
    changed = [bool(erase(torch.ones(3, 32, 32)).ne(1).any()) for _ in range(400)]
    assert 0.18 < np.mean(changed) < 0.32


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"img_size": 96},
        {"img_size": 96, "in_chans": 1, "mean": (0.5,), "std": [0.2]},
        {"input_size": (3, 40, 60), "crop_pct": 0, "crop_mode": "", "interpolation": None},
        {"crop_pct": 0.9, "crop_mode": "squash", "interpolation": "bilinear", "mean": MEAN, "unknown": 7},
    ],
)
@pytest.mark.parametrize("use_test_size", [False, True])
def test_data_configurations_are_timms(args: dict[str, Any], use_test_size: bool) -> None:
    card = {"input_size": (3, 64, 64), "test_input_size": (3, 80, 80), "test_crop_pct": 1.0, "std": STD}
    model = SimpleNamespace(pretrained_cfg=card)
    for where in ({"pretrained_cfg": card}, {"model": model}, {"model": create_model("convit_nano_patch4_32.cifar10")}):
        ours, theirs = (
            resolve(args, **where, use_test_size=use_test_size)
            for resolve in (resolve_data_config, timm.data.resolve_data_config)
        )
        assert ours == theirs
    expected = timm.data.resolve_model_data_config(model, args, None, use_test_size)
    assert resolve_model_data_config(model, args, None, use_test_size) == expected


def test_a_configuration_of_nothing_is_refused_and_one_can_be_logged(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="nothing says how images are prepared; give a model, args or"):
        resolve_data_config({})
    with caplog.at_level(logging.INFO, "convit"):
        resolve_data_config({"img_size": 32}, verbose=True)
    assert "images are prepared with {'input_size': (3, 32, 32)" in caplog.text
    gray = {"in_chans": 1, "mean": [0.5], "std": [0.5]}
    assert resolve_data_config(gray) == timm.data.resolve_data_config(gray)
