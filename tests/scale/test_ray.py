"""Ray does a job as one process does it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest
from PIL import Image

from convit.cli import main

JOB = ("--model", "convit_nano_patch4_32.cifar10", "--workers", "0", "--images-per-shard", "8")


def _rows(output: Path) -> list[dict[str, Any]]:
    return sorted(pyarrow.dataset.dataset(output).to_table().to_pylist(), key=lambda row: row["path"])


def _by_ray(command: str, images: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: Ray warns of itself, and what these tests leave out of order would meet the others."""
    line = [sys.executable, "-m", "convit", command, str(images), *JOB, "-o", f"{output}/", "--engine", "ray"]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=240)


@pytest.mark.slow
def test_rows_are_those_of_one_process(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(20):
        Image.new("RGB", (40, 30 + number), (12 * number, 99, 200)).save(images / f"{number}.png")
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    for command in ("embed", "classify"):
        here, there = tmp_path / f"{command}-here", tmp_path / f"{command}-ray"
        assert main([command, str(images), *JOB, "-o", f"{here}/"]) == 3
        done = _by_ray(command, images, there)
        first, last = (line for line in done.stderr.splitlines() if line.startswith("convit: "))
        assert (done.returncode, first) == (3, "convit: 3 shards, 0 done before, 3 to do")
        assert last.startswith("convit: done, 1 image skipped")
        assert _rows(there) == _rows(here)
        assert {file.name for file in there.iterdir()} == {file.name for file in here.iterdir()}
    assert _by_ray("embed", images, tmp_path / "embed-ray").returncode == 0


def test_a_cluster_that_there_is_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    job = ("embed", str(tmp_path / "a.png"), *JOB, "-o", f"{tmp_path}/out/", "--engine", "ray")
    assert main([*job, "--address", "127.0.0.1:9"]) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert "there is no Ray cluster at 127.0.0.1:9; start one" in line
    assert not (tmp_path / "out").exists()
