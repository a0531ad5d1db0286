"""Every exception becomes one line and an exit code, in one place."""

import pytest

from convit.cli import errors


def _raised(source: str, file: str) -> Exception:
    """An exception with a traceback that ends in `file`."""
    try:
        exec(compile(source, file, "exec"), {})
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


OURS = str(errors._PACKAGE / "inference" / "somewhere.py")
THEIRS = "/usr/lib/python3/other/somewhere.py"


@pytest.mark.parametrize(
    ("source", "file", "code", "message"),
    [
        ("raise ValueError('size is 0; make it 1')", OURS, 2, "size is 0; make it 1"),
        ("raise TypeError('size is a str; give an int')", OURS, 2, "size is a str; give an int"),
        ("raise FileNotFoundError('no weights in x; check the path')", OURS, 2, "no weights in x; check the path"),
        ("open('/no/such/file')", THEIRS, 2, "/no/such/file: no such file or folder"),
        ("raise FileExistsError(17, 'File exists', 'a.csv')", THEIRS, 2, "a.csv: exists already"),
        ("raise IsADirectoryError(21, 'Is a directory', 'a')", THEIRS, 2, "a: is a folder, not a file"),
        ("raise ConnectionError('cannot reach the hub')", OURS, 1, "cannot reach the hub"),
        ("raise PermissionError(13, 'Permission denied', 'a.csv')", THEIRS, 1, "a.csv: no permission; change"),
        (
            "raise OSError(28, 'No space left on device', 'a.csv')",
            THEIRS,
            1,
            "a.csv: no space left on the device; free",
        ),
        ("raise OSError(5, 'Input/output error')", THEIRS, 1, "Input/output error"),
        ("raise MemoryError", THEIRS, 1, "out of memory; use a smaller batch"),
        (
            "raise MemoryError('it does not fit; use a smaller --size')",
            OURS,
            1,
            "it does not fit; use a smaller --size",
        ),
        ("import numpy; numpy.empty(10**15)", OURS, 1, "out of memory; use a smaller batch"),
        ("import torch; torch.empty(10**15)", THEIRS, 1, "out of memory; use a smaller batch"),
        ("import torch; raise torch.OutOfMemoryError('x')", THEIRS, 1, "out of memory; use a smaller batch"),
        ("import no_such_package", OURS, 1, "the package 'no_such_package' is not installed"),
        ("raise ValueError('odd')", THEIRS, 1, "unexpected ValueError: odd (--debug shows the traceback)"),
        ("raise RuntimeError", OURS, 1, "unexpected RuntimeError: no message (--debug shows the traceback)"),
        ("{}['key']", OURS, 1, "unexpected KeyError: 'key' (--debug shows the traceback)"),
    ],
)
def test_code_and_message(source: str, file: str, code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert errors.report(_raised(source, file)) == code
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith(f"convit: error: {message}")
    assert written.err.count("\n") == 1


def test_several_lines_become_one(capsys: pytest.CaptureFixture[str]) -> None:
    errors.report(_raised("raise ValueError('first\\n  second\\x1b[2J')", OURS))
    assert capsys.readouterr().err == "convit: error: first second\\x1b[2J\n"


def test_what_a_stop_leaves_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert errors.report(KeyboardInterrupt()) == 130
    assert capsys.readouterr() == ("", "convit: stopped by Ctrl-C; unfinished output was removed\n")
    stop = errors.Terminated(143)
    stop.add_note("half of it is kept")
    assert errors.report(stop) == 143
    assert capsys.readouterr() == ("", "convit: stopped by SIGTERM; half of it is kept\n")
    assert errors.report(KeyboardInterrupt("stopped at step 3; go on with: convit train")) == 130
    assert capsys.readouterr() == ("", "convit: stopped at step 3; go on with: convit train\n")


def test_notes_stand_behind_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    error = _raised("raise ValueError('size is 0')", OURS)
    error.add_note("what was measured is kept")
    assert errors.report(error) == 2
    assert capsys.readouterr().err == "convit: error: size is 0; what was measured is kept\n"
