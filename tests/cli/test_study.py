"""`convit study` in this process: what it prints, what it runs, and its exit codes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convit.studies import running
from convit.training.task import DivergedError
from tests.training.small import TEXT, write_data

Command = Callable[..., Any]
QUICK = ("--set", "ema=null", "--set", "schedule={epochs: 1, warmup_epochs: 0, cooldown_epochs: 0}")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe and data, to work in."""
    write_data(tmp_path / "data")
    (tmp_path / "small.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _study(convit: Command, kind: str, *arguments: object) -> Any:
    return convit("study", kind, "--recipe", "small.yaml", "--data", "data", *arguments)


def test_a_study_prints_its_table_and_says_what_it_does(convit: Command, place: Path) -> None:
    run = _study(
        convit, "sample-efficiency", "--test", "train-1.tar", "--shares", "1", "--seeds", 1, "--threads", 1, *QUICK
    )
    assert (run.code, run.out) == (0, "runs/sample-efficiency/table.md\n"), run.err
    lines = run.err.splitlines()
    assert lines[0] == "convit: run 1 of 2 (ConViT, 100 %, seed 1): 32 images, 1 epoch"
    assert lines[1].startswith("convit: run 1 of 2 (ConViT, 100 %, seed 1): top-1 ")
    assert len(lines) == 4
    table = (place / run.out.strip()).read_text()
    assert (
        "      convit study sample-efficiency --recipe small.yaml --data data --test train-1.tar --shares 1 "
        "--set ema=null --set 'schedule={epochs: 1, warmup_epochs: 0, cooldown_epochs: 0}' --threads 1 --seeds 1\n"
    ) in table
    again = _study(
        convit, "sample-efficiency", "--test", "train-1.tar", "--shares", "1", "--seeds", 1, *QUICK, "--quiet"
    )
    assert (again.code, again.out, again.err) == (0, "", "")


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ("sample-efficiency", ["--shares", "0.5,2"], ["'2' in '0.5,2' is not a share above 0 and up to 1"]),
        ("sample-efficiency", ["--shares", "0.1"], ["leaves 4 of 40 images, fewer than a batch of 8"]),
        ("sample-efficiency", ["--model", "convit_tinny"], ["'convit_tinny'", "convit_tiny"]),
        ("sample-efficiency", ["--shares", "1", "--test", "none.tar"], ["no shard at", "none.tar"]),
        ("sample-efficiency", ["--data", "gone"], ["there is no folder gone", "--data"]),
        ("sample-efficiency", ["--images", "10"], ["--images is no option of the study sample-efficiency"]),
        ("sample-efficiency", ["--shares", "1", "--output", "data"], ["data holds something else than a study"]),
        ("ablation", ["--model", "convit_tiny"], ["--model is no option of the study ablation, which has --shares"]),
        ("ablation", ["--set", "model.options.local_up_to_layer=0"], ["no GPSA layer"]),
        ("transfer", [], ["transfer needs pretrained weights", "--weights"]),
        ("transfer", ["--weights", "gone.safetensors", "--images", "8"], ["gone.safetensors"]),
        ("transfer", ["--weights", "x", "--images", "0"], ["'0' in '0' is not a number of images above 0"]),
        ("transfr", [], ["transfr"]),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    convit: Command, kind: str, arguments: list[str], words: list[str]
) -> None:
    run = _study(convit, kind, "--test", "train-1.tar", *arguments)
    assert (run.code, run.out, run.err.count("\n")) == (2, "", 1), run.err
    assert run.err.startswith("convit: error: ")
    assert all(word in run.err for word in words), run.err


@pytest.mark.usefixtures("place")
def test_without_test_images_nothing_is_run(convit: Command) -> None:
    run = _study(convit, "sample-efficiency")
    assert (run.code, run.err.count("\n")) == (2, 1)
    assert "there are no test images; name them with --test" in run.err


@pytest.mark.usefixtures("place")
def test_a_diverged_run_is_one_line_and_exit_code_1(convit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: object, **__: object) -> Path:
        raise DivergedError("the loss is nan at step 7")

    monkeypatch.setattr(running, "run_recipe", diverge)
    run = _study(convit, "sample-efficiency", "--test", "train-1.tar", "--shares", "1", "--quiet")
    assert (run.code, run.out, run.err) == (1, "", "convit: error: the loss is nan at step 7\n")
