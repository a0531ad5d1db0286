"""What `convit export` leaves behind gives what the model gives, or is not there."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

import convit
from convit.cli import main
from convit.data import open_samples
from convit.evaluation import Evaluator
from convit.export import ExportSettings, export_model, proof
from convit.export.images import read_images
from convit.images import ImageError
from convit.images.lists import list_source
from convit.inference.exported import ExportedModel
from convit.model import ConViTConfig
from convit.transforms import TransformSettings
from tests.data.making import write_shard
from tests.data.serving import served

pytestmark = pytest.mark.compiled
NANO = "convit_nano_patch4_32.cifar10"
PROOF = proof.Proof(1e-3, 2e-2, 100.0, None, 8, ((8, 32, 32),), "color fields")


@pytest.fixture(scope="module")
def model() -> convit.ConViT:
    return convit.create_model(NANO, pretrained=True).eval()


@pytest.fixture(scope="module")
def made(model: convit.ConViT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported with the defaults."""
    folder = tmp_path_factory.mktemp("exported") / "made"
    export_model(model, folder, source={"name": NANO})
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("chelsea", "coffee", "rocket"):
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.png")
    return sorted(map(str, folder.iterdir()))


def tiny(**changes: Any) -> convit.ConViT:
    config = {"img_size": 16, "patch_size": 4, "depth": 3, "local_up_to_layer": 2, "num_classes": 5, "embed_dim": 8}
    return convit.ConViT(ConViTConfig(**{**config, **changes})).eval()


def test_an_exported_folder_says_what_it_holds(made: Path) -> None:
    config = json.loads((made / "config.json").read_text())
    known = config["export"]
    assert known["sha256"] == {"model.onnx": sha256((made / "model.onnx").read_bytes()).hexdigest()}
    assert (known["input"]["dtype"], known["input"]["layout"], known["input"]["height"]) == ("uint8", "NHWC", 32)
    found = known["difference"]
    assert 0.0 < found["largest"] <= found["limit"] == 5e-6
    assert (found["top1_agreement"], [batch for batch, _, _ in found["shapes"]]) == (100.0, [1, 3, 4])
    assert known["source"]["name"] == NANO
    assert known["versions"].keys() == {"convit", "torch", "onnx", "onnxscript", "onnxruntime"}
    assert (made / "labels.txt").read_text().split() == config["label_names"]
    assert f"{found['largest']:.1e}" in (made / "README.md").read_text()
    assert {each.name for each in made.iterdir()} == {
        *known["sha256"],
        "config.json",
        "labels.txt",
        "README.md",
        "predict.py",
    }


def test_the_script_labels_as_the_model_does(model: convit.ConViT, made: Path, photos: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-I", made / "predict.py", *photos], capture_output=True, text=True, check=True
    )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    found = convit.Classifier(model)(photos)
    expected = [(photo, each.label, each.score) for photo, best in zip(photos, found, strict=True) for each in best]
    assert [tuple(row[:2]) for row in rows] == [each[:2] for each in expected]
    assert [float(row[2]) for row in rows] == pytest.approx([each[2] for each in expected], abs=1e-4)


def test_the_script_ends_in_one_line_on_what_it_cannot_read(made: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no image")
    for given, told in ((["bad.jpg"], "UnidentifiedImageError: cannot identify"), ([], "Label or embed images")):
        done = subprocess.run(
            [sys.executable, made / "predict.py", *given], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False)
        assert done.stderr.startswith(told)


def test_the_python_of_the_readme_runs(made: Path, photos: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code = (made / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 12
    done = subprocess.run(
        [sys.executable, "-c", code.replace("cat.jpg", photos[0])], cwd=made, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "{'logits': (1, 10), 'embedding': (1, 108)}"


MATRIX = [
    ExportSettings("onnx", precision, (40, 24) if dynamic else None, dynamic, taken, outputs, opset)
    for precision, dynamic, taken, outputs, opset in (
        ("fp32", True, "float", None, None),
        ("fp16", False, "uint8", "embedding", None),
        ("fp32", True, "uint8", "tokens", 18),
    )
]
MATRIX += [ExportSettings(form, size=(24, 40)) for form in ("openvino", "pt2")]
SOAK = [ExportSettings("aotinductor"), ExportSettings("openvino", "bf16"), ExportSettings("pt2", "bf16", input="float")]
SOAK += [
    ExportSettings("onnx", precision, (40, 24), dynamic, taken, outputs, opset)
    for precision, dynamic in (("fp32", False), ("fp32", True), ("fp16", True))
    for taken in ("uint8", "float")
    for outputs in ("both", "logits", "tokens")
    for opset in (18, 23)
]


def _check(settings: ExportSettings, folder: Path) -> None:
    """A small model with random weights, also at a size that it was not recorded at."""
    model = tiny()
    found = export_model(model, folder, settings)
    assert found.largest <= found.limit == proof.LIMITS[settings.precision]
    exported = ExportedModel(folder)
    size = (12, 28) if settings.dynamic_size else settings.size or (16, 16)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    expected = proof.expected_outputs(model, pixels, exported.outputs)
    for name, values in exported.run(pixels).items():
        assert np.abs(values - expected[name]).max() <= found.limit * np.abs(expected[name]).max()


@pytest.mark.parametrize("settings", MATRIX, ids=str)
def test_formats(settings: ExportSettings, tmp_path: Path) -> None:
    _check(settings, tmp_path / "made")


@pytest.mark.soak
@pytest.mark.parametrize("settings", SOAK, ids=str)
def test_more_of_the_matrix(settings: ExportSettings, tmp_path: Path) -> None:
    _check(settings, tmp_path / "made")


@pytest.mark.soak
@pytest.mark.parametrize("form", ["onnx", "openvino", "pt2", "aotinductor"])
@pytest.mark.parametrize("taken", ["uint8", "float"])
def test_what_stands_beside_each_file_runs(form: str, taken: Any, tmp_path: Path) -> None:
    model = tiny(in_chans=1)
    export_model(model, tmp_path / "made", ExportSettings(form, input=taken))
    Image.fromarray(data.chelsea()).convert("L").save(tmp_path / "made" / "cat.jpg")
    code = (tmp_path / "made" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    places: dict[str, Any] = {"cwd": tmp_path / "made", "capture_output": True, "text": True, "check": True}
    done = subprocess.run([sys.executable, "-c", code], **places)
    assert ast.literal_eval(re.sub(r"torch.Size\(\[(.*?)\]\)", r"(\1)", done.stdout)) == {
        "logits": (1, 5),
        "embedding": (1, model.config.dim),
    }
    done = subprocess.run([sys.executable, "predict.py", "cat.jpg"], **places)
    best = convit.Classifier(model)(tmp_path / "made" / "cat.jpg")
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == [each.label for each in best]


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_int8_is_measured_on_images_that_gave_no_ranges(form: str, tmp_path: Path) -> None:
    model = convit.create_model(NANO, pretrained=True).eval()
    for label in ("cat", "ship"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(4):
            crop = Image.fromarray(data.chelsea()).crop((40 * number, 0, 40 * number + 150, 200))
            crop.save(tmp_path / "data" / label / f"{number}.png")
    images = read_images(str(tmp_path / "data"), model)
    assert set(images.ranges) & set(images.checked) == set()
    found = export_model(model, tmp_path / "made", ExportSettings(form, "int8"), images)
    assert (found.images, len(found.top1 or ())) == (6, 2)
    assert found.warning == "only 6 images were compared; give at least 264 to --data"
    size = sum(each.stat().st_size for each in (tmp_path / "made").glob("model.*"))
    assert size < 0.45 * 4 * sum(each.numel() for each in model.parameters())


def test_labels_are_matched_as_an_evaluation_does(tmp_path: Path) -> None:
    """By WordNet id, and where the model names no class by order: neither had labels, and no top-1 was compared."""
    for name in ("n02123045", "n01443537"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    model = convit.create_model("convit_mini_patch8_64.tiny_imagenet", pretrained=True)
    for each in (model, tiny(num_classes=2)):
        expected = [outcome.label for outcome in Evaluator(each).iterate(open_samples(tmp_path))]
        assert list(read_images(str(tmp_path), each).labels) == expected
    assert expected == [0, 1]


def test_what_int8_may_cost() -> None:
    images = read_images(str(Path(__file__).parents[2] / "examples" / "photos"), tiny())
    shown = proof.Proof(0.1, None, 97.0, None, 250, (), "")
    with pytest.raises(ValueError, match=r"keeps the first class of 97.0 % of 250 images, but must of 98 %"):
        proof.check_int8(shown, images)
    with pytest.raises(ValueError, match=r"loses 0.6 points of top-1 on 1,000 images, but must not lose more than 0.5"):
        proof.check_int8(proof.Proof(0.1, None, 99.0, (50.0, 49.4), 1000, (), ""), images)
    assert proof.check_int8(proof.Proof(0.1, None, 90.0, (50.0, 49.6), 1000, (), ""), images).warning == ""


@pytest.mark.parametrize("content", ["cat.png\ndog.png\n", "image,label\ncat.png,cat\ndog.png,dog\n"])
def test_images_of_a_list_may_be_elsewhere(content: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("cat", "dog"):
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / f"{name}.png")
    named = tmp_path / f"list.{'csv' if ',' in content else 'txt'}"
    named.write_text(content)
    with pytest.raises(FileNotFoundError, match="say with --images where they are"):
        read_images(str(named), tiny())
    images = read_images(list_source(named, tmp_path / "photos"), tiny())
    assert (images.count, images.read) == (2, str(named))
    assert len(list(images.open([0, 1]))) == 2


def test_what_is_told_of_images_behind_a_url_gives_no_access(tmp_path: Path) -> None:
    write_shard(tmp_path / "x.tar", range(2))
    with served(tmp_path) as server:
        images = read_images(f"{server.url}/x.tar?signature=secret", tiny())
    assert (images.count, images.read) == (2, f"{server.url}/x.tar")


def test_an_image_that_cannot_be_read_is_not_the_fault_of_the_format(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_text("no image")
    images = read_images(str(tmp_path), tiny())
    with pytest.raises(ImageError, match=r"^.*bad.jpg: is text, not an image"):
        export_model(tiny(), tmp_path / "made", ExportSettings(precision="int8"), images)
    assert {each.name for each in tmp_path.iterdir()} == {"bad.jpg", "good.png"}


def test_above_the_limit_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(proof.LIMITS, "fp32", 1e-12)
    with pytest.raises(ValueError, match=r"ONNX in fp32 differs from PyTorch by .* must not by more than 1e-12"):
        export_model(tiny(), tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_what_a_converter_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **options: object) -> None:
        raise RuntimeError("no operator\nfor aten::odd")

    monkeypatch.setattr("convit.export.exporting.write", refuse)
    with pytest.raises(ValueError, match=r"ONNX cannot hold this model \(RuntimeError: no operator for aten::odd\)"):
        export_model(tiny(), tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (tiny, {"size": (18, 16)}, "18 x 16 pixels .* is not tiled by patches of 4"),
        (tiny, {"size": (20_000, 16)}, "sides of at most 16,384 pixels"),
        (tiny, {"precision": "int8"}, "ranges come from images: give --data"),
        (lambda: tiny(num_classes=0), {"outputs": "both"}, "has 'logits', but the model has no classes; use embedding"),
        (lambda: tiny(global_pool=""), {"outputs": "embedding"}, "does not pool its tokens; use tokens"),
    ],
)
def test_what_cannot_be_exported(
    make: Callable[[], convit.ConViT], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        export_model(make(), tmp_path / "made", ExportSettings(**settings))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"format": "gif"}, "format is 'gif', but must be one of onnx"),
        ({"format": "pt2", "precision": "int8"}, "torch.export program is written in fp32, bf16, but not in int8"),
        ({"format": "executorch", "precision": "fp16"}, "ExecuTorch is written in fp32, but not in fp16"),
        ({"precision": "bf16"}, "ONNX is written in fp32, fp16, int8, but not in bf16"),
        ({"format": "openvino", "dynamic_size": True}, "OpenVINO IR files take one image size"),
        ({"format": "pt2", "opset": 18}, "opset is 18, but torch.export program has no opsets"),
        ({"opset": 17}, "opset is 17, but must be 18 or 23"),
        ({"precision": "int8", "opset": 23}, "quantizes opset 18 alone"),
    ],
)
def test_settings_that_do_not_fit(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExportSettings(**given)


def test_other_modules_are_refused(tmp_path: Path) -> None:
    import torch

    with pytest.raises(TypeError, match="model is a Linear, but only a ConViT"):
        export_model(torch.nn.Linear(1, 1), tmp_path / "made")
    hybrid = convit.ConViT(tiny().config, hybrid_backbone=torch.nn.Conv2d(3, 8, 4, 4))
    with pytest.raises(ValueError, match="a CNN is under the model's patch embedding"):
        export_model(hybrid, tmp_path / "made")


def test_a_folder_is_replaced_only_where_nothing_else_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convit.weights.save_weights(tmp_path / "tiny.safetensors", tiny())
    command = ["export", str(tmp_path / "tiny.safetensors"), "--output", str(tmp_path / "made")]
    assert main([*command, "--outputs", "logits"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(tmp_path / "made")
    first = (tmp_path / "made" / "config.json").read_text()
    assert (
        json.loads(first)["export"]["source"]["sha256"]
        == sha256((tmp_path / "tiny.safetensors").read_bytes()).hexdigest()
    )
    assert main(command) == 2
    assert "made: holds README.md already; choose another folder, or overwrite it" in capsys.readouterr().err
    (tmp_path / "made" / "diary.txt").touch()
    assert main([*command, "--overwrite"]) == 2
    assert "holds diary.txt, which would be lost; choose another folder" in capsys.readouterr().err
    (tmp_path / "made" / "diary.txt").unlink()
    assert main([*command, "--overwrite"]) == 0
    assert (tmp_path / "made" / "config.json").read_text() != first
    assert {each.name for each in tmp_path.iterdir()} == {"made", "tiny.safetensors"}


@pytest.mark.parametrize(
    ("to", "precision", "has_it", "warns"),
    [
        ("pt2", "bf16", False, True),
        ("pt2", "bf16", True, False),
        ("pt2", "fp32", False, False),
        ("openvino", "bf16", False, False),  # which computes in fp32 there
    ],
)
def test_a_file_that_is_slow_here_is_told_so(
    to: str,
    precision: str,
    has_it: bool,
    warns: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("convit.optimization.precision.onednn_has", lambda _: has_it)
    monkeypatch.setattr("convit.export.exporting.export_model", lambda *_, **__: PROOF)
    assert main(["export", NANO, "-o", str(tmp_path / "made"), "--to", to, "--precision", precision]) == 0
    told = "warning: this processor has no instructions for bf16, so that the file takes several times as long here"
    assert (told in capsys.readouterr().err) is warns


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "name a model and --output, or give --list"),
        ((NANO, "-o", "nowhere/made"), 2, "error: nowhere/made: there is no folder"),
        ((NANO, "-o", "made", "--size", "33"), 2, "33 x 33 .* by patches of 4 pixels; take .*, such as 32 x 32"),
        ((NANO, "-o", "made", "--images", "."), 2, "say where the images of --data are; give it"),
        ((NANO, "-o", "made", "--data", "x", "--images", "."), 2, "x is not a list of images"),
        ((NANO, "-o", "made", "--size", "big"), 2, "--size is 'big', but must be a number of pixels or HEIGHTxWIDTH"),
        ((NANO, "-o", "made", "--precision", "int8"), 2, "give --data, a folder of at least 264"),
        ((NANO, "-o", "made", "--data", "nowhere"), 2, "nowhere"),
        (("convit_nano", "-o", "made"), 2, "convit_nano"),
    ],
)
def test_wrong_commands(
    arguments: tuple[str, ...],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", *arguments]) == code
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert re.search(message, said)
    assert list(tmp_path.iterdir()) == []


def test_formats_are_listed_with_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from convit.export import formats
    from convit.output import files

    def find(name: str) -> object:
        return None if name in ("onnxruntime", "litert_torch", "coremltools") else name

    monkeypatch.setattr(formats, "find_spec", find)
    monkeypatch.setattr(files, "find_spec", find)
    assert main(["export", "--list"]) == 0
    listed = {row["format"]: row for row in json.loads(capsys.readouterr().out)["formats"]}
    assert (listed["onnx"]["installed"], listed["onnx"]["needs"]) == (False, "pip install 'convit[export]'")
    assert listed["openvino"]["installed"]
    assert listed["litert"]["needs"] == "pip install 'convit[litert]'"
    assert (listed["coreml"]["note"], listed["onnx"]["note"]) == (
        "experimental: one image at a time, not compared with PyTorch, in an environment of its own",
        "",
    )
    for form, title, package, extra in (
        ("onnx", "ONNX", "onnxruntime", "export"),
        ("litert", "LiteRT", "litert_torch", "litert"),
        ("coreml", "Core ML", "coremltools", "coreml"),
    ):
        assert main(["export", NANO, "-o", "made", "--to", form]) == 1
        told = f"{title} needs the package '{package}'; install it with: pip install 'convit[{extra}]'"
        assert capsys.readouterr().err == f"convit: error: {told}\n"


def test_preprocessing_travels_with_the_size(tmp_path: Path) -> None:
    export_model(tiny(), tmp_path / "made", ExportSettings(size=(24, 32), outputs="embedding"))
    exported = ExportedModel(tmp_path / "made")
    assert exported.settings == TransformSettings(input_size=(3, 24, 32))
    assert (tmp_path / "made" / "labels.txt").read_text().startswith("class 0\n")
