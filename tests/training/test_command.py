"""`convit train` in this process: what it prints and its exit codes."""

import json
import sys
from pathlib import Path

import pytest

from convit.cli import main
from convit.training import run as run_module
from convit.training.task import DivergedError
from tests.data.making import write_folder
from tests.training.small import TEXT, settings, small_recipe, write_data

RECIPE = "name: x\nmodel: {architecture: convit_tiny}\ndata: {name: y, train: nowhere.tar}\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "x.yaml").write_text(RECIPE)
    return tmp_path / "x.yaml"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "schedule.epoch=1"], ["unknown key 'schedule.epoch'", "'schedule.epochs'"]),
        (["--set", "run.batch_size=few"], ["'run.batch_size' is 'few'"]),
        (["--resume", "--set", "data.train=."], ["there is no run in", "--output"]),
        ([], ["no shard at", "nowhere.tar"]),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    code = main(["train", str(recipe), "--data", str(tmp_path), "--output", str(tmp_path / "run"), *arguments])
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith("convit: error: ")
    assert all(word in error for word in words)


def test_an_absent_recipe_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "holds a run already"),
        ({"SLURM_PROCID": "0"}, "holds a run already"),
        ({"SLURM_PROCID": "3"}, "no shard at"),
        ({"LOCAL_RANK": "1"}, "no shard at"),
    ],
)
def test_later_processes_accept_what_the_first_has_written(
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    words: str,
) -> None:
    for name in ("LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (recipe.parent / "recipe.yaml").touch()
    assert main(["train", str(recipe), "--data", str(recipe.parent), "--output", str(recipe.parent)]) == 2
    assert words in capsys.readouterr().err


def test_a_diverged_run_is_one_line_and_exit_code_1(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*arguments: object, **options: object) -> Path:
        raise DivergedError("the loss is nan at step 7")

    monkeypatch.setattr(run_module, "run_recipe", diverge)
    assert main(["train", str(recipe), "--set", f"data.train={recipe.parent}"]) == 1
    assert capsys.readouterr().err == "convit: error: the loss is nan at step 7\n"


def test_a_run_ends_with_accuracy_time_weights_and_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_recipe(tmp_path)
    folder, command = tmp_path / "run", ["train", str(tmp_path / "small.yaml"), "--data", str(tmp_path / "data")]
    write_data(tmp_path / "data")
    assert main([*command, "--output", str(folder)]) == 0
    found, said = capsys.readouterr()
    weights = str(folder / "weights.safetensors")
    result = json.loads(found)
    assert result["weights"] == weights
    assert (result["epoch"], 0 <= result["top1"] <= 100, result["seconds"] > 0) == (3, True, True)
    assert "convit: training for 3 epochs, the last 1 of them to cool down (schedule.cooldown_epochs)" in said
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main([*command, "--output", str(folder), "--resume"]) == 0
    found, said = capsys.readouterr()
    assert [line.split()[0] for line in found.splitlines()] == ["top-1", "time", "weights", "use"]
    assert found.splitlines()[0].endswith("% of the validation images, in epoch 3")
    assert found.splitlines()[-1] == f"use it   convit classify new/ --weights {weights}"
    assert "convit: all 3 epochs are done; there is nothing left to train" in said
    assert main([*command, "--output", str(folder), "--resume", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_skipped_images_are_counted_at_the_end_and_named_within_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_folder(tmp_path / "data", ("cat", "dog"), per_class=12)
    (data / "cat" / "torn.png").write_bytes(b"torn")
    changes = ("data.train=.", "data.classes=null", "data.decode=each", "data.held_out=4", "schedule.epochs=1")
    (tmp_path / "small.yaml").write_text(TEXT)
    command = ["train", str(tmp_path / "small.yaml"), "--data", str(data), "--output", str(tmp_path / "run")]
    assert main([*command, *settings(*changes)]) == 3
    listed = tmp_path / "run" / "corrupt.jsonl"
    assert capsys.readouterr().err.splitlines()[-1] == f"convit: done, 1 of 25 images skipped (see {listed})"
    line = json.loads(listed.read_text())
    assert line["name"] == "cat/torn.png"
    assert str(data) not in line["reason"]
