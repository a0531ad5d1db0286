"""Runs that others start and stop: torchrun with several processes, and SLURM with a signal to make way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.training.small import TEXT, write_data

pytestmark = pytest.mark.slow
STEADY = ("optimizer.eps=1e-3", "run.checkpoint_steps=3")


def _train(output: str, *changes: str) -> list[str]:
    sets = [part for change in (*STEADY, *changes) for part in ("--set", change)]
    return ["train", "small.yaml", "--data", "data", "--output", output, "--quiet", *sets]


def _weights(folder: Path, output: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / output / "weights.safetensors")


def test_torchrun_starts_the_processes_of_a_run(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    (tmp_path / "small.yaml").write_text(TEXT)
    alone = subprocess.run(
        [sys.executable, "-m", "convit", *_train("alone")], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert alone.returncode == 0, alone.stderr
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    shared = subprocess.run(
        [*launcher, "-m", "convit", *_train("shared", "run.devices=2")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert shared.returncode == 0, shared.stderr
    expected, found = _weights(tmp_path, "alone"), _weights(tmp_path, "shared")
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=2e-6)


def test_a_job_that_slurm_wants_to_move_saves_itself_queues_again_and_ends_as_if_undisturbed(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    (tmp_path / "small.yaml").write_text(TEXT)
    long = ("schedule.epochs=12", "schedule.cooldown_epochs=0", "run.checkpoint_steps=100000")
    scontrol = tmp_path / "scontrol"  # stands in for SLURM's own: notes what it was asked
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "1",
        "SLURM_JOB_NAME": "night",
        "SLURM_NODELIST": "localhost",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "convit", *_train("run", *long)]
    job = subprocess.Popen(command, cwd=tmp_path, env=os.environ | slurm, stderr=subprocess.PIPE, text=True)
    log, until = tmp_path / "run" / "log.jsonl", time.monotonic() + 300
    while not log.exists() or len(log.read_text().splitlines()) < 2:
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < until, "the run does not get on"
        time.sleep(0.01)
    job.send_signal(signal.SIGUSR1)
    while not (tmp_path / "asked").exists():
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < until, "it did not ask to be queued again"
        time.sleep(0.01)
    job.kill()  # SLURM ends it now
    job.communicate()
    assert (tmp_path / "asked").read_text().split() == ["requeue", "7"]
    done = len(log.read_text().splitlines())
    again = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | slurm | {"SLURM_RESTART_COUNT": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert done < 12
    undisturbed = [sys.executable, "-m", "convit", *_train("whole", *long)]
    subprocess.run(undisturbed, cwd=tmp_path, check=True, timeout=500)
    expected, found = _weights(tmp_path, "whole"), _weights(tmp_path, "run")
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
