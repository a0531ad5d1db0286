"""What a resumed run takes up although it changed, and what it notices: descriptions, files, labels and crops."""

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml

from convit.training.run import run_recipe
from convit.training.run_folder import TrainingRun
from convit.weights import load_model
from tests.data.making import write_folder
from tests.training.small import small_recipe, write_data

SHORT = ("schedule.cooldown_epochs=0", "schedule.epochs=1")
FOLDERS = ("data.train=train", "data.held_out=0", "data.validation=val", "data.decode=each", "data.classes=null")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for part in ("train", "val"):
        write_folder(tmp_path / "data" / part, ["even", "odd"], per_class=8)
    return tmp_path / "data"


def test_what_only_describes_may_change_at_a_resume(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, change = tmp_path / "run", ("name=other", "data.name=points", "data.terms='CC BY 4.0'", "data.decode=each")
    run_recipe(small_recipe(tmp_path, *SHORT), data, run, quiet=True)
    longer = small_recipe(tmp_path, "schedule.cooldown_epochs=0", *change)
    weights = run_recipe(longer, data, run, resume=True)
    said = capsys.readouterr().err
    for told in (
        "name: 'small' → 'other'",
        "data.name: 'dots' → 'points'",
        "data.terms: 'free' → 'CC BY 4.0'",
        "data.decode: 'once' → 'each'",
    ):
        assert told in said
    card = load_model(weights).pretrained_cfg
    assert (card["trained_on"], card["license"]) == ("points", "CC BY 4.0")
    assert yaml.safe_load((run / "recipe.before-4.yaml").read_text())["data"]["name"] == "dots"
    # a finished run is described anew, too
    again = run_recipe(small_recipe(tmp_path, "schedule.cooldown_epochs=0"), data, run, resume=True, quiet=True)
    assert load_model(again).pretrained_cfg["trained_on"] == "dots"


def test_images_that_are_decoded_otherwise_give_the_same_weights(tmp_path: Path, data: Path) -> None:
    whole = run_recipe(small_recipe(tmp_path, "schedule.cooldown_epochs=0"), data, tmp_path / "whole", quiet=True)
    run_recipe(small_recipe(tmp_path, "schedule.cooldown_epochs=0"), data, tmp_path / "cut", quiet=True)
    (tmp_path / "cut/checkpoints/step-000000008.ckpt").unlink()
    each = small_recipe(tmp_path, "schedule.cooldown_epochs=0", "data.decode=each")
    cut = run_recipe(each, data, tmp_path / "cut", resume=True, quiet=True)
    expected, found = safetensors.torch.load_file(whole), safetensors.torch.load_file(cut)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(("part", "key"), [("train", "files"), ("val", "validation_files")])
def test_changed_images_in_folders_are_noticed_and_copied_ones_are_told(
    tmp_path: Path, folders: Path, capsys: pytest.CaptureFixture[str], part: str, key: str
) -> None:
    recipe, run = small_recipe(tmp_path, *FOLDERS, *SHORT), tmp_path / "run"
    run_recipe(recipe, folders, run, quiet=True)
    marks = yaml.safe_load((run / "environment.yaml").read_text())
    for mark in (marks["data_sha256"]["train"], marks["validation_sha256"]["val"]):
        assert " of sizes and names, newest 20" in mark
    image = folders / part / "odd" / "0.png"
    os.utime(image, (4e9, 4e9))
    capsys.readouterr()
    run_recipe(recipe, folders, run, resume=True)
    assert f"files of {part} were changed or copied since" in capsys.readouterr().err
    content = image.read_bytes()
    image.write_bytes(content + b"more")
    with pytest.raises(ValueError, match=rf"is of another run \({key} there:"):
        run_recipe(recipe, folders, run, resume=True, quiet=True)
    image.write_bytes(content)
    image.rename(folders / part / "even" / "99.png")
    with pytest.raises(ValueError, match=rf"is of another run \({key} there:"):
        run_recipe(recipe, folders, run, resume=True, quiet=True)


def test_checkpoints_with_hashes_of_contents_go_on(tmp_path: Path, folders: Path) -> None:
    recipe, run = small_recipe(tmp_path, *FOLDERS, *SHORT), tmp_path / "run"
    run_recipe(recipe, folders, run, quiet=True)
    for file in (run / "checkpoints").iterdir():
        checkpoint = torch.load(file, weights_only=True)
        kept = checkpoint["convit_run"]
        del kept["labels"]
        kept |= {"name": "small", "files": {"train": "0" * 64}, "validation_files": {"val": "1" * 64}}
        kept["data"] |= {"name": "dots", "terms": "free", "decode": "each"}
        torch.save(checkpoint, file)
    assert run_recipe(recipe, folders, run, resume=True, quiet=True).is_file()


def test_classes_that_count_otherwise_are_noticed(tmp_path: Path, folders: Path) -> None:
    (folders / "names.json").write_text('["even", "odd"]')
    recipe, run = small_recipe(tmp_path, *FOLDERS, *SHORT, "data.classes=names.json"), tmp_path / "run"
    run_recipe(recipe, folders, run, quiet=True)
    (folders / "names.json").write_text('["odd", "even"]')
    with pytest.raises(ValueError, match=r"is of another run \(labels there:"):
        run_recipe(recipe, folders, run, resume=True, quiet=True)


def test_epochs_are_compared_only_with_those_of_the_same_crop(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, crop = tmp_path / "run", "augment.crop_pct=0.5"
    run_recipe(small_recipe(tmp_path, *SHORT), data, run, quiet=True)
    (log := run / "log.jsonl").write_text(log.read_text().replace('"val_top1": ', '"val_top1": 9'))  # the best of all
    run_recipe(small_recipe(tmp_path, *SHORT, crop, "schedule.epochs=2"), data, run, resume=True)
    assert [line["crop"] for line in TrainingRun(run).history] == ["center 1.0", "center 0.5"]
    assert "(best so far)" in capsys.readouterr().err
    for compared in ("run.select=best", "schedule.patience=2"):
        third = small_recipe(tmp_path, *SHORT, crop, "schedule.epochs=3", compared)
        with pytest.raises(
            ValueError, match=r"1 epoch was measured .* \(center 1\.0, here it is center 0\.5\).*with one crop"
        ):
            run_recipe(third, data, run, resume=True, quiet=True)
    assert run_recipe(small_recipe(tmp_path, *SHORT, crop, "schedule.epochs=3"), data, run, resume=True).is_file()


def test_every_recipe_that_trained_is_kept(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    run_recipe(small_recipe(tmp_path, *SHORT), data, run, quiet=True)
    for name in ("second", "third"):
        run_recipe(small_recipe(tmp_path, *SHORT, f"name={name}"), data, run, resume=True, quiet=True)
    assert yaml.safe_load((run / "recipe.before-4.yaml").read_text())["name"] == "small"
