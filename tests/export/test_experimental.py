"""Formats for phones, of one image at a time: run where their packages are installed, and honest where nothing runs."""

import ast
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convit.cli import main
from convit.export import ExportSettings, export_model, exporting, formats, proof, writing
from convit.export.formats import FORMATS
from convit.inference.exported import ExportedModel
from convit.inference.sessions import start_session
from convit.model import ConViT, ConViTConfig
from convit.output import files

pytestmark = [pytest.mark.compiled, pytest.mark.filterwarnings("ignore")]  # the converters' own
NANO = "convit_nano_patch4_32.cifar10"
CAT = Path(__file__).parents[2] / "examples" / "photos" / "cat.jpg"


def tiny() -> ConViT:
    return ConViT(
        ConViTConfig(img_size=16, patch_size=4, depth=3, local_up_to_layer=2, num_classes=5, embed_dim=8)
    ).eval()


def where_installed(form: str) -> Any:
    lacking = ", ".join(FORMATS[form].missing)
    return pytest.param(form, marks=pytest.mark.skipif(bool(lacking), reason=f"needs {lacking}"), id=form)


RUN = [where_installed("executorch"), where_installed("litert")]


@pytest.mark.parametrize("form", RUN)
@pytest.mark.parametrize("given", [{}, {"input": "float", "size": (24, 40)}, {"outputs": "tokens"}], ids=str)
def test_gives_what_pytorch_gives(form: str, given: dict[str, Any], tmp_path: Path) -> None:
    model = tiny()
    found = export_model(model, tmp_path / "made", ExportSettings(form, **given))
    assert found.largest <= found.limit
    exported = ExportedModel(tmp_path / "made")
    assert (exported.export.batch, exported.batch_size) == (1, 1)
    pixels = np.random.default_rng(0).integers(0, 256, (3, *given.get("size", (16, 16)), 3), np.uint8)
    expected = proof.expected_outputs(model, pixels, exported.outputs)
    for name, values in exported.run(pixels).items():
        assert np.abs(values - expected[name]).max() <= found.limit * np.abs(expected[name]).max()


@pytest.mark.parametrize("form", RUN)
def test_is_a_model_and_says_nothing_meanwhile(form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["export", NANO, "-o", str(tmp_path / "made"), "--to", form]) == 0
    assert main(["classify", str(CAT), "--model", str(tmp_path / "made"), "--top-k", "1", "-q"]) == 0
    said = capfd.readouterr()
    assert (said.err, len(said.out.splitlines())) == ("", 2)
    assert json.loads(said.out.splitlines()[1])["predictions"][0]["label"] == "cat"
    code = (tmp_path / "made" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    given: dict[str, Any] = {"cwd": tmp_path / "made", "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", code.replace("cat.jpg", str(CAT))], check=True, **given)
    assert ast.literal_eval(done.stdout) == {"logits": (1, 10), "embedding": (1, 108)}
    done = subprocess.run([sys.executable, "predict.py", CAT], check=False, **given)
    assert (done.returncode, done.stderr.split(" ", 1)[1]) == (1, "is run by the lines in README.md alone\n")


@pytest.mark.parametrize("form", RUN)
def test_what_is_no_such_file(form: str, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"model cannot be loaded \(.+\); export again, or update its runtime"):
        start_session(tmp_path / "model", form, "fp32", "images", ("logits",))


@pytest.mark.parametrize("form", [where_installed("coreml")])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_core_ml_is_written(form: str, precision: str, tmp_path: Path) -> None:
    import coremltools

    export_model(tiny(), tmp_path / "made", ExportSettings(form, precision))
    with zipfile.ZipFile(tmp_path / "made" / "model.mlpackage.zip") as file:
        file.extractall(tmp_path)
    told = coremltools.models.MLModel(str(tmp_path / "model.mlpackage"), skip_model_load=True).get_spec().description
    assert [(each.name, [*each.type.multiArrayType.shape]) for each in told.input] == [("images", [1, 3, 16, 16])]
    assert [each.name for each in told.output] == ["logits", "embedding"]


def test_what_was_not_compared_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a converter that writes anything: no result of it is looked at on this system."""
    for module in (formats, files):
        monkeypatch.setattr(module, "find_spec", lambda name: name)
    monkeypatch.setattr(writing, "_write_program", lambda graph, path, *_: path.write_bytes(b"anything"))
    monkeypatch.setattr(exporting, "version", lambda name: "1.0")
    made = tmp_path / "made"
    assert main(["export", NANO, "-o", str(made), "--to", "coreml"]) == 0
    said = capsys.readouterr()
    assert said.err == "convit: warning: Core ML runs on Apple's systems alone, so its results were not compared\n"
    assert (json.loads(said.out)["largest"], json.loads(said.out)["images"]) == (None, 0)
    assert json.loads((made / "config.json").read_text())["export"]["difference"]["largest"] is None
    readme = (made / "README.md").read_text()
    assert (
        "| measured | **nothing: Core ML runs on Apple's systems alone, so its results were not compared** |" in readme
    )
    assert "Core ML, experimental, in fp32" in readme
    assert not {"convit classify", "python predict.py"} & {line.strip()[:17] for line in readme.splitlines()}
    assert main(["classify", str(CAT), "--model", str(made)]) == 2
    assert "is a file for coreml, which convit does not run" in capsys.readouterr().err
    assert main(["info", str(made)]) == 0
    assert main(["export", NANO, "-o", str(made), "--to", "coreml", "--input", "uint8"]) == 2
    assert capsys.readouterr().err == ("convit: error: input is uint8, but Core ML files take float; leave it out\n")
