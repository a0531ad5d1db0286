"""The benchmark of fast decoding, and the bound on its error that the option's help and docstring state."""

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from benchmarks import decoding
from convit.cli import main
from convit.images.opening import open_image, opened
from convit.inference.options import RunOptions
from convit.transforms import create_transform

NANO = "convit_nano_patch4_32.cifar10"
_BOUND = re.compile(r"move by less than (\d+) of 255 levels on average")


@pytest.fixture(scope="module")
def collages() -> dict[str, bytes]:
    return {name: content for name, content in decoding.make_collages().items() if not name.startswith("3023")}


def stated_bounds(capsys: pytest.CaptureFixture[str]) -> set[int]:
    """What the help of both commands and the options of a run say."""
    texts = [str(RunOptions.__doc__)]
    for command in ("classify", "embed"):
        assert main([command, "--help"]) == 0
        texts.append(capsys.readouterr().out)
    found = [_BOUND.findall(" ".join(text.split())) for text in texts]
    assert all(len(each) == 1 for each in found)
    return {int(each[0]) for each in found}


@pytest.mark.parametrize(("side", "crop_pct"), [(224, 0.875), (32, 1.0)])
def test_the_stated_bound_holds(
    side: int, crop_pct: float, collages: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    transform = create_transform(side, interpolation="bicubic", crop_pct=crop_pct)
    at_least = transform.least_side
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for content in collages.values():
        whole = open_image(content)
        with opened(content, at_least=at_least) as (reduced, full_size):
            assert reduced.width < whole.width
            assert full_size == whole.size
            pairs.append((transform.to_pixels(whole), transform.to_pixels(reduced, full_size)))
    found = decoding.pixel_errors(pairs)
    (bound,) = stated_bounds(capsys)
    assert 0 < found["worst_mean_error"] < bound
    assert found["mean_error"] < 1


def test_errors_are_measured_in_levels() -> None:
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    almost = black.copy()
    almost[0, 0, 0] = 12
    found = decoding.pixel_errors([(black, almost), (white, white)])
    assert found == {"mean_error": 0.5, "worst_mean_error": 1.0, "largest_error": 12}


def test_one_set_end_to_end(tmp_path: Path) -> None:
    for name, size in (("large.jpg", (512, 400)), ("small.jpeg", (40, 40))):
        Image.fromarray(data.chelsea()).resize(size).save(tmp_path / name)
    (tmp_path / "other.png").write_bytes(b"")
    files = decoding.read_folder(tmp_path)
    assert list(files) == ["large.jpg", "small.jpeg"]
    row = decoding.compare("two cats", files, NANO, rounds=1)
    assert (row["images"], row["reduced"], row["size"]) == (2, 1, "32 x 32")
    assert row["same_top1"] == 2
    assert 0.9 < row["least_cosine"] <= 1.0001
    assert row["ready_fast_ms"]["median"] > 0


def test_absent_weights_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convit.weights.is_cached", lambda *_: False)
    encoded = BytesIO()
    Image.fromarray(data.chelsea()).save(encoded, "JPEG")
    row = decoding.compare("a cat", {"cat": encoded.getvalue()}, "convit_base.fb_in1k", rounds=1)
    assert (row["size"], row["same_top1"]) == ("224 x 224", None)
