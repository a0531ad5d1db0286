"""`convit finetune` from the command line, on pictures of three colors: what it leaves, and how it refuses."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from convit.data import open_samples
from convit.evaluation import Evaluator
from convit.finetuning import run as finetune_run
from convit.finetuning.report import loss_note
from convit.inference import Classifier
from convit.training.recipe import Recipe
from convit.training.recipe_io import read_recipe
from convit.training.task import DivergedError
from convit.weights import WEIGHT_SETS, create_model, load_model
from convit.weights.files import store_calibration
from tests.cli.conftest import Run

COLORS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 200)}
NANO = "convit_nano_patch4_32.cifar10"
QUICK = ("--set", "data.workers=0", "--set", "run.loggers=[]", "--model", NANO)
Command = Callable[..., Run]


def _paint(folder: Path, per_class: int = 10, names: tuple[str, ...] = tuple(COLORS)) -> Path:
    noise = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = np.clip(np.array(COLORS[name]) + noise.normal(0, 12, (24, 30, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _paint(tmp_path_factory.mktemp("colors") / "pictures")


@pytest.fixture(scope="module")
def tuned(pictures: Path, convit: Command) -> tuple[Path, Run]:
    """A whole run of two epochs."""
    output = pictures.parent / "runs" / "mine"
    return output, convit(
        "finetune", pictures, "--output", output, "--epochs", 2, "--lr", 2e-3, *QUICK, terminal={"out"}
    )


class _Page(HTMLParser):
    """Collects what a page would load, and the tags that it leaves open."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_one_command_leaves_weights_report_and_a_summary(tuned: tuple[Path, Run]) -> None:
    output, run = tuned
    assert run.code == 0, run.err
    assert {"weights.safetensors", "report.html", "report.json", "recipe.yaml", "log.jsonl"} <= {
        path.name for path in output.iterdir()
    }
    assert "top-1" in run.out
    assert re.search(r"baseline +\d+\.\d % \(logistic regression on the embeddings\)", run.out)
    assert f"convit classify new/ --weights {output / 'weights.safetensors'}" in run.out
    assert "found 3 classes (blue, green, red) in" in run.err
    assert re.search(r"about \d+ (seconds?|minutes) on this CPU", run.err)


def test_the_figures_are_those_of_training_and_of_an_evaluation(tuned: tuple[Path, Run], pictures: Path) -> None:
    output, _ = tuned
    report = json.loads((output / "report.json").read_text())
    validation = report["validation"]
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert validation["top1"] == pytest.approx(max(line["val_top1"] for line in log), abs=1e-3)
    assert validation["count"] == 5
    assert sum(count for _, _, count in validation["confusion"]) == 5
    assert report["training_images"] == 25
    assert report["source"] == str(pictures)
    assert [each["name"] for each in report["counts"]] == ["blue", "green", "red"]
    whole = Evaluator(weights=output / "weights.safetensors").evaluate(open_samples(pictures))
    assert whole.count == 30
    assert whole.top1 > 50  # three colors, two epochs


METRICS = (
    "model", "weights_sha256", "count", "top1", "top5", "loss", "intervals", "mean_class_top1", "ece", "calibration",
    "per_class", "confusion", "class_names", "preprocessing",
)  # fmt: skip


def test_a_report_has_the_numbers_of_an_evaluation_of_the_same_images(convit: Command, tmp_path: Path) -> None:
    """Also of transparent images, of 16-bit ones, and of photographs that lie on their side."""
    noise = np.random.default_rng(1)
    for part, count in (("train", 8), ("val", 6)):
        for number, name in enumerate(COLORS):
            folder = _paint(tmp_path / "images" / part, count, names=(name,)) / name
            alpha = np.dstack([noise.integers(0, 256, (24, 30, 3)), noise.integers(0, 256, (24, 30))])
            Image.fromarray(alpha.astype(np.uint8)).save(folder / "clear.png")
            Image.fromarray((noise.integers(0, 65_536, (24, 30)) // (number + 1)).astype(np.uint16)).save(
                folder / "deep.png"
            )
            exif = Image.Exif()
            exif[0x0112] = 6
            Image.open(folder / "0.png").save(folder / "lying.png", exif=exif)
    output, found = tmp_path / "run", tmp_path / "found.json"
    run = convit("finetune", tmp_path / "images", "--output", output, "--epochs", 1, "--quiet", *QUICK)
    assert run.code == 0, run.err
    weights = output / "weights.safetensors"
    run = convit("evaluate", tmp_path / "images" / "val", "--weights", weights, "--output", found)
    assert run.code == 0, run.err
    ours, theirs = json.loads((output / "report.json").read_text())["validation"], json.loads(found.read_text())
    assert ours["count"] == 27
    assert {name: ours[name] for name in METRICS} == {name: theirs[name] for name in METRICS}


def test_the_page_needs_nothing_from_elsewhere_and_says_everything(tuned: tuple[Path, Run]) -> None:
    output, _ = tuned
    text = (output / "report.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert all(each.startswith(("data:", "#")) for each in page.loaded)
    for words in (
        "<svg",
        "data.held_out",
        "optimizer.layer_decay",
        "kept to validate with",
        "timm.create_model(",
        "calibration error",
    ):
        assert words in text
    assert f"convit classify new/ --weights {output / 'weights.safetensors'}" in text


def test_the_file_classifies_at_once(tuned: tuple[Path, Run], pictures: Path, convit: Command) -> None:
    run = convit("classify", pictures / "red" / "0.png", "--weights", tuned[0] / "weights.safetensors", "--top-k", 3)
    assert run.code == 0
    assert {each["label"] for each in run.rows[0]["predictions"]} == set(COLORS)


def test_the_run_is_exported_with_its_classes(
    tuned: tuple[Path, Run], pictures: Path, convit: Command, tmp_path: Path
) -> None:
    made = convit("export", tuned[0], "--output", tmp_path / "mine")
    assert made.code == 0, made.err
    assert (tmp_path / "mine" / "labels.txt").read_text().split() == sorted(COLORS)
    named = ("--model", tmp_path / "mine"), ("--weights", tuned[0] / "weights.safetensors")
    first, second = (convit("classify", pictures, *each, "--top-k", 3).rows for each in named)
    for ours, theirs in zip(first, second, strict=True):
        pairs = zip(ours["predictions"], theirs["predictions"], strict=True)
        assert all(one["label"] == other["label"] for one, other in pairs)
    ours, theirs = (json.loads(convit("evaluate", pictures, *each).out) for each in named)
    assert (ours["count"], ours["top1"], ours["confusion"]) == (30, theirs["top1"], theirs["confusion"])
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)


def test_the_snippet_in_the_report_labels_an_image_with_timm_alone(
    tuned: tuple[Path, Run], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """As `Classifier` does: the same preprocessing, upright, class names and temperature."""
    report = json.loads((tuned[0] / "report.json").read_text())
    own = shutil.copytree(tuned[0], tmp_path / "own", symlinks=True)
    store_calibration(own / "weights.safetensors", {"temperature": 1.5})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(pictures / "blue" / "0.png").convert("RGB").save("new/photo.jpg", exif=exif)
    given: dict[str, Any] = {}
    exec(report["use"]["timm"].replace(str(tuned[0]), str(own)), given)
    best = Classifier(weights=own)("new/photo.jpg")[0]
    label, score = capsys.readouterr().out.split()
    assert label == best.label
    assert float(score) == pytest.approx(best.score, rel=1e-3)
    theirs = given["model"]
    ours = load_model(tuned[0] / "weights.safetensors").eval()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=0)
    exec(report["use"]["transformers"], given)
    assert given["best"]["label"] in COLORS


def test_the_page_says_why_training_loss_lies_above_validation_loss_and_names_the_run(tuned: tuple[Path, Run]) -> None:
    text = (tuned[0] / "report.html").read_text()
    assert "The training loss is taken on randomly cropped and changed images" in text
    assert "against labels smoothed by 0.1" in text
    assert json.loads((tuned[0] / "report.json").read_text())["validation"]["model"] == "mine"
    plain = read_recipe(tuned[0] / "recipe.yaml").model_dump()
    plain["augment"] |= {"crop": "none", "rand_augment": None, "erasing": 0}
    plain["mixing"] |= {"label_smoothing": 0, "mixup": 0, "cutmix": 0, "class_weights": None}
    plain["model"]["options"] = {}
    assert loss_note(Recipe.model_validate(plain)) == ""


def test_an_output_that_exists_is_kept_and_resumed_on_request(
    tuned: tuple[Path, Run], pictures: Path, convit: Command, tmp_path: Path
) -> None:
    output, _ = tuned
    before = (output / "weights.safetensors").read_bytes()
    convit("finetune", pictures, "--output", output, *QUICK).fails("holds a run already", "--resume")
    assert (output / "weights.safetensors").read_bytes() == before
    (output / "report.html").unlink()
    # the same line with --resume behind it, and a round more
    run = convit("finetune", pictures, "--output", output, "--epochs", 3, "--lr", 2e-3, *QUICK, "--resume")
    assert run.code == 0, run.err
    found = json.loads(run.out)  # in a pipe
    assert (Path(found["report"]), Path(found["weights"])) == (output / "report.html", output / "weights.safetensors")
    assert found["interval"][0] <= found["top1"] <= found["interval"][1]
    assert 0 <= found["baseline_top1"] <= 100
    assert (output / "report.html").is_file()
    assert [json.loads(line)["epoch"] for line in (output / "log.jsonl").read_text().splitlines()] == [1, 2, 3]
    more = _paint(tmp_path / "pictures", 11)
    other = convit("finetune", more, "--output", output, "--resume", *QUICK)
    assert other.code == 2
    assert "holds 33 images, but the run in" in other.err


@pytest.mark.parametrize("package", ["matplotlib", "sklearn"])
def test_what_the_report_needs_is_asked_for_before_the_training(
    package: str, pictures: Path, convit: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    run = convit("finetune", pictures, "--output", tmp_path / "run", "--quiet", *QUICK)
    run.fails(f"needs the package '{package}'; install it with: pip install", code=1)
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_a_dry_run_prints_a_recipe_and_leaves_nothing(pictures: Path, convit: Command, tmp_path: Path) -> None:
    run = convit("finetune", pictures, "--output", tmp_path / "run", "--dry-run", "--epochs", 7, *QUICK)
    assert run.code == 0
    assert not (tmp_path / "run").exists()
    (tmp_path / "recipe.yaml").write_text(run.out)
    recipe = read_recipe(tmp_path / "recipe.yaml")
    assert recipe.schedule.epochs == 7
    assert "# fine-tuning convit_nano_patch4_32.cifar10, 8 images per step; about" in run.out
    assert "epochs: 7  # as asked" in run.out


def test_a_trained_file_is_a_start_too(
    tuned: tuple[Path, Run], pictures: Path, convit: Command, tmp_path: Path
) -> None:
    weights = tuned[0] / "weights.safetensors"
    run = convit("finetune", pictures, "--model", weights, "--dry-run")
    (tmp_path / "recipe.yaml").write_text(run.out)
    recipe = read_recipe(tmp_path / "recipe.yaml")
    assert (recipe.model.architecture, recipe.model.weights) == ("convit_nano_patch4_32", str(weights))
    assert recipe.augment.mean == WEIGHT_SETS[NANO].preprocessing.mean


def test_the_head_alone(pictures: Path, convit: Command, tmp_path: Path) -> None:
    run = convit("finetune", pictures, "-o", tmp_path / "run", "--epochs", 1, "--freeze", "backbone", "--quiet", *QUICK)
    assert (run.code, run.out, run.err) == (0, "", "")
    ours = load_model(tmp_path / "run" / "weights.safetensors").state_dict()
    start = create_model(NANO, pretrained=True).state_dict()
    changed = {name for name in ours if not torch.equal(ours[name], start[name])}
    assert changed == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "convit_smal.fb_in1k"), "did you mean 'convit_small.fb_in1k'"),
        (("--model", "lost.safetensors"), "there is no weight file lost.safetensors"),
        (("--epochs", "0"), "the number of epochs is 0"),
        (("--epochs", "few"), "Input should be a valid integer"),
        (("--batch-size", "26"), "the batch size is 26, but must be 2 to 25"),
        (("--batch-size", "1"), "the batch size is 1, but must be at least 2"),
        (("--lr", "0"), "the learning rate is 0.0"),
        (("--img-size", "33"), "not tiled by patches of 4"),
        (("--img-size", "big"), "--img-size is 'big'"),
        (("--freeze", "nothing"), "no parameter begins so"),
        (("--set", "run.batchsize=3"), "the closest is 'run.batch_size'"),
        (("--set", "model.options.heads=3"), "'heads' is not a ConViT option"),
        (("--resume",), "there is no fine-tuning run in"),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(
    pictures: Path, convit: Command, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    model = () if "--model" in arguments else ("--model", NANO)
    run = convit("finetune", pictures, "--output", tmp_path / "run", *model, *arguments)
    lines = [line for line in run.err.splitlines() if line.startswith("convit: error: ")]
    assert (run.code, len(lines)) == (2, 1)
    assert words in lines[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "none", "there is no folder"),
        (lambda folder: (folder / "empty").mkdir() or folder / "empty", "has no class sub-folders"),
        (lambda folder: _paint(folder / "one", names=("red",)), "at least two classes"),
        (lambda folder: _paint(folder / "few", per_class=2), "holds 6 images, but fine-tuning needs at least 10"),
        (lambda folder: ((_paint(folder / "gap") / "gray").mkdir()) or folder / "gap", "gray holds no image"),
    ],
)
def test_wrong_pictures_are_one_line(convit: Command, tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    run = convit("finetune", make(tmp_path), "--output", tmp_path / "run", *QUICK)
    lines = [line for line in run.err.splitlines() if line != "convit: reading the images…"]
    assert (run.code, len(lines)) == (2, 1)
    assert words in lines[0]
    assert not (tmp_path / "run").exists()


def test_options_and_places_are_checked_before_torch_is_imported(
    pictures: Path, convit_process: Command, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit(99)")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "recipe.yaml").touch()
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    for arguments, words in (
        ((tmp_path / "none",), "there is no folder"),
        ((pictures, "--output", tmp_path / "taken"), "holds a run already"),
        ((pictures, "--model", "convit_bas"), "did you mean"),
        ((pictures, "--model", "none.pth"), "there is no weight file"),
        ((pictures, "--lr", "-1"), "the learning rate is -1"),
        ((pictures, "--set", "schedule.epoch=3"), "unknown key 'schedule.epoch'"),
    ):
        run = convit_process("finetune", *arguments, environment=path)
        assert (run.code, words in run.err) == (2, True), run.err


def test_absent_weights_are_said_before_the_images_are_read(
    pictures: Path, convit: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Path:
        raise ConnectionError("the weights can be had from nowhere")

    monkeypatch.setattr(finetune_run, "fetch_weights", fail)
    run = convit("finetune", pictures, "--model", "convit_tiny.fb_in1k", "--output", tmp_path / "run")
    assert (run.code, run.err) == (1, "convit: error: the weights can be had from nowhere\n")
    assert not (tmp_path / "run").exists()


def test_a_run_that_does_not_begin_leaves_no_folder(
    pictures: Path, convit: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(**options: object) -> None:
        raise ModuleNotFoundError("no wandb")

    monkeypatch.setattr("lightning.pytorch.loggers.WandbLogger", absent)
    settings = ("--set", "data.workers=0", "--set", "run.loggers=[wandb]", "--model", NANO)
    run = convit("finetune", pictures, "--output", tmp_path / "run", "--epochs", 1, *settings)
    assert run.code == 1
    assert "pip install wandb" in run.err
    assert not (tmp_path / "run").exists()


def test_a_run_inside_the_pictures_is_refused(pictures: Path, convit: Command) -> None:
    run = convit("finetune", pictures, "--output", pictures / "run", *QUICK)
    assert run.code == 2
    assert "lies inside the folder of images" in run.err


def test_a_class_with_one_picture_is_said_not_to_be_validated(convit: Command, tmp_path: Path) -> None:
    folder = _paint(tmp_path / "pictures")
    _paint(tmp_path / "more", 1, names=("red",))
    (tmp_path / "more" / "red").rename(folder / "crimson")
    run = convit("finetune", folder, "--dry-run", *QUICK)
    assert run.code == 0
    assert "too few images to validate with: 'crimson' (1)" in run.out


def test_a_diverged_run_is_one_line_and_exit_code_1(
    pictures: Path, convit: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*arguments: object, **options: object) -> Path:
        raise DivergedError("the loss is nan at step 7")

    monkeypatch.setattr(finetune_run, "run_recipe", diverge)
    run = convit("finetune", pictures, "--output", tmp_path / "run", "--quiet", *QUICK)
    assert (run.code, run.err) == (1, "convit: error: the loss is nan at step 7\n")


def test_unreadable_pictures_are_left_out_named_and_make_the_exit_code_3(convit: Command, tmp_path: Path) -> None:
    folder = _paint(tmp_path / "pictures")
    for number in range(10):  # some of them validate
        (folder / "red" / f"broken-{number}.png").write_bytes(b"no picture")
    run = convit(
        "finetune",
        folder,
        "--output",
        tmp_path / "run",
        "--epochs",
        1,
        "--img-size",
        16,
        *QUICK,
        "--set",
        "data.corrupt_limit=10",
    )
    assert run.code == 3, run.err
    assert load_model(tmp_path / "run" / "weights.safetensors").config.img_size == (16, 16)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert {Path(name).name for name in report["unreadable"]} == {f"broken-{number}.png" for number in range(10)}
    assert report["validation"]["count"] == report["validation_images"] < 7
    assert report["training_images"] + report["validation_images"] == 30
    assert "10 images could not be read and took no part" in (tmp_path / "run" / "report.html").read_text()
    assert f": 1 epoch of {report['training_images']} images at" in run.err
    report_page = tmp_path / "run" / "report.html"
    assert run.err.splitlines()[-1] == f"convit: done, 10 of 40 images skipped (see {report_page})"


def test_more_unreadable_pictures_than_allowed_stop_the_run(convit: Command, tmp_path: Path) -> None:
    folder = _paint(tmp_path / "pictures")
    for number in range(20):
        (folder / "red" / f"broken-{number}.png").write_bytes(b"no picture")
    run = convit("finetune", folder, "--output", tmp_path / "run", "--epochs", 1, "--quiet", *QUICK)
    run.fails("raise data.corrupt_limit")
