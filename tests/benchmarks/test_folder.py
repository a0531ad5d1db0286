"""What labeling files reaches of what the processor allows."""

import json
from pathlib import Path

import pytest

from benchmarks import folder, machine


@pytest.mark.parametrize("fast_decode", [False, True])
def test_the_share_is_what_was_reached_of_what_the_cores_could_do(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch, fast_decode: bool
) -> None:
    monkeypatch.setattr(folder, "WORKERS", (1, 2))
    ticks = iter([0.0, 0.3, 0.0, 0.06])  # of the CPU: three images 0.3 s, of which reading takes 0.06
    monkeypatch.setattr("benchmarks.folder.time.process_time", lambda: next(ticks))
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    row = folder.measure("convit_nano_patch4_32", 1, photos[:3], 1, precision="fp32", fast_decode=fast_decode)
    assert (row["reading_ms"], row["model_ms"], row["possible"]) == (20.0, 80.0, 20.0)
    reached = row["images_per_second"][str(row["workers"])]
    assert row["share_percent"] == pytest.approx(100 * reached / 20, abs=0.1)


def test_ones_own_photographs_take_the_place_of_those_that_are_made(
    tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    given = ["--models", "convit_nano_patch4_32", "--precision", "fp32", "--rounds", "1", "--data"]
    monkeypatch.setattr("sys.argv", ["folder.py", *given, f"{photos[0].parent}"])
    folder.main()
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (row["model"], row["megapixels"], row["images"]) == ("convit_nano_patch4_32", photos[0].parent.name, 5)
    assert not (tmp_path / "results").exists()
