"""What the rooms below say while a command runs reaches standard error as one line each."""

import logging
import warnings

import pytest

from convit.cli import errors
from convit.weights import progress


def test_log_records_and_warnings_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with errors.on_stderr():
        logging.getLogger("convit.somewhere").info("the file's sha256 is %s", "abc")
        logging.getLogger("convit.somewhere").warning("no answer yet;\nwaiting")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("5 heads are not a square number", stacklevel=1)
    logging.getLogger("convit.somewhere").info("after the command")
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.splitlines() == [
        "convit: the file's sha256 is abc",
        "convit: warning: no answer yet; waiting",
        "convit: warning: 5 heads are not a square number",
    ]


def test_quiet_output_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    with errors.on_stderr():
        errors.quiet_output()
        logging.getLogger("convit").info("fetching")
        logging.getLogger("convit").warning("slow")
        assert not progress._wanted
    assert capsys.readouterr().err == "convit: warning: slow\n"
    assert progress._wanted  # as before the command


def test_a_bar_leaves_standard_output_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress.bar("images", 10) as advance:
        for _ in range(10):
            print("a row")
            advance()
    assert capsys.readouterr().out == "a row\n" * 10


@pytest.mark.parametrize(("total", "shown"), [(progress.FEW, True), (100, False)])
def test_no_bar_for_few_items_or_when_unwanted(
    total: int, shown: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress.bar("images", total, shown=shown) as advance:
        advance()
    assert capsys.readouterr() == ("", "")


def test_what_pillow_finds_odd_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    with errors.on_stderr():
        warnings.warn_explicit("Corrupt EXIF data", UserWarning, "TiffImagePlugin.py", 1, module="PIL.TiffImagePlugin")
    assert capsys.readouterr().err == ""
