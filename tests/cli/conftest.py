"""What the tests of the command line share: photographs, a small weight file, and two ways to run a command."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest
from PIL import Image
from skimage import data

from convit.cli import main


class Run(NamedTuple):
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The JSON lines on standard output."""
        return [json.loads(line) for line in self.out.splitlines()]

    def fails(self, *parts: object, code: int = 2) -> None:
        """Assert that it gave no result (code 3: some), and one line that says what is wrong and holds these parts."""
        assert self.code == code, self.err
        assert self.out == "" or code == 3
        assert self.err.startswith("convit: error: ")
        assert self.err.count("\n") == 1, self.err
        for part in parts:
            assert str(part) in self.err


class Terminal(io.StringIO):
    """Something written to that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(scope="session")
def convit() -> Callable[..., Run]:
    """Run a command in this process, which spares the seconds that importing torch takes.

    `terminal` names the streams that are terminals, such as {"out"}; the others are pipes. `out` stands in for standard
    output.
    """

    def run(*arguments: object, terminal: Collection[str] = (), out: IO[str] | None = None) -> Run:
        streams = [Terminal() if name in terminal else io.StringIO() for name in ("out", "err")]
        out, err = out or streams[0], streams[1]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
        return Run(code, streams[0].getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def convit_process() -> Callable[..., Run]:
    """Run a command in a process of its own; `environment` is added to this one's."""

    def run(*arguments: object, environment: dict[str, str] | None = None, **options: Any) -> Run:
        command = [sys.executable, "-m", "convit", *map(str, arguments)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        done = subprocess.run(command, env=os.environ | (environment or {}), text=True, check=False, **options)
        return Run(done.returncode, done.stdout or "", done.stderr or "")

    return run


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cat and a coffee, in a folder inside it an astronaut and a rocket, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "space").mkdir()
    Image.fromarray(data.chelsea()).save(folder / "cat.jpg")
    Image.fromarray(data.coffee()).save(folder / "coffee.png")
    Image.fromarray(data.astronaut()).save(folder / "space" / "astronaut.png")
    Image.fromarray(data.rocket()).save(folder / "space" / "rocket.jpg")
    (folder / "notes.txt").write_text("not a picture")
    return folder
