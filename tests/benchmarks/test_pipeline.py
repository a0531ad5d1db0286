"""Images per second from JPEG files."""

import sys
from pathlib import Path

import pytest

from benchmarks import pipeline
from benchmarks.folder import make_photographs
from benchmarks.pipeline import measure_pipeline
from tests.benchmark.small import NANO, small_case


def test_from_files(tmp_path: Path) -> None:
    make_photographs(tmp_path, 3)
    ours, eager = measure_pipeline(small_case(), tmp_path)
    assert (ours.candidate, eager.candidate) == ("ours", "eager")
    assert ours.images_per_second == pytest.approx(1000 * 3 / ours.step_ms["median"], rel=1e-3)
    assert eager.ratio == pytest.approx(ours.images_per_second / eager.images_per_second, abs=6e-4)
    assert 0 <= ours.waiting_share <= 1
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"broken.jpg cannot be read .* leave it out of --data"):
        measure_pipeline(small_case(), tmp_path)


def test_the_command_makes_photographs_where_none_are_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipeline, "PHOTOGRAPHS", 2)
    monkeypatch.setattr(sys, "argv", ["pipeline.py", "--model", NANO, "--device", "cpu", "--rounds", "2"])
    pipeline.main()
    printed = capsys.readouterr().out
    assert "images/s" in printed
    assert "ours: " in printed
    assert "% of the time spent waiting for data" in printed
