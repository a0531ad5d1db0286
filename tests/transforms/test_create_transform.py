"""Options, errors and manners of the evaluation transform."""

import pickle
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image
from skimage import data

from convit.transforms import EvaluationTransform, TransformSettings, create_transform, resolve_model_data_config

CONFIG = {"input_size": (3, 64, 96), "interpolation": "bicubic", "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}


def cat() -> Image.Image:
    return Image.fromarray(data.chelsea())


def test_a_pickled_transform_is_the_same() -> None:
    transform = create_transform(**CONFIG, crop_mode="border")
    transform(cat())
    again = pickle.loads(pickle.dumps(transform))
    assert torch.equal(again(cat()), transform(cat()))
    assert repr(again) == repr(transform)


def test_repr_says_what_is_done() -> None:
    expected = (
        "EvaluationTransform(input_size=(3, 64, 96), interpolation='bicubic', mean=(0.5, 0.4, 0.3), "
        "std=(0.2, 0.3, 0.4), crop_pct=0.875, crop_mode='center')"
    )
    assert repr(create_transform(**CONFIG)) == expected
    assert repr(create_transform(**CONFIG, normalize=False)).endswith("crop_mode='center', normalize=False)")


def test_the_picture_is_left_alone() -> None:
    image = cat()
    create_transform(**CONFIG)(image)
    assert np.array_equal(np.asarray(image), data.chelsea())


def test_other_modes_are_converted_as_pillow_does() -> None:
    transform = create_transform(**CONFIG)
    for mode in ("L", "P", "CMYK", "RGBA"):
        converted = cat().convert(mode)
        assert torch.equal(transform(converted), transform(converted.convert("RGB")))


def test_gray_models_take_one_channel() -> None:
    transform = create_transform(**{**CONFIG, "input_size": (1, 64, 96)})
    values = transform(cat())
    assert values.shape == (1, 64, 96)
    pixels = transform.to_pixels(cat())[:, :, 0]
    np.testing.assert_allclose(values[0].numpy(), (pixels / 255 - 0.4) / 0.3, atol=1e-6)
    assert create_transform(**{**CONFIG, "input_size": (1, 64, 96)}, crop_mode="border")(cat()).shape == (1, 64, 96)


def test_training_options_are_passed_over_in_evaluation() -> None:
    options = {"hflip": 1.0, "color_jitter": 0.9, "re_prob": 1.0, "auto_augment": "rand-m9"}
    assert torch.equal(create_transform(**CONFIG, **options)(cat()), create_transform(**CONFIG)(cat()))


@pytest.mark.parametrize("shape", [(2, 20_000), (20_000, 2)])
def test_strips_do_not_eat_the_memory(shape: tuple[int, int]) -> None:
    strip = Image.fromarray(np.full((*shape, 3), 128, dtype=np.uint8))
    values = create_transform(input_size=224, interpolation="bicubic")(strip)
    assert values.shape == (3, 224, 224)
    assert torch.equal(values, values[:, :1, :1].expand(3, 224, 224))


@pytest.mark.parametrize("size", [(40_000, 30), (30, 40_000)])
def test_strips_show_their_center(size: tuple[int, int]) -> None:
    # a ramp along the strip: what the crop shows must be the levels around the middle of it
    ramp = np.linspace(0, 255, max(size)).astype(np.uint8)
    pixels = np.broadcast_to(ramp, (min(size), max(size)))
    strip = Image.fromarray(pixels if size[0] > size[1] else pixels.T).convert("RGB")
    ours = create_transform(input_size=224, interpolation="bicubic", normalize=False)(strip)
    theirs = timm.data.create_transform(input_size=224, interpolation="bicubic", normalize=False)(strip)
    assert (ours.int() - theirs.int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interpolation": "cubic"}, "interpolation is 'cubic', but must be one of nearest, bilinear"),
        ({"crop_mode": "middle"}, "crop_mode is 'middle', but must be one of center, squash, border"),
        ({"crop_pct": 1.5}, "crop_pct is 1.5, but must lie in"),
        ({"input_size": (4, 64, 64)}, "must be (channels, height, width) with 1 or 3 channels"),
        ({"input_size": (3, 0, 64)}, "must be (channels, height, width)"),
        ({"input_size": (1, 3, 64, 64)}, "a size is one side, (height, width)"),
        ({"mean": (0.5, 0.5)}, "mean has 2 values, but 3 channels need 3 of them, or one"),
        ({"std": (0.5, 0.5, 0.0)}, "every channel's must be above 0"),
    ],
)
def test_wrong_values(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        create_transform(**{**CONFIG, **change})
    assert "\n" not in str(caught.value)


def test_wrong_types() -> None:
    with pytest.raises(TypeError, match="hue_jitter"):
        create_transform(**CONFIG, hue_jitter=0.1)
    with pytest.raises(TypeError, match="takes a Pillow image, not ndarray"):
        create_transform(**CONFIG)(data.chelsea())


def test_settings_are_read_from_the_model() -> None:
    published = {**CONFIG, "crop_pct": 0.9, "crop_mode": "squash", "url": "elsewhere", "num_classes": 7}
    model = SimpleNamespace(pretrained_cfg=published)
    config = resolve_model_data_config(model)
    assert config == {**CONFIG, "crop_pct": 0.9, "crop_mode": "squash"}
    assert config == timm.data.resolve_model_data_config(model)
    assert TransformSettings.from_model(model) == TransformSettings(**config)
    assert isinstance(create_transform(**config, is_training=False), EvaluationTransform)
    assert resolve_model_data_config(model, {"img_size": 32, "mean": None})["input_size"] == (3, 32, 32)
    assert resolve_model_data_config(model, {"input_size": (3, 48, 16)})["input_size"] == (3, 48, 16)
    assert resolve_model_data_config(model, pretrained_cfg={"std": [1, 1, 1]})["std"] == (1.0, 1.0, 1.0)


def test_settings_of_a_model_that_says_nothing() -> None:
    bare = resolve_model_data_config(torch.nn.Identity())
    assert bare == timm.data.resolve_model_data_config(torch.nn.Identity())
    sized = SimpleNamespace(pretrained_cfg={}, config=SimpleNamespace(img_size=(112, 448), in_chans=3))
    assert resolve_model_data_config(sized)["input_size"] == (3, 112, 448)


def test_no_torch_until_a_tensor_is_asked_for() -> None:
    script = (
        "import sys; from PIL import Image; from convit.transforms import create_transform;"
        "create_transform().to_array(Image.new('RGB', (20, 30))); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
