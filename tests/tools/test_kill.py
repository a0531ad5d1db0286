"""A few kills of each command; `make soak` has 350."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tools import kill
from tools.killing import BUCKET, bucket_files, s3_server


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ends processes as Linux does")
def test_a_few_kills_leave_nothing_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    code = kill.main(["--kills", "10", "--seed", "3"])
    assert code == 0, capsys.readouterr().out


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_many_kills_leave_nothing_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert kill.main(["--kills", "350"]) == 0, capsys.readouterr().out


def test_an_s3_server_begins_empty_whatever_an_earlier_one_kept() -> None:
    for _ in range(2):
        with s3_server():
            assert bucket_files().find(BUCKET) == []
            bucket_files().pipe_file(f"{BUCKET}/out/rows", b"kept")


def test_what_is_wrong_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an honest tool must see: a changed value, a row too many or too few, a file that is left, a broken one."""
    whole = {"a": np.ones(2), "b": np.zeros(2)}
    results = iter([whole, {**whole, "a": np.zeros(2)}, {**whole, "a again": np.ones(2)}, {"a": np.ones(2)}, {}])

    def read(out: Path) -> kill.Result:
        return next(results)

    (tmp_path / ".convit-0.tmp").touch()
    monkeypatch.setitem(kill.SUBJECTS, "embed", kill.Subject((), read))
    found = kill.Found()
    for is_whole in (False, False, False, False, True):
        kill.check("embed", tmp_path, whole, found, is_whole=is_whole)
    assert found.faults == {"corrupt": 1, "lost or duplicated": 3, "left behind": 1}
    monkeypatch.setitem(kill.SUBJECTS, "embed", kill.Subject((), lambda _: 1 / 0))  # pyright: ignore
    kill.check("embed", tmp_path, whole, found, is_whole=False)
    assert "ZeroDivisionError" in found.told[-1]
