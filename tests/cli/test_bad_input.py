"""Each kind of bad input: one line that says what is wrong and what to do, and the exit code of whose turn it is."""

import ctypes
import errno
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import convit as package
from convit import Classifier

Command = Callable[..., Any]


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sure that what is wrong is found before a model is loaded or fetched."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(Classifier, "__init__", never)


# paths ---------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["{here}/gone.jpg"], ["{here}/gone.jpg", "no such file", "check"]),
        (["{here}"], ["{here}", "no images found", ".jpg"]),
        (["{photos}", "--output", "{here}/no/labels.csv"], ["no folder"]),
        (["{photos}", "--output", "{here}", "--format", "csv"], ["{here}", "is a folder"]),
        (["{photos}", "--output", "{here}/labels.docx"], ["'.docx'", ".parquet"]),
        (["{photos}", "--format", "parquet"], ["parquet", "file"]),
    ],
)
def test_inputs_and_outputs_that_cannot_be_used(
    arguments: list[str], parts: list[str], convit: Command, photos: Path, tmp_path: Path
) -> None:
    given, told = ([word.format(here=tmp_path, photos=photos) for word in words] for words in (arguments, parts))
    convit("classify", *given).fails(*told)


# images --------------------------------------------------------------------------------------------------------------


def _text(path: Path) -> None:
    path.write_text("this is a shopping list, not a picture")


def _truncated(path: Path) -> None:
    whole = path.with_suffix(".whole.png")
    Image.effect_noise((200, 200), 60).save(whole, "JPEG")
    path.write_bytes(whole.read_bytes()[:4000])
    whole.unlink()


def _bomb(path: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(path, "PNG")


@pytest.mark.parametrize(
    ("make", "problem"),
    [(_text, "is text, not an image"), (_truncated, "is cut off or damaged"), (_bomb, "decompression bomb")],
)
def test_an_image_that_cannot_be_read(
    make: Callable[[Path], None], problem: str, convit: Command, nano: Path, tmp_path: Path
) -> None:
    file = tmp_path / "picture.jpg"
    make(file)
    run = convit("classify", file, "--weights", nano)
    run.fails(file, problem, code=3)
    (row,) = run.rows
    assert row["path"] == str(file)
    assert row["predictions"] == []
    assert problem in row["error"]


def test_a_folder_with_some_bad_images(convit: Command, photos: Path, nano: Path, tmp_path: Path) -> None:
    for make in (_text, _truncated, _bomb):
        make(tmp_path / f"b{make.__name__}.jpg")
    for name in ("a.jpg", "z.jpg"):
        (tmp_path / name).symlink_to(photos / "cat.jpg")
    run = convit("classify", tmp_path, "--weights", nano)
    assert run.code == 3
    assert [Path(row["path"]).name for row in run.rows] == [
        "a.jpg",
        "b_bomb.jpg",
        "b_text.jpg",
        "b_truncated.jpg",
        "z.jpg",
    ]
    assert [row["error"] is None for row in run.rows] == [True, False, False, False, True]
    assert [len(row["predictions"]) for row in run.rows] == [5, 0, 0, 0, 5]
    summary, error = run.err.splitlines()
    assert summary.startswith("convit: 5 images (3 failed) in ")
    assert error.startswith("convit: done, 3 of 5 images skipped (see their rows); the first: ")
    assert "b_bomb.jpg" in error


def test_a_folder_in_which_nothing_can_be_read(convit: Command, nano: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    run = convit("classify", tmp_path, "--weights", nano, terminal={"err"})
    assert run.code == 3
    assert run.err.splitlines()[0] == f"convit: reading {tmp_path} …"
    assert run.err.splitlines()[-1].startswith("convit: error: none of 2 images could be read; the first: ")


# models and weights --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"), [("convit_bass", "'convit_base'"), ("convit_base_plus", "has no pretrained weights")]
)
@pytest.mark.parametrize("command", ["classify", "embed"])
def test_a_model_that_there_is_not(name: str, told: str, command: str, convit: Command, photos: Path) -> None:
    convit(command, photos, "--model", name).fails(name, told)


def test_weights_of_another_model(convit: Command, photos: Path, nano: Path) -> None:
    run = convit("classify", photos, "--model", "convit_tiny", "--weights", nano)
    run.fails(nano, "convit_nano_patch4_32", "convit_tiny")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_that_are_none(suffix: str, convit: Command, photos: Path, tmp_path: Path) -> None:
    file = tmp_path / f"weights{suffix}"
    file.write_text("not weights")
    convit("classify", photos, "--model", "convit_tiny", "--weights", file).fails(file)


def test_no_network_is_said_at_once(
    convit: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = "http://127.0.0.1:1"  # a port on which nobody listens
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    # the authors' server, too, is out of reach, without asking anybody where it is
    for name in ("HF_ENDPOINT", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, closed)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    start = time.perf_counter()
    run = convit("classify", photos, "--model", "convit_tiny")
    assert time.perf_counter() - start < 10
    assert (run.code, run.out) == (1, "")
    last = run.err.splitlines()[-1]
    assert last.startswith("convit: error: cannot fetch convit_tiny.fb_in1k: ")
    assert f"cannot reach {closed}" in last
    assert "--weights FILE" in last
    assert "Traceback" not in run.err


# outputs -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_model")
def test_an_existing_output(convit: Command, photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("precious")
    convit("classify", photos, "--output", file).fails(file, "exists already", "overwrite")
    assert file.read_text() == "precious"


def test_no_permission_to_write(convit_process: Command, photos: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    run = convit_process("classify", photos, "--output", locked / "labels.csv", preexec_fn=_obey_permissions)
    run.fails(locked / "labels.csv", "no permission", code=1)


def test_a_full_disk_leaves_nothing_behind(
    convit: Command, photos: Path, nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)  # where a file's last bytes reach the disk
    file = tmp_path / "labels.csv"
    run = convit("classify", photos / "cat.jpg", "--weights", nano, "--output", file)
    run.fails(file, "no space left", "free some", code=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["table", "json", "jsonl", "csv"])
def test_standard_output_on_a_full_disk(format: str, convit: Command, photos: Path, nano: Path) -> None:  # noqa: A002
    full = io.TextIOWrapper(open("/dev/full", "wb", buffering=0), write_through=True)  # noqa: SIM115, PTH123
    run = convit("classify", photos / "cat.jpg", "--weights", nano, "--format", format, out=full)
    run.fails("no space left", code=1)
    full.close()


# whoever loses patience ----------------------------------------------------------------------------------------------


def test_ctrl_c_ends_in_one_line_and_leaves_nothing_behind(photos: Path, nano: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(1500):
        (pictures / f"{number:04}.jpg").symlink_to(photos / "cat.jpg")
    output = tmp_path / "out"
    output.mkdir()
    command = [sys.executable, "-m", "convit", "classify", pictures, "--weights", nano, "--output", output / "a.csv"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not any(file.stat().st_size > 2000 for file in output.iterdir()):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "convit: stopped by Ctrl-C; unfinished output was removed\n")
    assert list(output.iterdir()) == []


def test_debug_shows_where_it_happened(convit: Command, tmp_path: Path) -> None:
    run = convit("classify", tmp_path / "gone.jpg", "--debug")
    assert run.code == 2
    assert run.err.startswith("Traceback")
    assert str(Path(package.__file__).parent) in run.err
    assert run.err.splitlines()[-1].startswith("convit: error: ")


def _obey_permissions() -> None:
    """Give up root's right to pass over permissions, where this is root."""
    cap_dac_override, drop_from_bounding_set = 1, 24  # linux/capability.h, linux/prctl.h
    ctypes.CDLL(None).prctl(drop_from_bounding_set, cap_dac_override, 0, 0, 0)
