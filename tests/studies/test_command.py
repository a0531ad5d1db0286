"""The scripts of the studies: what they print, what they run, and their exit codes."""

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.small import TEXT, write_data

SCRIPTS = Path(__file__).parents[2] / "studies"
QUICK = ("--set", "ema=null", "--set", "schedule={epochs: 1, warmup_epochs: 0, cooldown_epochs: 0}")
GIVEN = ("--recipe", "small.yaml", "--data", "data")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe and data, to work in."""
    write_data(tmp_path / "data")
    (tmp_path / "small.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, str]]:
    """Runs a script in this process, and gives its exit code and its errors."""

    def run(name: str, *arguments: object) -> tuple[Any, str]:
        monkeypatch.setattr(sys, "argv", [name, *GIVEN, *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(SCRIPTS / name), run_name="__main__")
        return stopped.value.code, capsys.readouterr().err

    return run


def test_a_study_prints_its_table_and_says_what_it_does(place: Path) -> None:
    words = ("--test", "train-1.tar", "--shares", "1", "--seeds", "1", "--threads", "1", *QUICK)
    command = [sys.executable, str(SCRIPTS / "sample_efficiency.py"), *GIVEN, *words]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "runs/sample-efficiency/table.md\n"), run.stderr
    told = [line for line in run.stderr.splitlines() if line.startswith("run ")]
    assert told[0].startswith("run 1 of 2 (ConViT, 100 %, seed 1): top-1 ")
    assert len(told) == 2
    assert (
        "      python studies/sample_efficiency.py --recipe small.yaml --data data --test train-1.tar --shares 1 "
        "--seeds 1 --threads 1 --set ema=null --set 'schedule={epochs: 1, warmup_epochs: 0, cooldown_epochs: 0}'\n"
    ) in (place / run.stdout.strip()).read_text()


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("sample_efficiency.py", ["--shares", "0.5,2"], ["'2' in '0.5,2' is not a share above 0 and up to 1"]),
        ("sample_efficiency.py", ["--shares", "0.1"], ["leaves 4 of 40 images, fewer than a batch of 8"]),
        ("sample_efficiency.py", ["--model", "convit_tinny"], ["'convit_tinny'", "convit_tiny"]),
        ("sample_efficiency.py", ["--shares", "1", "--test", "none.tar"], ["none.tar"]),
        ("sample_efficiency.py", ["--data", "gone"], ["there is no folder gone", "--data"]),
        ("sample_efficiency.py", ["--shares", "1", "--output", "data"], ["data holds something other than a study"]),
        ("ablation.py", ["--set", "model.options.local_up_to_layer=0"], ["no GPSA layer"]),
        ("settings.py", ["--change", "AdamW"], ["the change 'AdamW' is not 'LABEL: KEY=VALUE'"]),
        ("settings.py", ["--change", "a: seed=2", "--change", "a: seed=3"], ["the change 'a' comes twice"]),
        ("settings.py", ["--change", "a: optimizer.name=adamx"], ["optimizer.name", "adamx"]),
        ("transfer.py", ["--weights", "gone.safetensors", "--images", "8"], ["gone.safetensors"]),
        ("transfer.py", ["--weights", "x", "--images", "0"], ["'0' in '0' is not a number of images above 0"]),
    ],
)
@pytest.mark.usefixtures("place")
def test_wrong_input_is_one_line_and_exit_code_2(
    script: Callable[..., tuple[Any, str]], name: str, arguments: list[str], words: list[str]
) -> None:
    code, err = script(name, "--test", "train-1.tar", *arguments)
    assert (code, err.count("\n")) == (2, 1), err
    assert err.startswith("error: ")
    assert all(word in err for word in words), err


@pytest.mark.usefixtures("place")
def test_options_that_a_study_lacks_or_needs_are_named(script: Callable[..., tuple[Any, str]]) -> None:
    code, err = script("ablation.py", "--model", "convit_tiny")
    assert (code, "unrecognized arguments: --model" in err) == (2, True)
    code, err = script("transfer.py")
    assert (code, "required: --weights" in err) == (2, True)


@pytest.mark.usefixtures("place")
def test_without_test_images_nothing_is_run(script: Callable[..., tuple[Any, str]]) -> None:
    code, err = script("sample_efficiency.py", "--set", "data.held_out=0")
    assert (code, err.count("\n")) == (2, 1)
    assert "there are no test images; name them with --test" in err
