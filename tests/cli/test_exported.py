"""Exported folders at the command line: a model wherever one is named, and no torch where it is not needed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from convit.export import export_model
from convit.weights import load_model
from tests.cli.conftest import Run

Convit = Callable[..., Run]
NO_TORCH = """
import json, sys
sys.modules["torch"] = None
from convit.cli import main
code = main(sys.argv[1:])
print(json.dumps({"code": code, "loaded": [name for name, module in sys.modules.items() if module is not None]}))
"""


@pytest.fixture(scope="session")
def exported(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "mine"
    export_model(load_model(nano), folder)
    return folder


@pytest.mark.parametrize("command", ["classify", "embed"])
def test_rows_are_those_of_the_weights(command: str, exported: Path, nano: Path, photos: Path, convit: Convit) -> None:
    ours, theirs = (convit(command, photos, *named) for named in (("--model", exported), ("--weights", nano)))
    assert (ours.code, theirs.code) == (0, 0)
    assert len(ours.rows) == 4
    for mine, other in zip(ours.rows, theirs.rows, strict=True):
        assert mine["path"] == other["path"]
        if command == "embed":
            assert mine["embedding"] == pytest.approx(other["embedding"], abs=1e-5)
            continue
        for one, another in zip(mine["predictions"], other["predictions"], strict=True):
            assert one["label"] == another["label"]
            assert one["score"] == pytest.approx(another["score"], abs=1e-5)


@pytest.mark.parametrize("command", ["classify", "embed"])
def test_needs_no_torch(command: str, exported: Path, photos: Path) -> None:
    arguments = [sys.executable, "-c", NO_TORCH, command, str(photos / "cat.jpg"), "--model", str(exported)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    row, left = (json.loads(line) for line in done.stdout.splitlines())
    assert (row["error"], left["code"]) == (None, 0), done.stderr
    unneeded = {"rich", "pyarrow", "huggingface_hub", "convit.data", "onnxruntime.quantization"}
    assert unneeded & set(left["loaded"]) == set()


def test_tells_of_itself(exported: Path, convit: Convit, tmp_path: Path) -> None:
    facts = json.loads(convit("info", exported).out)
    assert (facts["file"]["format"], facts["file"]["img_size"], facts["classes"]["number"]) == ("onnx", [32, 32], 10)
    assert facts["difference"]["largest"] <= facts["difference"]["limit"]
    assert {"convit", "torch", "onnxruntime"} <= set(facts["versions"])
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text('{"export": {}}')
    convit("info", damaged).fails("config.json is not as `convit export` writes it")


@pytest.fixture
def labeled(photos: Path, tmp_path: Path) -> Path:
    """Three photographs in folders of classes."""
    for label, name in (("airplane", "cat.jpg"), ("bird", "coffee.png"), ("cat", "space/rocket.jpg")):
        (tmp_path / "labeled" / label).mkdir(parents=True)
        shutil.copy(photos / name, tmp_path / "labeled" / label)
    return tmp_path / "labeled"


def test_evaluates_as_the_weights(exported: Path, nano: Path, labeled: Path, convit: Convit) -> None:
    found = [
        json.loads(convit("evaluate", labeled, "--tta", "flip", *named).out)
        for named in (("--model", exported), ("--weights", nano))
    ]
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], abs=1e-5)
    assert found[0]["architecture"] == found[1]["architecture"] == "convit_nano_patch4_32"
    assert (found[0]["model"], found[0]["weights"], found[0]["precision"]) == ("mine", "model.onnx", "fp32")
    assert len(found[0]["weights_sha256"]) == 64


def test_makes_an_index_that_finds_its_model_again(
    exported: Path, photos: Path, tmp_path: Path, convit: Convit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exported.parent)
    made = convit("index", photos, "--db", tmp_path / "photos.db", "--model", "mine/")
    assert (made.code, json.loads(made.out)["new"]) == (0, 4), made.err
    monkeypatch.chdir(tmp_path)
    found = convit("search", photos / "cat.jpg", "--db", tmp_path / "photos.db", "-k", "1")
    assert [Path(row["path"]).name for row in found.rows] == ["cat.jpg"], found.err


def test_searches_an_index_of_the_weights_that_it_was_made_from(photos: Path, tmp_path: Path, convit: Convit) -> None:
    name, db = "convit_nano_patch4_32.cifar10", tmp_path / "photos.db"
    assert convit("export", name, "--output", tmp_path / "mine").code == 0
    assert convit("index", photos, "--db", db, "--model", name).code == 0
    found = [convit("search", photos / "cat.jpg", "--db", db, "--model", each) for each in (name, tmp_path / "mine")]
    assert [each.code for each in found] == [0, 0], found[1].err
    assert [row["path"] for row in found[0].rows] == [row["path"] for row in found[1].rows]


@pytest.mark.parametrize("command", ["duplicates", "probe"])
def test_embeds_for_other_commands(command: str, exported: Path, labeled: Path, tmp_path: Path, convit: Convit) -> None:
    others = shutil.copytree(labeled, tmp_path / "others")
    for file in others.rglob("*.*"):
        Image.open(file).rotate(90).save(file)
    options = ("--probe", "none", "--shots", "1", "--test", others) if command == "probe" else ()
    done = convit(command, labeled, *options, "--model", exported)
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--img-size", "64"), 2, "mine takes 32 x 32 only; export it again with --size 64x64"),
        (("--precision", "bf16"), 2, "precision is bf16, but the exported model"),
        (("--precision", "int8"), 2, "precision is int8, but the exported model"),
        (("--compile",), 2, "compile is True, but the exported model"),
        (("--weights", "{exported}"), 2, "an exported folder holds none: name what it was made from"),
        (("--model", "{exported}/no"), 2, "there is no model"),
    ],
)
def test_what_cannot_be(
    options: tuple[str, ...], code: int, message: str, exported: Path, photos: Path, convit: Convit
) -> None:
    given = [option.format(exported=exported) for option in options]
    done = convit("classify", photos, "--model", exported, *given)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert done.err.count("\n") == 1 + done.err.count("reading")


@pytest.mark.parametrize("command", [("explain", "{data}/cat/rocket.jpg", "-o", "x.png"), ("ablate", "{data}")])
def test_what_looks_inside_a_model_needs_its_weights(
    command: tuple[str, ...], exported: Path, labeled: Path, convit: Convit
) -> None:
    done = convit(*(word.format(data=labeled) for word in command), "--model", exported)
    assert done.code == 2
    assert "mine is an exported folder, which only gives outputs; name the weights it was made from" in done.err
