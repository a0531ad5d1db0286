"""Runs that others start and stop: torchrun with several processes, and SLURM with a signal to make way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.training.small import command, weights_of, write_data

pytestmark = pytest.mark.slow
STEADY = ("optimizer.eps=1e-3", "run.checkpoint_steps=3")


def test_torchrun_starts_the_processes_of_a_run(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    subprocess.run(command(tmp_path, "alone", *STEADY), cwd=tmp_path, check=True)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    _, *shared = command(tmp_path, "shared", *STEADY, "run.devices=2")
    subprocess.run([*launcher, *shared], cwd=tmp_path, check=True, timeout=500)
    expected, found = weights_of(tmp_path / "alone"), weights_of(tmp_path / "shared")
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=2e-6)


def test_a_job_that_slurm_wants_to_move_saves_itself_queues_again_and_ends_as_if_undisturbed(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    long = (*STEADY, "schedule.epochs=12", "schedule.cooldown_epochs=0", "run.checkpoint_steps=100000")
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
    started = command(tmp_path, "run", *long)
    job = subprocess.Popen(started, cwd=tmp_path, env=os.environ | slurm, stderr=subprocess.PIPE, text=True)
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
    again = os.environ | slurm | {"SLURM_RESTART_COUNT": "1"}
    subprocess.run(started, cwd=tmp_path, env=again, timeout=500, check=True)
    assert done < 12
    subprocess.run(command(tmp_path, "whole", *long), cwd=tmp_path, check=True, timeout=500)
    expected, found = weights_of(tmp_path / "whole"), weights_of(tmp_path / "run")
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
