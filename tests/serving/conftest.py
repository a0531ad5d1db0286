"""A running service, started as a user starts it."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

NANO = "convit_nano_patch4_32.cifar10"
PHOTOS = Path(__file__).parents[2] / "examples" / "photos"


class Running(NamedTuple):
    """A service in a process of its own."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def client(self, **options: object) -> httpx.Client:
        """A client of it; close it."""
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)  # type: ignore[arg-type]


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Running]:
    """Start `convit serve` on a free port and wait until it listens."""
    log = folder / "log.jsonl"
    command = [sys.executable, "-m", "convit", "serve", "--port", "0", *options]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, cwd=folder)
    try:
        ends = time.monotonic() + 90
        while (found := re.search(r"listening on (http\S+)/", log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < ends, log.read_text()
            time.sleep(0.05)
        yield Running(process, found[1], log)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service of the small weights, shared by the tests that leave it as it was."""
    with serving(tmp_path_factory.mktemp("service"), "--model", NANO) as service:
        yield service
        assert service.process.poll() is None
        assert '"status": 500' not in service.log.read_text()


@pytest.fixture
def client(running: Running) -> Iterator[httpx.Client]:
    """A client of that service."""
    with running.client() as client:
        yield client


@pytest.fixture(scope="session")
def cat() -> bytes:
    """A photograph as a file."""
    return (PHOTOS / "cat.jpg").read_bytes()


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., object]:
    """Starts a service of the small weights with options of its own."""
    return lambda *options: serving(tmp_path, "--model", NANO, *options)
