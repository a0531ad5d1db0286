"""Output files appear whole or not at all."""

import errno
import io
import os
import resource
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from convit.output import binary, check_output, files, open_writer
from convit.output.files import write_file
from convit.output.folders import whole_folder
from convit.output.rows import Classification, Embedding, Prediction

FILES = ["json", "jsonl", "csv", "parquet", "npz", "table"]
LABEL = Classification("a.jpg", (Prediction("cat", 3, 0.5),))
VECTOR = Embedding("a.jpg", np.ones(4, np.float32))


def options(kind: str) -> dict[str, object]:
    rows = "embedding" if kind == "npz" else "classification"
    return {"format": kind, "rows": rows, **({"shape": (4,)} if kind == "npz" else {"top_k": 1})}


def fill(
    output: Path, kind: str, *, rows: int = 1, error: BaseException | None = None, overwrite: bool = False
) -> None:
    with open_writer(output, **options(kind), overwrite=overwrite) as writer:
        for _ in range(rows):
            writer.write(result(kind))
        if error is not None:
            raise error


def result(kind: str) -> Classification | Embedding:
    return VECTOR if kind == "npz" else LABEL


@pytest.mark.parametrize("kind", FILES)
def test_nothing_shows_before_the_end(tmp_path: Path, kind: str) -> None:
    output = tmp_path / "out"
    with open_writer(output, **options(kind)) as writer:
        writer.write(result(kind))
        assert not output.exists()
        assert all(path.name.startswith(".convit-") for path in tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == [output]
    assert output.stat().st_size > 0


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_nothing_is_left_after_an_error(tmp_path: Path, kind: str, error: type[BaseException]) -> None:
    with pytest.raises(error):
        fill(tmp_path / "out", kind, error=error())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", FILES)
def test_an_existing_file_survives_an_error(tmp_path: Path, kind: str) -> None:
    output = tmp_path / "out"
    output.write_text("precious")
    with pytest.raises(RuntimeError):
        fill(output, kind, error=RuntimeError(), overwrite=True)
    assert output.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [output]


def test_existing_files_are_replaced_only_when_asked(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("precious")
    for refused in (lambda: check_output(output), lambda: open_writer(output, "jsonl", "classification")):
        with pytest.raises(FileExistsError) as caught:
            refused()
        assert str(caught.value) == f"{output}: exists already; choose another name, or overwrite it"
    check_output(output, overwrite=True)
    assert output.read_text() == "precious"
    output.chmod(0o640)
    with open_writer(output, "jsonl", "classification", overwrite=True) as writer:
        writer.write(LABEL)
    assert output.read_text().startswith('{"path": "a.jpg"')
    assert stat.S_IMODE(output.stat().st_mode) == 0o640


_WAITING = """
import sys, time
from pathlib import Path
from convit.output.files import WholeFile
whole = WholeFile(Path(sys.argv[1]))
whole.file.write(b"half")
print("ready", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    names: list[set[Path]] = [set()]
    writers: list[subprocess.Popen[str]] = []
    for name in ("dead", "alive"):
        writers.append(
            subprocess.Popen([sys.executable, "-c", _WAITING, str(tmp_path / name)], stdout=subprocess.PIPE, text=True)
        )
        assert writers[-1].stdout is not None
        assert writers[-1].stdout.readline() == "ready\n"
        names.append(set(tmp_path.iterdir()))
    dead, alive = writers
    dead.kill()
    dead.wait()
    assert len(set(tmp_path.iterdir())) == 2
    write_file(tmp_path / "out", "whole")
    assert set(tmp_path.iterdir()) == {tmp_path / "out", *(names[2] - names[1])}
    alive.kill()
    alive.wait()
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.close()


def test_a_temporary_file_that_was_taken_away_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may take it for abandoned in the moment before it is locked."""
    really, taken = files.lock, list[Path]()

    def lock(file: BinaryIO, *, wait: bool = True) -> bool:
        if not taken:
            taken.extend(tmp_path.iterdir())
            taken[0].unlink()
        return really(file, wait=wait)

    monkeypatch.setattr(files, "lock", lock)
    write_file(tmp_path / "out", "whole")
    assert (len(taken), list(tmp_path.iterdir())) == (1, [tmp_path / "out"])


def test_the_end_of_a_process_removes_what_is_unfinished(tmp_path: Path) -> None:
    whole = files.WholeFile(tmp_path / "out")
    files.remove_unfinished()
    assert list(tmp_path.iterdir()) == []
    whole.discard()


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with pytest.raises(FileExistsError, match="exists already"), open_writer(output, "jsonl", "classification"):
        output.write_text("precious")
    assert output.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [output]


def test_new_files_have_ordinary_permissions(tmp_path: Path) -> None:
    with open_writer(tmp_path / "out.csv", "csv", "classification"):
        pass
    (tmp_path / "other").touch()
    assert (tmp_path / "out.csv").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_links_stay_links(tmp_path: Path) -> None:
    real, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(real)
    with open_writer(link, "jsonl", "classification") as writer:
        writer.write(LABEL)
    assert link.is_symlink()
    assert real.read_text() == link.read_text() != ""
    with pytest.raises(FileExistsError):
        check_output(link)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output, error, message in [
        (tmp_path / "no" / "out.csv", FileNotFoundError, f"there is no folder {tmp_path / 'no'}; create it first"),
        (tmp_path, IsADirectoryError, "is a folder; name a file in it"),
        (tmp_path / "file" / "out.csv", NotADirectoryError, "is a file, not a folder; write to another place"),
        (Path("/dev/null"), FileExistsError, "is a device or a pipe, not a file to replace"),
    ]:
        for overwrite in (False, True):
            with pytest.raises(error) as caught:
                check_output(output, overwrite=overwrite)
            assert str(caught.value).startswith(f"{output}: ")
            assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    assert Path("/dev/null").is_char_device()


def test_write_protected_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out.csv"
    output.touch()
    # a test run as root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="is write-protected; change its mode, or choose another name"):
        check_output(output, overwrite=True)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "no permission; change the permissions, or write to another place"),
        (errno.EROFS, "the file system is read-only; write to another place"),
        (errno.ENOSPC, "no space left on the device; free some, or write to another place"),
    ],
)
def test_errors_when_the_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def refuse(self: Path, mode: str) -> None:
        raise OSError(number, os.strerror(number), str(self))

    # a test run as root may write everywhere
    monkeypatch.setattr(Path, "open", refuse)
    output = tmp_path / "out.csv"
    with pytest.raises(OSError, match=message) as caught:
        check_output(output)
    assert str(caught.value) == f"{output}: {message}"
    assert caught.value.errno == number
    assert isinstance(caught.value, PermissionError) == (number == errno.EACCES)


def test_text_with_names_that_are_no_utf8(tmp_path: Path) -> None:
    output, name = tmp_path / "out.csv", os.fsdecode(b"caf\xe9.jpg")
    write_file(output, f"{name},Gr\u00fcn\r\n")
    assert output.read_bytes() == "caf\\udce9.jpg,Gr\u00fcn\r\n".encode()
    with pytest.raises(FileExistsError, match="exists already; choose another name, or overwrite it"):
        write_file(output, "other")
    write_file(output, "other", overwrite=True)
    assert output.read_text() == "other"
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("room", [0, 40, 400])
def test_no_room(tmp_path: Path, kind: str, room: int) -> None:
    # files may not grow beyond a few bytes: the same path through every kind as on a full disk
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(OSError, match="the file would become larger than is allowed here") as caught:
            fill(tmp_path / "out", kind, rows=2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    message = "the file would become larger than is allowed here; write to another place"
    assert str(caught.value) == f"{tmp_path / 'out'}: {message}"
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_stays_a_closed_pipe() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError), open_writer(None, "jsonl", "classification", stream=Closed()) as writer:
        writer.write(LABEL)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "npz", "parquet"])
def test_memory_does_not_grow_with_the_number_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(binary, "_GROUP_ROWS", 16)
    values = np.ones(1000, np.float32)
    with open_writer(tmp_path / "out", kind, "embedding", shape=(1000,)) as writer:
        tracemalloc.start()
        for _ in range(120):
            writer.write(Embedding("a.jpg", values.copy()))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert held < 120 * values.nbytes / 3


def test_a_link_in_a_circle_is_replaced(tmp_path: Path) -> None:
    link = tmp_path / "out.npz"
    link.symlink_to(link)
    fill(link, "npz")
    assert link.is_file()
    assert not link.is_symlink()
    assert list(tmp_path.iterdir()) == [link]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rename = tmp_path / "out", Path.rename
    folder.mkdir()
    (folder / "a.txt").write_text("precious")

    def refuse_the_new_one(self: Path, target: Path) -> Path:
        if target == folder and (self / "a.txt").read_text() == "new":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(OSError, match="out: no space left"), whole_folder(folder, ["*.txt"], overwrite=True) as made:
        (made / "a.txt").write_text("new")
    assert [file.read_text() for file in tmp_path.rglob("*.txt")] == ["precious"]
    assert list(tmp_path.iterdir()) == [folder]
