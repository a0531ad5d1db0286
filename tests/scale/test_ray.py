"""Ray does a job as one process does it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convit.cli import main
from tests.scale.test_engines import sorted_rows
from tools import kill_ray

JOB = ("--model", "convit_nano_patch4_32.cifar10", "--workers", "0", "--images-per-shard", "8")


def _by_ray(command: str, images: Path, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: Ray warns of itself, and what these tests leave out of order would meet the others."""
    line = [sys.executable, "-m", "convit", command, str(images), *JOB, "-o", f"{output}/", "--engine", "ray", *more]
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
        first, last = done.stderr.splitlines()  # and not a word of Ray
        assert (done.returncode, first) == (3, "convit: 3 shards, 0 done before, 3 to do")
        assert last.startswith("convit: done, 1 image skipped")
        assert sorted_rows(there) == sorted_rows(here)
        assert {file.name for file in there.iterdir()} == {file.name for file in here.iterdir()}
    assert _by_ray("embed", images, tmp_path / "embed-ray").returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="ends processes as Linux does")
def test_a_killed_worker_driver_and_node_lose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code = kill_ray.main(["--kills", "1"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "worker, 1 runs: 1 worker ended" in said
    assert "driver, 2 runs: 1 driver ended" in said
    assert ": 1 node ended" in said


@pytest.mark.soak
@pytest.mark.timeout(2 * 3600)
def test_many_killed_workers_drivers_and_nodes_lose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert kill_ray.main(["--kills", "15"]) == 0, capsys.readouterr().out


@pytest.mark.slow
def test_an_evaluation_is_that_of_one_process(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for number in range(20):
        folder = tmp_path / "images" / ("n01443537", "n01629819")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no image")
    command = ("evaluate", str(tmp_path / "images"), "--model", "convit_mini_patch8_64.tiny_imagenet", "--workers", "0")
    found: list[dict[str, Any]] = []
    for name, more in (("here", ()), ("ray", ("--engine", "ray"))):
        file = tmp_path / f"{name}.json"
        line = [sys.executable, "-m", "convit", *command, "-o", str(file), "--format", "json", *more]
        done = subprocess.run(
            line, capture_output=True, text=True, check=False, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 3, done.stderr
        found.append(json.loads(file.read_text()))
    differing = {name for name, value in found[0].items() if found[1][name] != value}
    assert differing <= {"seconds", "images_per_second", "waiting_share", "date"}
    assert found[1]["count"] == 20


def test_an_index_says_which_two_commands_to_use(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "holiday", "--db", str(tmp_path / "db"), "--engine", "ray"]) == 2
    said = capfd.readouterr().err
    assert "convit embed holiday -o VECTORS/ --engine ray, then convit index --from VECTORS/ --db" in said


def test_what_a_worker_raised_is_told_without_what_ray_adds() -> None:
    from ray.exceptions import RayTaskError

    from convit.scale.ray_cluster import _of_ours

    cause = PermissionError("s3://bucket is refused")
    raised = RayTaskError("score", "pages of text", cause).as_instanceof_cause()
    assert "pages of text" in str(raised)
    assert _of_ours(raised) is cause
    assert _of_ours(KeyError("ours")).args == ("ours",)


@pytest.fixture
def deaf() -> Iterator[str]:
    """The address of something that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def _embed(image: Path, address: str) -> int:
    Image.new("RGB", (40, 30)).save(image)
    return main(["embed", str(image), *JOB, "-o", f"{image.parent}/out/", "--engine", "ray", "--address", address])


def test_a_cluster_that_there_is_not(
    deaf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("convit.scale.ray_cluster._PATIENCE", 0.5)
    for address in ("127.0.0.1:9", "127.0.0.1:none", "nowhere.invalid:6379", deaf):
        assert _embed(tmp_path / "a.png", address) == 1
        (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
        assert f"there is no Ray cluster at {address}; start one with ray start --head" in line
    assert not (tmp_path / "out").exists()


EARLIER = """
import ray
from convit.scale.ray_cluster import ray_cluster
with ray_cluster("ray") as cluster:
    print(cluster.get(cluster.remote(lambda: 7).remote()))
"""


@pytest.mark.slow
def test_a_program_that_imported_ray_before_starts_a_cluster_too() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    line = [sys.executable, "-c", EARLIER]
    run = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, "7"), run.stderr


OLDER = """
import os, sys
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
import ray
ray.__version__ = "2.9.9"
from ray.cluster_utils import Cluster
head = {"num_cpus": 0, "node_ip_address": "127.0.0.1", "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.mark.slow
def test_a_cluster_of_another_version(tmp_path: Path) -> None:
    line = [sys.executable, "-c", OLDER]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as older:
        assert older.stdout is not None
        address = older.stdout.readline().strip()
        Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
        done = _by_ray("embed", tmp_path, tmp_path / "out", "--address", address)
        older.communicate()
    (said,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert done.returncode == 2
    assert f"the cluster at {address} runs Ray 2.9.9" in said
    assert "install the same here and there" in said


def test_what_is_wrong_after_kills_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {"a": np.ones(2), "b": np.zeros(2)}
    found = kill_ray.Found()
    for rows in ({**whole, "a again": np.ones(2)}, {"a": np.ones(2)}, {**whole, "b": np.full(2, 1e-9)}, whole):
        monkeypatch.setattr(kill_ray, "read_shards", lambda _, rows=rows: rows)
        kill_ray.check(tmp_path, whole, found)
    assert found.faults == {"lost or duplicated": 2, "different": 1}
