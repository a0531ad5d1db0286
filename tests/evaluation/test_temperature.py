"""A fitted temperature: kept in the weight file, applied where probabilities are stated, never to `model(images)`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import convit
from convit.analysis.explaining import explain
from convit.cli import main
from convit.data import open_samples
from convit.evaluation import Evaluator
from convit.weights import save_weights
from convit.weights.files import store_calibration
from convit.weights.header import read_metadata

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def own(weights: Path, tmp_path: Path) -> Path:
    """A copy of the weights that may be changed."""
    return Path(shutil.copy(weights, tmp_path / "own.safetensors"))


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """60 small images of noise in the model's six classes, on which it is sure and seldom right."""
    draw = np.random.default_rng(0)
    for number in range(60):
        place = tmp_path / "many" / ("cat", "coffee cup", "rocket", "person", "page", "clock")[number % 6]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(place / f"{number}.png")
    return tmp_path / "many"


def test_it_is_fitted_kept_and_applied(own: Path, many: Path, capsys: Captured) -> None:
    photograph = next(many.rglob("*.png"))
    model, before = convit.load_model(own).eval(), convit.Classifier(weights=own)(photograph)
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    assert main(["evaluate", str(many), "--weights", str(own), "--calibrate"]) == 0
    written = capsys.readouterr()
    found, kept = json.loads(written.out), read_metadata(own)["calibration"]
    assert kept["temperature"] == found["temperature"] == found["temperature_fit"]["temperature"] > 1
    assert kept["ece_after"] < kept["ece_before"]
    assert f"temperature {kept['temperature']:.3f} is kept in" in written.err
    # the next evaluation applies it without being asked, and names the file as it is now
    again = Evaluator(weights=own).evaluate(open_samples(many))
    assert (again.temperature, again.temperature_fit) == (kept["temperature"], None)
    assert again.loss == pytest.approx(found["loss"])
    assert (again.weights_sha256, again.top1) == (found["weights_sha256"], found["top1"])
    classifier = convit.Classifier(weights=own)
    after = classifier(photograph)
    assert [each.label for each in after] == [each.label for each in before]
    assert after[0].score < before[0].score
    assert explain(convit.load_model(own).eval(), photograph).predictions[0].score == pytest.approx(after[0].score)
    loaded = convit.load_model(own).eval()
    assert all(torch.equal(value, tensors[name]) for name, value in loaded.state_dict().items())
    logits = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(loaded(logits), model(logits), rtol=0, atol=0)
    classifier.temperature = 1.0
    assert classifier(photograph)[0].score == pytest.approx(before[0].score, rel=1e-4)


def test_a_temperature_stays_in_force_where_none_can_be_fitted(own: Path, folder: Path) -> None:
    store_calibration(own, {"temperature": 2.5})
    plain, asked = (Evaluator(weights=own).evaluate(open_samples(folder), calibrate=each) for each in (False, True))
    assert (asked.temperature, asked.loss, asked.temperature_fit) == (2.5, plain.loss, None)


def test_a_new_head_or_new_weights_have_none(own: Path, tmp_path: Path) -> None:
    store_calibration(own, {"temperature": 2.5})
    assert Evaluator(weights=own).temperature == 2.5
    assert convit.load_model(own, num_classes=3).pretrained_cfg["calibration"] is None
    model = convit.load_model(own)
    model.reset_classifier(4)
    assert convit.Classifier(model).temperature == 1
    save_weights(tmp_path / "next.safetensors", convit.load_model(own))
    assert convit.Classifier(weights=tmp_path / "next.safetensors").temperature == 1


@pytest.mark.parametrize("wrong", [0, -1, float("inf"), "warm", None, True])
def test_what_is_not_a_temperature_is_refused(wrong: object, own: Path) -> None:
    store_calibration(own, {"temperature": wrong})
    with pytest.raises(ValueError, match="it must be a number above 0; fit it again"):
        convit.Classifier(weights=own)


def test_what_cannot_be_calibrated(own: Path, folder: Path, tmp_path: Path, capsys: Captured) -> None:
    content = own.read_bytes()
    assert main(["evaluate", str(folder), "--weights", str(own), "--calibrate"]) == 0  # 18 images
    assert "no temperature was kept: too few images" in capsys.readouterr().err
    assert own.read_bytes() == content
    assert main(["evaluate", str(folder), "--calibrate"]) == 2
    assert "--calibrate keeps a temperature in the file of --weights; name one" in capsys.readouterr().err
    bare = tmp_path / "bare.pth"
    torch.save(convit.load_model(own).state_dict(), bare)
    assert main(["evaluate", str(folder), "--weights", str(bare), "--calibrate"]) == 2
    assert "is not a safetensors file" in capsys.readouterr().err
