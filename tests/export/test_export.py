"""What `convit export` leaves behind gives what the model gives."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import convit
from convit.export import ExportSettings, export_model

pytestmark = pytest.mark.compiled


@pytest.fixture(scope="module")
def model() -> convit.ConViT:
    return convit.create_model("convit_nano_patch4_32.cifar10", pretrained=True).eval()


def test_an_exported_folder_says_what_it_holds(model: convit.ConViT, tmp_path: Path) -> None:
    proof = export_model(model, tmp_path / "made")
    assert 0.0 < proof.largest <= 5e-6
    assert (proof.top1_agreement, [batch for batch, _, _ in proof.shapes]) == (1.0, [1, 3, 4])
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    known = config["export"]
    assert known["sha256"] == {"model.onnx": sha256((tmp_path / "made" / "model.onnx").read_bytes()).hexdigest()}
    assert known["difference"] == json.loads(json.dumps(proof.to_dict()))
    assert (tmp_path / "made" / "labels.txt").read_text().split() == config["label_names"]


def test_a_file_of_any_size_gives_what_the_model_gives(model: convit.ConViT, tmp_path: Path) -> None:
    export_model(model, tmp_path / "made", ExportSettings(dynamic_size=True, input="float"))
    session = onnxruntime.InferenceSession(tmp_path / "made" / "model.onnx")
    for shape in ((1, 3, 8, 60), (2, 3, 36, 20)):
        images = np.random.default_rng(0).standard_normal(shape, np.float32)
        logits, embedding = session.run(None, {"images": images})
        with torch.inference_mode():
            expected = model(torch.from_numpy(images)).numpy()
        assert np.abs(logits - expected).max() <= 5e-6 * np.abs(expected).max()
        assert embedding.shape == (shape[0], model.config.dim)
