"""`convit probe` on real photographs, with the weights in the package."""

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from skimage import data

Runner = Callable[..., Any]
MODEL = "convit_nano_patch4_32.cifar10"
PHOTOGRAPHS = {"cat": data.chelsea, "coffee": data.coffee, "rocket": data.rocket}
FEW = ("--shots", "1,2", "--draws", 2, "--workers", 0)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six crops of each of three photographs to train on, and two to test on."""
    root = tmp_path_factory.mktemp("photographs")
    for name, read in PHOTOGRAPHS.items():
        image = Image.fromarray(read()).convert("RGB")
        image.thumbnail((120, 120))
        for number in range(8):
            place = root / ("val" if number > 5 else "train") / name
            place.mkdir(parents=True, exist_ok=True)
            image.crop((2 * number, number, image.width - 14 + number, image.height - 8)).save(place / f"{number}.png")
    return root


@pytest.fixture
def own(photographs: Path, tmp_path: Path) -> Path:
    """The photographs, to be changed."""
    return Path(shutil.copytree(photographs, tmp_path / "own"))


def test_one_command_gives_one_table(convit: Runner, photographs: Path, tmp_path: Path) -> None:
    run = convit("probe", photographs, "--model", MODEL, "--cache", tmp_path / "kept", *FEW, terminal={"out"})
    assert run.code == 0
    assert "trained on 18 images of train, tested on 6 of val; 3 classes" in run.out
    for title in ("k-NN", "logistic", "ridge", "class mean"):
        assert title in run.out
    again = convit("probe", photographs, "--model", MODEL, "--cache", tmp_path / "kept", *FEW)
    assert "18 embeddings of an earlier run are taken from" in again.err
    found = json.loads(again.out)
    assert (found["model"], found["dim"], found["kind"]) == (MODEL, 108, "pooled")
    assert [score["probe"] for score in found["probes"]] == ["knn", "linear", "ridge"]
    assert all(score["top1"] > 80 for score in found["probes"])  # crops of the very same photographs
    assert found["class_names"] == ["cat", "coffee", "rocket"]


def test_every_output_and_a_report(convit: Runner, photographs: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    arguments = ("probe", photographs, "--model", MODEL, "--cache", tmp_path / "kept", *FEW)
    for suffix in ("json", "csv", "txt"):
        run = convit(*arguments, "-o", tmp_path / f"found.{suffix}", "--report", report, "--overwrite")
        assert (run.code, run.out) == (0, "")
        assert "18 training and 6 test images" in run.err
    found = json.loads((tmp_path / "found.json").read_text())
    rows = list(csv.DictReader(io.StringIO((tmp_path / "found.csv").read_text())))
    assert len(rows) == len(found["probes"]) + len(found["few_shot"]) == 7
    assert "k-NN" in (tmp_path / "found.txt").read_text()
    assert sorted(path.name for path in report.iterdir()) == ["few_shot.png", "probe.csv", "probe.json", "probe.txt"]
    with Image.open(report / "few_shot.png") as picture:
        assert picture.format == "PNG"
    convit(*arguments, "--report", report).fails("holds probe.json already")


def test_a_report_holds_this_run_alone(convit: Runner, photographs: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    arguments = ("probe", photographs, "--model", MODEL, "--cache", tmp_path / "kept", "--workers", 0)
    assert convit(*arguments, "--split", "trian", "--report", report).code == 2
    assert not report.exists()
    for output in (report / "probe.json", tmp_path / "other" / ".." / "report" / "probe.csv"):
        report.mkdir(exist_ok=True)
        (tmp_path / "other").mkdir(exist_ok=True)
        convit(*arguments, "-o", output, "--report", report).fails("is a file of the report itself")
    report.rmdir()
    assert convit(*arguments, "--probe", "ridge", "--shots", "2", "--report", report).code == 0
    assert (report / "few_shot.png").is_file()
    assert convit(*arguments, "--probe", "ridge", "--shots", "none", "--report", report, "--overwrite").code == 0
    assert sorted(path.name for path in report.iterdir()) == ["probe.csv", "probe.json", "probe.txt"]
    absent = convit(*arguments, "--report", tmp_path / "no" / "report")
    assert (absent.code, (tmp_path / "no" / "report" / "probe.json").is_file()) == (0, True)


def test_without_a_test_set_a_fifth_is_held_out(convit: Runner, photographs: Path, tmp_path: Path) -> None:
    arguments = ("--model", MODEL, "--no-cache", "--probe", "knn", "--shots", "none", "--workers", 0)
    run = convit("probe", photographs / "train", *arguments, "-o", tmp_path / "found.json", "--quiet")
    assert (run.code, run.err) == (0, "")
    found = json.loads((tmp_path / "found.json").read_text())
    assert "held out, a fifth of each class" in found["tested_on"]
    assert found["train_images"] + found["test_images"] == 18


def test_unreadable_images_are_named(convit: Runner, own: Path) -> None:
    (own / "train" / "cat" / "0.png").write_bytes(b"")
    run = convit("probe", own, "--model", MODEL, "--no-cache", "--probe", "ridge", "--shots", "none", "--workers", 0)
    assert run.code == 3
    assert "skipped; the first: cat/0.png: is empty (0 bytes)" in run.err
    assert json.loads(run.out)["train_images"] == 17


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shots", "1,x"), "--shots is '1,x', but must be numbers of images per class"),
        (("--shots", "0"), "--shots is '0'"),
        (("--probe", "svm"), "there is no probe 'svm'"),
        (("--probe", "none", "--shots", "none"), "neither a probe nor a number"),
        (("--split", "trian"), "has no split 'trian'; it has train, val"),
        (("--test-split", "train"), "are both the split 'train'"),
        (("--kind", "pooling"), "kind is 'pooling'"),
        (("--model", "convit_huge"), "convit_huge"),
        (("--output", "found.html"), "does not select a format here; use one of .txt, .json, .csv"),
        (("--cache", "x", "--no-cache"), "--cache and --no-cache exclude each other"),
        (("--img-size", "33"), "33"),
    ],
)
def test_wrong_options(convit: Runner, photographs: Path, arguments: tuple[str, ...], message: str) -> None:
    given = ("--model", MODEL) if "--model" not in arguments else ()
    cache = () if "--cache" in arguments else ("--no-cache",)
    convit("probe", photographs, *given, *cache, *arguments).fails(message)


def test_data_that_make_no_task(convit: Runner, own: Path, tmp_path: Path) -> None:
    arguments = ("--model", MODEL, "--no-cache", "--workers", 0, "--shots", "none")
    same = convit("probe", own, "--split", "val", "--test", own / "val", *arguments)
    same.fails("training and test images are the same")
    (own / "val" / "cat").rename(own / "val" / "lynx")
    convit("probe", own, *arguments).fails("are in no training image: 'lynx'")
    for number in range(5):
        (own / "train" / "coffee" / f"{number}.png").unlink()
    shutil.rmtree(own / "val" / "lynx")
    convit("probe", own, *arguments).fails("class 'coffee' has 1 training image")
    for name in ("cat", "rocket"):
        shutil.rmtree(own / "train" / name)
    convit("probe", own / "train", *arguments).fails("all training images are of one class, 'coffee'")
    convit("probe", own, "--model", MODEL, "--cache", own).fails("holds other files and no embeddings")


def test_a_missing_package_is_named(
    convit: Runner, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    run = convit("probe", photographs, "--model", MODEL, "--report", tmp_path / "report")
    run.fails("pip install 'convit[evaluate]'", "--shots none", code=1)
