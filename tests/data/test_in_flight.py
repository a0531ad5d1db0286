"""What the workers of a data loader decode at once has one limit for all of them."""

import contextlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from convit.data.datasets import ImageDataset
from convit.data.opening import open_samples
from convit.images.limits import share_in_flight

WORKERS = 4
SIDE = 3000
DECODED = SIDE * SIDE * 4
Loader = DataLoader[tuple[torch.Tensor, int]]
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # of more workers than cores
]
_ORPHANED = """
import multiprocessing, os, signal, time
from convit.images.limits import IN_FLIGHT, share_in_flight
def wait(begin):
    begin(0)
    with IN_FLIGHT.hold(1, 1):
        pass
begin = share_in_flight()
begin(0)
with IN_FLIGHT.hold(1, 1):
    child = multiprocessing.get_context("fork").Process(target=wait, args=(begin,))
    child.start()
    print(child.pid, flush=True)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageDataset:
    """Twelve images, one of which may be decoded at a time."""
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.effect_noise((SIDE, SIDE), 9).convert("RGB").save(tmp_path / name / "0.jpg")
        for number in range(1, 6):
            os.link(tmp_path / name / "0.jpg", tmp_path / name / f"{number}.jpg")
    monkeypatch.setenv("CONVIT_LIMITS", f"bytes_in_flight={DECODED}")
    return ImageDataset(open_samples(tmp_path), _shrink)


def _shrink(image: Image.Image) -> torch.Tensor:
    time.sleep(0.3)  # while the image is there
    return torch.full((3, 8, 8), float(image.size == (SIDE, SIDE)))


def _private_bytes(process: int | None) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:  # it has ended
        return 0
    return sum(1024 * int(size) for size in re.findall(r"^Private_Dirty:\s+(\d+)", text, re.MULTILINE))


def _peak_of_workers(loader: Loader) -> int:
    """Bytes that all workers have for themselves at once, at most, while the images are read."""
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, sum(_private_bytes(worker.pid) for worker in multiprocessing.active_children()))

    watching = threading.Thread(target=watch)
    batches = iter(loader)
    watching.start()
    try:
        # none more is asked for, since workers that end touch all that they have
        assert all(next(batches)[0].all() for _ in range(len(loader)))
    finally:
        done.set()
        watching.join()
    return peak


def print_peaks(folder: str) -> None:
    """Measure with one count for all workers, then with one for each; in a process that has little else in memory."""
    for begin in (share_in_flight(), None):
        data = ImageDataset(open_samples(folder), _shrink)
        print(_peak_of_workers(DataLoader(data, 1, num_workers=WORKERS, worker_init_fn=begin)))


def test_all_workers_have_one_budget(images: ImageDataset, tmp_path: Path) -> None:
    program = f"from tests.data.test_in_flight import print_peaks; print_peaks({str(tmp_path)!r})"
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    shared, apart = map(int, run.stdout.split())
    assert len(images) == 12
    assert apart - shared > 2 * DECODED, run.stdout


def test_a_worker_that_is_killed_ends_the_run(images: ImageDataset) -> None:
    batches = iter(DataLoader(images, 1, num_workers=WORKERS, worker_init_fn=share_in_flight()))
    next(batches)
    os.kill(batches._workers[1].pid, signal.SIGKILL)  # type: ignore[attr-defined]
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match=r"is killed by signal|exited unexpectedly"):
        list(batches)
    assert time.monotonic() - begun < 15


def test_a_worker_does_not_outlive_the_process_that_it_waits_for() -> None:
    run = subprocess.run([sys.executable, "-c", _ORPHANED], capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL
    child = int(run.stdout)
    with contextlib.suppress(ProcessLookupError):
        for _ in range(100):
            os.kill(child, 0)
            time.sleep(0.1)
        os.kill(child, signal.SIGKILL)
        pytest.fail("the worker is still there")
