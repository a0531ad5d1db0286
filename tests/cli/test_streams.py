"""Standard streams that are missing, closed or full: results are written where they can be."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from convit.cli import main

MODEL = ("--model", "convit_nano_patch4_32.cifar10")


def _run(arguments: tuple[object, ...], redirections: str) -> subprocess.CompletedProcess[str]:
    """Run a command by a shell with some redirections; `$0` is the command."""
    command = [sys.executable, "-m", "convit", *map(str, arguments)]
    script = f'set -o pipefail; "$0" "$@" {redirections}'
    return subprocess.run(["bash", "-c", script, *command], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("redirections", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_file_is_written_without_standard_streams(redirections: str, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    done = _run(("classify", photos, *MODEL, "-o", output), redirections)
    assert (done.returncode, done.stdout) == (0, "")
    assert len(output.read_text().splitlines()) == 4
    assert ("4 images in" in done.stderr) == ("2>&-" not in redirections)


def test_results_that_could_go_nowhere_are_refused_at_once(photos: Path) -> None:
    done = _run(("classify", photos, *MODEL), ">&-")
    assert done.returncode == 2
    assert done.stderr == "convit: error: there is no standard output to write to; name a file with --output\n"


def test_a_missing_standard_error_costs_nobody_the_results(photos: Path) -> None:
    done = _run(("classify", photos, *MODEL), "2>&-")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 4)
    done = _run(("classify", photos / "nowhere.jpg", *MODEL), "2>&-")
    assert (done.returncode, done.stdout) == (2, "")


GONE = "convit: standard output was closed, so the rest was not written\n"


@pytest.mark.parametrize(
    "arguments", [("models",), ("models", "--format", "csv"), ("info", "convit_tiny"), ("--help",)]
)
def test_a_reader_that_has_gone_is_named(arguments: tuple[str, ...]) -> None:
    done = _run(arguments, "| true")
    assert (done.returncode, done.stdout, done.stderr) == (141, "", "" if "-h" in arguments else GONE)


@pytest.mark.parametrize("form", ["jsonl", "csv", "table"])
def test_the_head_of_many_rows(form: str, photos: Path) -> None:
    """The reader goes while rows are still to come, or before a table is printed."""
    many = [photos / "cat.jpg"] * 40
    done = _run(("classify", *many, *MODEL, "--format", form, "--top-k", 10, "--workers", 0), "| (exec <&-; sleep 9)")
    assert (done.returncode, done.stderr.splitlines()[-1] + "\n") == (141, GONE)
    quiet = _run(("classify", *many, *MODEL, "--format", form, "--quiet"), "| (exec <&-; sleep 9)")
    assert (quiet.returncode, quiet.stderr) == (141, "")


def test_standard_error_may_be_closed_by_its_reader(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    done = _run(("classify", photos, *MODEL, "-o", output), "2>&1 >/dev/null | true")
    assert done.returncode == 0
    assert len(output.read_text().splitlines()) == 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_at_the_other_end_is_said_once() -> None:
    done = _run(("models",), ">/dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("convit: error: no space left on the device")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("command", ["classify", "explain"])
def test_json_is_valid_in_every_encoding(
    command: str, encoding: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, figure = tmp_path / "é😀.jpg", tmp_path / "é😀.png"
    shutil.copy(photos / "cat.jpg", image)
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    more, expected = ([], image) if command == "classify" else (["-o", str(figure)], figure)
    assert main([command, str(image), *MODEL, *more]) == 0
    assert json.loads(stream.buffer.getvalue().decode(encoding))["path"] == str(expected)  # type: ignore[attr-defined]
