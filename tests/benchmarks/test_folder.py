"""How fast pictures are read, apart from a model."""

from pathlib import Path

import pytest

from benchmarks import folder


@pytest.mark.parametrize("fast_decode", [False, True])
def test_every_picture_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast_decode: bool) -> None:
    folder.make_photographs(tmp_path, 3)
    ticks = iter([10.0, 12.0])
    monkeypatch.setattr("benchmarks.folder.time.perf_counter", lambda: next(ticks))
    assert folder.reading_speed(tmp_path, "convit_nano_patch4_32", 0, fast_decode=fast_decode) == 1.5


def test_one_run_end_to_end(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    folder.make_photographs(photographs, 5)
    row = folder.measure("convit_nano_patch4_32", photographs, tmp_path, ["--device", "cpu", "--fast-decode"])
    assert (row["model"], row["images"], row["options"]) == ("convit_nano_patch4_32", 5, "--device cpu --fast-decode")
    assert row["read_by_one"] > 0
    assert row["read_by_all"] > 0
    assert 0 <= row["waiting_percent"] <= 100
