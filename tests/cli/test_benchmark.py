"""`convit benchmark`: what is shown and written, and what is refused in one line."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from convit.benchmark import Case, Row
from tests.benchmark.small import NANO, made_row

Command = Callable[..., Any]
SMALL = ("--model", NANO, "--device", "cpu", "--batch", "2", "--rounds", "2", "--threads", "1")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convit.benchmark.timing._SHAPES", {"cpu": ((64, 64, 64),)})


def test_a_benchmark_is_shown_and_written(convit: Command, tmp_path: Path) -> None:
    output = tmp_path / "made" / "for it"
    done = convit("benchmark", *SMALL, "--against", "plain", "--explain", "--output", output, terminal={"out"})
    assert done.code == 0, done.err
    assert f"{NANO}, 32 x 32, fp32, infer, batch 2 (2 rounds, weights drawn)" in done.out
    assert "How ours runs" in done.out
    assert "position attention" in done.out
    assert done.err.splitlines()[0] == "convit: fewer than 5 rounds: medians and quartiles say little"
    assert sorted(path.name for path in output.iterdir()) == ["results.json"]
    content = json.loads((output / "results.json").read_text())
    assert [row["candidate"] for row in content["rows"]] == ["ours", "plain"]
    assert content["explanations"][0]["shares"]
    convit("benchmark", *SMALL, "--output", output).fails("holds results.json already")


def test_lists_make_every_combination(convit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Case] = []

    def remembered(case: Case) -> list[Row]:
        seen.append(case)
        return [made_row()]

    monkeypatch.setattr("convit.benchmark.running.measure", remembered)
    lists = ("--model", f"{NANO},convit_tiny", "--precision", "fp32,bf16", "--size", "32,64x128", "--batch", "1, 8")
    assert convit("benchmark", *lists, "--mode", "latency", "--device", "cpu", "--compile").code == 0
    assert len(seen) == 16
    assert {case.size for case in seen} == {(32, 32), (64, 128)}
    assert {(case.batch, case.precision, case.mode, case.compiled) for case in seen} == {
        (batch, precision, "latency", True) for batch in (1, 8) for precision in ("fp32", "bf16")
    }
    assert seen[0].against == ("eager", "plain")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model", "convit_nan"), "there is no model 'convit_nan'; did you mean"),
        (("--device", "cuda:7"), "PyTorch sees"),
        (("--precision", "fp8"), "cpu is not a CUDA GPU of capability 8.9"),
        (("--precision", "fp17"), "precision is 'fp17'"),
        (("--mode", "fly"), "for '--mode': 'fly' is not one of 'infer', 'train'"),
        (("--mode", "train", "--precision", "int8"), "a training step can be measured in fp32, bf16"),
        (("--size", "33"), "33 x 33 pixels (height x width) is not tiled by patches of 4 pixels"),
        (("--size", "big"), "must be a number of pixels"),
        (("--batch", "0"), "must be numbers of images"),
        (("--against", "timn:x"), "unknown candidate 'timn:x'"),
        (("--against", "timm:no_such_model"), "timm cannot make 'no_such_model'"),
        (("--against", "a,,b"), "must be names with commas between them"),
        (("--weights", "/nowhere"), "there is no weight file /nowhere"),
    ],
)
def test_bad_input_is_one_line(convit: Command, options: tuple[str, ...], words: str) -> None:
    convit("benchmark", "--model", NANO, "--device", "cpu", *options).fails(words)


def test_a_peer_that_is_not_installed_is_one_line(convit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("convit.training.peers.import_module", missing)
    done = convit("benchmark", *SMALL, "--against", "timm:resnet18")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1] == (
        "convit: error: timm:resnet18 needs the package 'timm'; install it with: pip install timm"
    )


def test_what_was_measured_before_ctrl_c_is_kept(
    convit: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: Iterator[list[Row]] = iter([[made_row(mode="memory", memory_mb=98.0)]])

    def interrupted(_: Case) -> list[Row]:
        found = next(rows, None)
        if found is None:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr("convit.benchmark.running.measure", interrupted)
    done = convit("benchmark", *SMALL, "--mode", "memory", "--size", "32,64", "--output", tmp_path)
    assert done.code == 130
    assert json.loads((tmp_path / "results.json").read_text())["rows"][0]["memory_mb"] == 98.0


def test_a_pipe_gets_json_lines(convit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convit.benchmark.running.measure", lambda case: [made_row(), made_row(candidate="plain")])
    done = convit("benchmark", *SMALL)
    assert done.code == 0, done.err
    assert [row["candidate"] for row in done.rows] == ["ours", "plain"]
    assert done.rows[0]["step_ms"]["median"] > 0
