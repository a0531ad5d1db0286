"""Several processes: every image counted once, and the figures those of one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from convit.cli import main
from convit.data import open_samples
from convit.evaluation import Evaluator, Processes, join_processes, own_device

RUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


@pytest.mark.parametrize(("total", "count"), [(0, 2), (1, 3), (18, 4), (18, 1), (5, 7)])
def test_every_image_is_one_processes(total: int, count: int) -> None:
    places = [place for number in range(count) for place in Processes(count, number).share(total)]
    assert sorted(places) == list(range(total))


def test_one_process_joins_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_processes() as processes:
        assert processes == Processes(1, 0)
        assert processes.gather("own") == ["own"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="WORLD_SIZE is 2, but RANK"), join_processes():
        pass
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ValueError, match="WORLD_SIZE='two', but it must be a number"), join_processes():
        pass


def test_processes_share_one_precision(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["evaluate", "nowhere", "--precision", "fastest"]) == 2
    assert "'fastest', which may differ between processes; name one" in capsys.readouterr().err


def test_each_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert own_device("auto") == "auto"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [own_device(name) for name in ("auto", "cuda", "cuda:0", "cpu")] == ["cuda:1", "cuda:1", "cuda:0", "cpu"]


def test_processes_that_see_other_data_are_refused(weights: Path, folder: Path) -> None:
    class Apart(Processes):
        def gather(self, own: object) -> list[object]:
            return [own, 17]

    with pytest.raises(ValueError, match="the processes see 17 and 18 images"):
        Evaluator(weights=weights, device="cpu").evaluate(open_samples(folder), processes=Apart())


@pytest.mark.parametrize("count", [2, 3])
def test_figures_are_those_of_one_process(count: int, folder: Path, weights: Path, tmp_path: Path) -> None:
    (folder / "cat" / "bad.jpg").write_text("no picture")
    options = [str(folder), "--weights", str(weights), "--device", "cpu", "--workers", "0"]
    alone, together = tmp_path / "alone.json", tmp_path / "together.json"
    assert main(["evaluate", *options, "-q", "-o", str(alone)]) == 3
    command = [sys.executable, *RUN, str(count), "-m", "convit", "evaluate", *options, "-o", str(together)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("1 of 19 images skipped (see ") == 1
    assert "Traceback" not in done.stderr
    one, several = (json.loads(file.read_text()) for file in (alone, together))
    assert (one.pop("processes"), several.pop("processes")) == (1, count)
    rounded = {"losses", "confidences"}  # the batch that an image is in changes its last digits
    assert {name: column for name, column in several["images"].items() if name not in rounded} == {
        name: column for name, column in one["images"].items() if name not in rounded
    }
    for name in rounded:
        assert several["images"][name] == pytest.approx(one["images"][name], rel=1e-5)
    for name in ("count", "unreadable", "errors", "data", "top1", "top5", "mean_class_top1", "per_class", "confusion"):
        assert several[name] == one[name], name
    assert several["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert several["unreadable"] == 1
