import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from convit.transforms import create_transform
from convit.transforms.augmentation import RandAugment, _operations, parse_policy, parse_rand_augment
from convit.transforms.training import training_transform


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    return Image.fromarray(data.chelsea()).resize((96, 64))


def test_the_whole_pipeline_gives_a_tensor_and_hangs_on_torchs_seed(cat: Image.Image) -> None:
    transform = training_transform((48, 32), rand_augment=RandAugment(), erasing=0.5)
    torch.manual_seed(1)
    first = transform(cat)
    torch.manual_seed(1)
    again = transform(cat)
    assert (first.shape, first.dtype) == ((3, 48, 32), torch.float32)
    assert torch.equal(first, again)
    assert not torch.equal(first, transform(cat))


def test_without_random_steps_it_is_resize_and_normalize(cat: Image.Image) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    tensor = training_transform(32, mean=mean, std=std, crop="none", flip=0.0)(cat)
    pixels = np.asarray(cat.resize((32, 32), Image.Resampling.BICUBIC)) / 255
    assert np.allclose(tensor.numpy(), ((pixels - mean) / std).transpose(2, 0, 1), atol=1e-5)


def test_a_certain_flip_mirrors(cat: Image.Image) -> None:
    plain, flipped = (training_transform(32, crop="none", flip=flip)(cat) for flip in (0.0, 1.0))
    assert torch.equal(plain.flip(-1), flipped)


def test_padded_crops_are_shifted_pictures() -> None:
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    crop = training_transform(4, crop="padded", padding=2, flip=0.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    torch.manual_seed(0)
    seen = {(crop(image) * 255).round().byte().permute(1, 2, 0).numpy().tobytes() for _ in range(400)}
    padded = np.zeros((8, 8, 3), dtype=np.uint8)  # black is the mean color here
    padded[2:6, 2:6] = np.asarray(image)
    possible = {padded[top : top + 4, left : left + 4].tobytes() for top in range(5) for left in range(5)}
    assert seen == possible


def test_erasing_acts_on_the_tensor() -> None:
    gray = Image.new("RGB", (32, 32), (128, 128, 128))
    torch.manual_seed(0)
    tensor = training_transform(32, crop="none", flip=0.0, erasing=1.0)(gray)
    noisy = (tensor != tensor[:, :1, :1]).any(dim=0)
    assert 0.02 <= max(noisy.float().mean().item(), (~noisy).float().mean().item()) < 1.0
    assert noisy.any()


def test_color_jitter_changes_colors(cat: Image.Image) -> None:
    torch.manual_seed(0)
    jittered = training_transform(32, crop="none", flip=0.0, color_jitter=0.4)(cat)
    assert not torch.equal(jittered, training_transform(32, crop="none", flip=0.0)(cat))


@pytest.mark.parametrize("name", list(_operations(Image.Resampling.BICUBIC, (0, 0, 0))))
@pytest.mark.parametrize("level", [-1.0, -0.3, 0.0, 0.6, 1.0])
def test_each_operation_keeps_size_and_mode(cat: Image.Image, name: str, level: float) -> None:
    for resampling in (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS):
        result = _operations(resampling, (1, 2, 3))[name](cat, level)
        assert (result.size, result.mode) == (cat.size, "RGB")


@pytest.mark.parametrize(
    "name", ["rotate", "color", "contrast", "brightness", "sharpness", "shear x", "translate y", "solarize add"]
)
def test_strength_zero_leaves_the_picture(cat: Image.Image, name: str) -> None:
    result = _operations(Image.Resampling.BICUBIC, (0, 0, 0))[name](cat, 0.0)
    assert np.array_equal(np.asarray(result), np.asarray(cat))


def test_rand_augment_never_applied_leaves_the_picture(cat: Image.Image) -> None:
    assert RandAugment(probability=0.0).bind(Image.Resampling.BICUBIC, (0, 0, 0))(cat) is cat


def test_timms_names_reach_the_same_pipeline(cat: Image.Image) -> None:
    theirs = create_transform(
        32,
        is_training=True,
        interpolation="bicubic",
        auto_augment="rand-m9-mstd0.5-inc1",
        re_prob=0.25,
        re_mode="pixel",
    )
    ours = training_transform(32, rand_augment=RandAugment(), erasing=0.25)
    torch.manual_seed(5)
    first = theirs(cat)
    torch.manual_seed(5)
    assert torch.equal(first, ours(cat))
    assert parse_rand_augment("rand-m7-n3-p0.8") == RandAugment(3, 7.0, 0.0, 0.8)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"interpolation": "cubic"}, "interpolation is 'cubic'"),
        ({"auto_augment": "augmix-q3"}, "'q3' means nothing; write it as 'augmix-"),
        ({"auto_augment": "rand-m9-inc0"}, "only 'rand-"),
        ({"auto_augment": "v7"}, "auto_augment is 'v7', but must be a policy such as"),
        ({"train_crop_mode": "center"}, "train_crop_mode is 'center', but must be 'rrc', 'rkrc' or 'rkrr'"),
        ({"color_jitter": (0.1, 0.2)}, "color_jitter is .*, but must be one number, three or four"),
        ({"re_count": 0}, "re_count 0, but must be"),
        ({"auto_augment": "rand-x9"}, "'x9' means nothing"),
        ({"auto_augment": "rand-m90"}, "out of range"),
        ({"re_mode": "blur"}, "re_mode is 'blur'"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        create_transform(32, True, **options)


def test_an_unknown_crop_is_refused() -> None:
    with pytest.raises(ValueError, match="crop is 'center'"):
        training_transform(32, crop="center")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["original", "originalr", "v0", "v0r"])
def test_auto_augment_has_one_policy_under_timms_names(cat: Image.Image, name: str) -> None:
    torch.manual_seed(3)
    expected = parse_policy("original", "bicubic", (1, 2, 3))(cat)
    torch.manual_seed(3)
    result = parse_policy(name, "lanczos", (1, 2, 3))(cat)
    assert (result.size, result.mode) == (cat.size, "RGB")
    assert np.array_equal(np.asarray(result), np.asarray(expected))
