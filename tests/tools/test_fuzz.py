"""Damaged files end in documented errors, in time and in bounds; the tool that says so notices where they do not."""

import mmap
import os
import time
from pathlib import Path

import pytest

from tools import fuzz
from tools.fuzz_inputs import KINDS, Kind

SEED = 12


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        *((kind, 150) for kind in KINDS),
        *(pytest.param(kind, 20_000, marks=[pytest.mark.soak, pytest.mark.timeout(7200)]) for kind in KINDS),
    ],
)
def test_damaged_files_are_read_or_refused_in_a_documented_way(kind: str, inputs: int) -> None:
    fuzz.run(kind, range(inputs), SEED, result := fuzz.Result())
    assert result.examples == []
    assert result.accepted + result.refused == result.inputs == inputs
    assert result.refused > 0.2 * inputs


def test_inputs_are_made_from_seed_kind_and_number_alone() -> None:
    inputs = [fuzz.make_input("label-maps", 3, number) for number in range(20)]
    assert inputs == [fuzz.make_input("label-maps", 3, number) for number in range(20)]
    assert len({content for _, content in inputs}) > 10


def _misbehave(path: Path) -> None:
    number = int(path.read_bytes())
    if number == 3:
        raise KeyError("a library's own error")
    if number == 5:
        raise OSError(22, "Invalid argument")
    if number == 7:
        os.abort()
    if number == 11:
        while True:
            pass
    if number == 13:
        time.sleep(100)
    if number == 17:
        mmap.mmap(-1, 64 << 20).write(bytes(64 << 20))
    if number == 19:
        raise FileNotFoundError("there is nothing; " + "look elsewhere " * 1000)


def test_what_falls_is_noticed_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kind = Kind(lambda: [(".txt", b"")], _misbehave)
    monkeypatch.setitem(KINDS, "bad", kind)
    monkeypatch.setattr(fuzz, "make_input", lambda kind, seed, number: (".txt", str(number).encode()))
    for name, value in {"SECONDS": 0.3, "CLOCK_SECONDS": 1.0, "MEMORY": 50 << 20, "BATCH": 9}.items():
        monkeypatch.setattr(fuzz, name, value)
    fuzz.run("bad", range(25), SEED, result := fuzz.Result(), tmp_path)
    assert result.fallen == {"undocumented": 2, "crash": 1, "hang": 2, "memory": 1, "message": 1}
    assert [example.partition(":")[0] for example in result.examples] == ["3", "5", "7", "11", "13", "17", "19"]
    assert (result.inputs, result.accepted, result.refused) == (25, 18, 0)
    assert (tmp_path / f"bad-{SEED}-11.txt").read_bytes() == b"11"


@pytest.mark.parametrize(
    ("kind", "seed", "number"),
    [("parquet", 2, 411), ("parquet", 4, 1537), ("parquet", 6, 2840), ("safetensors", 2, 3809)],
)
def test_inputs_that_fell_once(kind: str, seed: int, number: int) -> None:
    fuzz.run(kind, range(number, number + 1), seed, result := fuzz.Result())
    assert (result.examples, result.accepted + result.refused) == ([], 1)
