"""`convit train` in this process: what it prints and its exit codes."""

from pathlib import Path

import pytest

from convit.cli import main
from convit.training import run as run_module
from convit.training.task import DivergedError

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
        (["--resume"], ["there is no run in", "--output"]),
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


def test_a_diverged_run_is_one_line_and_exit_code_1(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*arguments: object, **options: object) -> Path:
        raise DivergedError("the loss is nan at step 7")

    monkeypatch.setattr(run_module, "run_recipe", diverge)
    assert main(["train", str(recipe)]) == 1
    assert capsys.readouterr().err == "convit: error: the loss is nan at step 7\n"


def test_the_weights_file_is_the_output(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "run_recipe", lambda *arguments, **options: Path("run/weights.safetensors"))
    assert main(["train", str(recipe)]) == 0
    assert capsys.readouterr().out == '{"weights": "run/weights.safetensors"}\n'
    assert main(["train", str(recipe), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
