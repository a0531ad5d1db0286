"""Killed with -9 at any moment and resumed, a run ends with the very weights of an uninterrupted one."""

import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.training.small import command, weights_of, write_data

EPOCHS = 12  # of four steps
DEADLINE = 300  # seconds that a run may take

WORKERS = ("data.workers=2",)
PROCESSES = ("run.devices=2", "run.accumulate=2", "data.workers=1")

pytestmark = pytest.mark.slow


def _start(folder: Path, output: str, *options: str) -> subprocess.Popen[str]:
    changes = (f"schedule.epochs={EPOCHS}", "schedule.cooldown_epochs=0", "run.checkpoint_steps=3", *options)
    resume = ["--resume"] if (folder / output).exists() else []
    started = [*command(folder, output, *changes), *resume]
    return subprocess.Popen(started, cwd=folder, stderr=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, errors


def _steps_done(folder: Path) -> int:
    return max((int(path.stem.removeprefix("step-")) for path in folder.glob("checkpoints/step-*.ckpt")), default=0)


def _kill_after(process: subprocess.Popen[str], folder: Path, steps: int, generator: random.Random) -> None:
    """Kill some milliseconds after a checkpoint of so many steps: anywhere in a step, or while one is written."""
    until = time.monotonic() + DEADLINE
    while _steps_done(folder) < steps and process.poll() is None:
        assert time.monotonic() < until, "the run does not get on"
        time.sleep(0.001)
    time.sleep(generator.uniform(0, 0.05))
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=DEADLINE) == -signal.SIGKILL, "it ended before it was killed: make the run longer"
    assert process.stderr is not None
    process.stderr.close()


def _check_same(folder: Path) -> None:
    whole, cut = weights_of(folder / "whole"), weights_of(folder / "cut")
    assert whole.keys() == cut.keys()
    assert [name for name in whole if not torch.equal(whole[name], cut[name])] == []


@pytest.mark.parametrize(
    ("options", "kills"),
    [
        (WORKERS, (11,)),
        (PROCESSES, (17,)),
        pytest.param(WORKERS, (4, 11, 19, 26, 33), marks=pytest.mark.soak),
        pytest.param(PROCESSES, (6, 17, 30), marks=pytest.mark.soak),
    ],
    ids=["two workers", "two processes", "two workers, many kills", "two processes, many kills"],
)
def test_a_run_that_was_killed_ends_bit_for_bit_as_if_it_was_not(
    tmp_path: Path, options: tuple[str, ...], kills: tuple[int, ...]
) -> None:
    write_data(tmp_path / "data")
    _finish(_start(tmp_path, "whole", *options))
    generator = random.Random(len(kills))
    for steps in kills:
        process = _start(tmp_path, "cut", *options)
        _kill_after(process, tmp_path / "cut", steps, generator)
    assert not (tmp_path / "cut" / "weights.safetensors").exists()
    _finish(_start(tmp_path, "cut", *options))
    _check_same(tmp_path)
    assert len((tmp_path / "cut" / "log.jsonl").read_text().splitlines()) == EPOCHS


@pytest.mark.parametrize(
    ("number", "code", "options"),
    [(signal.SIGTERM, 143, ("run.devices=2",)), (signal.SIGINT, 130, ()), (signal.SIGHUP, 129, ())],
    ids=["SIGTERM to two processes", "Ctrl-C", "a terminal that was closed"],
)
def test_a_run_that_is_told_to_stop_saves_itself_and_says_how_to_go_on(
    tmp_path: Path, number: int, code: int, options: tuple[str, ...]
) -> None:
    write_data(tmp_path / "data")
    options = (*options, "run.checkpoint_steps=100000")
    _finish(_start(tmp_path, "whole", *options))
    process, log = _start(tmp_path, "cut", *options), tmp_path / "cut" / "log.jsonl"
    until = time.monotonic() + DEADLINE
    while not log.exists():
        assert time.monotonic() < until, "the run does not get on"
        time.sleep(0.001)
    process.send_signal(number)
    _, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors.count("\n")) == (code, 1), errors
    said, hint = errors.strip().split("; go on with: convit ")
    assert said == f"convit: stopped, with its checkpoint of step {_steps_done(tmp_path / 'cut')}"
    again = subprocess.run([sys.executable, "-m", "convit", *shlex.split(hint)], cwd=tmp_path, check=False)
    assert again.returncode == 0
    _check_same(tmp_path)
    assert len(log.read_text().splitlines()) == EPOCHS
