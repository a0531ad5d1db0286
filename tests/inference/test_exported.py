"""Exported folders in the place of models."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from convit import Classifier, ConViT, Embedder, create_model
from convit.export import ExportSettings, export_model
from convit.images import open_image
from convit.inference.exported import ExportedModel

MakeModel = Callable[..., ConViT]


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> ConViT:
    """One whose logits are small enough for the rounding of fp32, with probabilities that are calibrated."""
    model = make_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.4)
    model.pretrained_cfg["calibration"] = {"temperature": 2.0}
    return model


@pytest.fixture(scope="module")
def exported(model: ConViT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with logits and embedding."""
    folder = tmp_path_factory.mktemp("exported") / "mine"
    export_model(model, folder)
    return folder


@pytest.fixture(scope="module")
def tokens(model: ConViT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tokens, which takes normalized floats."""
    folder = tmp_path_factory.mktemp("exported") / "tokens"
    export_model(model, folder, ExportSettings(outputs="tokens", input="float"))
    return folder


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(exported, tmp_path / "mine")


def test_labels_as_from_pytorch(model: ConViT, exported: Path, photos: list[Path]) -> None:
    mine, theirs = (Classifier(each, top_k=10, batch_size=2) for each in (str(exported), model))
    assert (mine.labels, mine.temperature) == (theirs.labels, theirs.temperature)
    assert (mine.name, mine.precision, str(mine.device)) == ("mine", "fp32", "cpu")
    for found, expected in zip(mine(photos), theirs(photos), strict=True):
        assert [each.label for each in found] == [each.label for each in expected]
        assert [each.score for each in found] == pytest.approx([each.score for each in expected], abs=1e-5)


@pytest.mark.parametrize("kind", ["pooled", "pre_logits", "tokens", "patches"])
def test_embeds_as_pytorch(model: ConViT, exported: Path, tokens: Path, photos: list[Path], kind: str) -> None:
    folder = exported if kind.startswith("p") and kind != "patches" else tokens
    mine, theirs = (Embedder(each, kind=kind, normalize=True) for each in (str(folder), model))
    assert mine.shape == theirs.shape
    np.testing.assert_allclose(mine(photos), theirs(photos), atol=1e-5)


def test_crops_as_it_is_asked_to(model: ConViT, exported: Path, photos: list[Path]) -> None:
    mine, theirs = (Embedder(each, crop_pct=0.5) for each in (str(exported), model))
    assert mine.transform.settings == theirs.transform.settings
    np.testing.assert_allclose(mine(photos), theirs(photos), atol=1e-5)


def test_gives_what_it_is_asked_for(exported: Path, photos: list[Path]) -> None:
    model = ExportedModel(exported)
    pixels = np.stack([np.asarray(open_image(photo).resize((32, 32))) for photo in photos])
    found = model.run(pixels)
    assert {name: values.shape for name, values in found.items()} == {
        "logits": (5, 10),
        "embedding": (5, 32),
    }
    assert list(model.run(pixels[:1], ["embedding"])) == ["embedding"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": 64}, r"images are 64 x 64 pixels .* takes 32 x 32 only; export it again with --size 64x64"),
        ({"device": "cuda"}, "device is cuda, but the exported model .*mine takes auto or cpu; leave it out"),
        (
            {"precision": "bf16"},
            "precision is bf16, but .* takes auto or fastest or fp32; leave it out, or export in it",
        ),
        ({"compile": True}, "compile is True, but .* takes False"),
    ],
)
def test_what_it_cannot_do(exported: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classifier(str(exported), **options)


def test_layers_are_not_exported(exported: Path) -> None:
    with pytest.raises(ValueError, match="gives logits, embedding, but this needs the tokens between blocks"):
        Embedder(str(exported), kind="layer:1")


def _changed(folder: Path, **changes: object) -> str:
    config = json.loads((folder / "config.json").read_text())
    config["export"] |= changes
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_without_logits(copied: Path) -> None:
    name = _changed(copied, outputs=["embedding"])
    assert Embedder(name).shape == (32,)
    with pytest.raises(ValueError, match="gives embedding, but this needs logits; export it again with that output"):
        Classifier(name)


def test_damaged_folders(copied: Path) -> None:
    name, config = str(copied), copied / "config.json"
    content = (copied / "model.onnx").read_bytes()
    (copied / "model.onnx").write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"model.onnx is damaged or was replaced: its sha256 is \w+…, but config.json"):
        Classifier(name)
    (copied / "model.onnx").unlink()
    with pytest.raises(FileNotFoundError, match=r"model.onnx is missing; copy the whole folder"):
        Classifier(name)
    given = json.loads(config.read_text())["export"]["input"]
    for changes, message in (
        ({"sha256": {"../model.onnx": "0"}, "file": "../model.onnx"}, "must name the files beside it"),
        ({"input": {}}, "KeyError"),
        ({"temperature": -1}, "must be a number above 0"),
        ({"transform": {"input_size": [3, 0, 0]}}, "input_size is"),
        ({"patch_size": 0}, "0 is not a number of pixels"),
        ({"input": {**given, "batch": -1}}, "-1 is not a number of pixels, images"),
        ({"input": {**given, "height": "32"}}, "'32' is not a number of pixels"),
    ):
        kept = config.read_text()
        _changed(copied, **changes)
        with pytest.raises(ValueError, match=rf"config.json is not as `convit export` writes it \(.*{message}"):
            Classifier(name)
        config.write_text(kept)
    config.write_text("[]")
    with pytest.raises(
        ValueError, match=r"config.json is not as `convit export` writes it \(TypeError: it holds a list"
    ):
        Classifier(name)
    config.write_text("{")
    with pytest.raises(ValueError, match=r"config.json is not as `convit export` writes it \(JSONDecodeError"):
        Classifier(name)


@pytest.mark.parametrize("names", ["0123456789", ["ant"], {"ant": 1}, 5])
def test_labels_that_are_not_the_classes(copied: Path, names: object) -> None:
    file = copied / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "label_names": names}))
    with pytest.raises(ValueError, match=r"label_names is .*, but must list 10 classes\); export again"):
        Classifier(str(copied))


@pytest.mark.parametrize(
    "lie", [{"dtype": "float32", "layout": "NCHW"}, {"layout": "NCHW"}, {"height": 64, "width": 64}]
)
def test_what_the_file_does_not_take(copied: Path, photos: list[Path], lie: dict[str, object]) -> None:
    given = json.loads((copied / "config.json").read_text())["export"]["input"]
    classifier = Classifier(_changed(copied, input={**given, **lie}))
    with pytest.raises(ValueError, match=r"model.onnx cannot compute \w+ images of shape .* config.json lets it take"):
        classifier(photos)


def test_classes_that_the_file_does_not_have(copied: Path, photos: list[Path]) -> None:
    file = copied / "config.json"
    told = {key: value for key, value in json.loads(file.read_text()).items() if key != "label_names"}
    file.write_text(json.dumps({**told, "num_classes": 12}))
    classifier = Classifier(str(copied))
    with pytest.raises(ValueError, match=r"model.onnx gives 10 logits, but config.json says 12 classes; export again"):
        classifier(photos)


def test_a_file_of_the_folder_is_not_the_model(copied: Path) -> None:
    with pytest.raises(
        ValueError, match=r"model.onnx is a file of an exported folder, which is taken whole; name \S+mine$"
    ):
        Classifier(str(copied / "model.onnx"))
    with pytest.raises(ValueError, match=r"model.onnx is a file, but an exported folder is taken whole; name \S+mine$"):
        ExportedModel(copied / "model.onnx")


def test_foreign_files(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    file = copied / "model.onnx"
    with pytest.raises(ValueError, match=r"it has logits, embedding, but config.json names other"):
        Classifier(_changed(copied, outputs=["logits", "other"]))
    _changed(copied, outputs=["logits"])
    file.write_bytes(b"no model")
    name = _changed(copied, sha256={"model.onnx": hashlib.sha256(b"no model").hexdigest()})
    with pytest.raises(ValueError, match=r"model.onnx cannot be loaded \(.*\); export again, or update its runtime"):
        Classifier(name)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"model.onnx needs the package onnxruntime; pip install onnxruntime"):
        Classifier(name)
    with pytest.raises(ValueError, match=r"is a file for coreml, which convit does not run .*export to onnx, openvino"):
        Classifier(_changed(copied, format="coreml"))


def test_a_published_name_stands_for_what_it_names(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "convit_nano_patch4_32.cifar10"
    shutil.copytree(exported, tmp_path / name)
    assert Classifier(name).labels[0] == "airplane"
    assert Classifier(f"{name}/").labels[0] == Classifier(f"./{name}").labels[0] == "a"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "precision", "allowed"),
    [
        ("onnx", "fp16", 2e-2),
        ("openvino", "fp32", 1e-5),
        pytest.param("openvino", "bf16", 2e-2, marks=pytest.mark.soak),
        ("pt2", "fp32", 1e-5),
        pytest.param("pt2", "bf16", 2e-2, marks=pytest.mark.soak),
        pytest.param("aotinductor", "fp32", 1e-5, marks=pytest.mark.soak),
    ],
)
def test_every_format(form: str, precision: str, allowed: float, photos: list[Path], tmp_path: Path) -> None:
    folder, model = tmp_path / "mine", create_model("convit_nano_patch4_32.cifar10", pretrained=True)
    export_model(model, folder, ExportSettings(form, precision))
    mine, theirs = (Classifier(each, top_k=10, batch_size=3) for each in (str(folder), model))
    assert mine.precision == precision
    for found, expected in zip(mine(photos), theirs(photos), strict=True):
        scores = {each.label: each.score for each in expected}
        assert {each.label: each.score for each in found} == pytest.approx(scores, abs=allowed)
    vectors, others = (Embedder(each, normalize=True, batch_size=3)(photos) for each in (str(folder), model))
    np.testing.assert_allclose(vectors, others, atol=allowed)


def test_dynamic_sizes(model: ConViT, photos: list[Path], tmp_path: Path) -> None:
    export_model(model, tmp_path / "any", ExportSettings(dynamic_size=True))
    for size in ((32, 32), (48, 64), (16, 40)):
        mine, theirs = (Classifier(each, top_k=10, img_size=size) for each in (str(tmp_path / "any"), model))
        for found, expected in zip(mine(photos), theirs(photos), strict=True):
            scores = {each.label: each.score for each in expected}
            assert {each.label: each.score for each in found} == pytest.approx(scores, abs=1e-5)
    with pytest.raises(ValueError, match=r"images are 36 x 64 pixels .* takes multiples of 8"):
        Classifier(str(tmp_path / "any"), img_size=(36, 64))
