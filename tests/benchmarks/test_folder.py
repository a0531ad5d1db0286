"""What labeling files reaches of what the processor allows."""

from pathlib import Path

import pytest

from benchmarks import folder, machine


@pytest.mark.parametrize("fast_decode", [False, True])
def test_the_share_is_what_was_reached_of_what_the_cores_could_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast_decode: bool
) -> None:
    folder.make_photographs(tmp_path, 3)
    files = sorted(tmp_path.iterdir())
    monkeypatch.setattr(folder, "WORKERS", (1, 2))
    ticks = iter([0.0, 0.3, 0.0, 0.06])  # of the CPU: three images 0.3 s, of which reading takes 0.06
    monkeypatch.setattr("benchmarks.folder.time.process_time", lambda: next(ticks))
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    row = folder.measure("convit_nano_patch4_32", 1, files, 1, precision="fp32", fast_decode=fast_decode)
    assert (row["reading_ms"], row["model_ms"], row["possible"]) == (20.0, 80.0, 20.0)
    reached = row["images_per_second"][str(row["workers"])]
    assert row["share_percent"] == pytest.approx(100 * reached / 20, abs=0.1)
    assert "reading 20 ms and model 80 ms of CPU time, so 20 images/s on 2 cores at best" in folder.describe(row)


def test_ones_own_photographs_take_the_place_of_those_that_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    folder.make_photographs(tmp_path / "mine", 2)
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    given = ["--models", "convit_nano_patch4_32", "--precision", "fp32", "--rounds", "1", "--data"]
    monkeypatch.setattr("sys.argv", ["folder.py", *given, f"{tmp_path / 'mine'}"])
    folder.main()
    assert "convit_nano_patch4_32, fp32, mine: reading " in capsys.readouterr().out
    assert not (tmp_path / "results").exists()
