"""The benchmarks' own machinery: what they report must be what they measured."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import folder, machine, memory, report, speed
from convit.benchmark import timing
from convit.inference import Timings

BENCHMARKS = Path(report.__file__).parent
PLACE = {
    "device": "A Processor",
    "threads": 2,
    "cpu_flags": ["avx2"],
    "python": "3.11",
    "versions": {"torch": "2.15.0"},
    "date": "2026-01-02T03:04:05+00:00",
    "load_average": 0.1,
}
TIMES = {"median": 2.0, "low": 1.5, "high": 3.25, "least": 1.0}
ROWS = {
    "speed": {"model": "m", "precision": "bf16", "batch": 8, "timm_ms": TIMES, "ours_ms": TIMES, "ratio": 1.234}
    | {"target": 1.8, "difference": 1e-6},
    "training": {
        "model": "m",
        "precision": "bf16",
        "computed_in": "fp32",
        "compiled": False,
        "batch": 8,
        "timm_ms": TIMES,
        "ours_ms": TIMES,
    }
    | {"deit_ms": TIMES, "ratio": 1.51, "ratio_to_deit": 0.91, "target": 1.4, "images_per_second": 12.34},
    "memory": {"model": "m", "size": 1024, "by": "ours", "peak_mb": 120.4, "lowest_mb": 119.0, "highest_mb": 121.0}
    | {"target_mb": 250.0},
    "startup": {"convit_ms": TIMES, "libraries_ms": TIMES, "ratio": 1.1, "target": 2.0, "imports_torch": False},
    "folder": {"model": "m", "images": 96, "images_per_second": 7.5, "waiting_percent": 2.34, "target_percent": 10.0},
    "parity": {"model": "m", "grid": "7 x 28", "precision": "fp32", "what": "logits", "against": "plain twin"}
    | {"their_error": 1e-6, "our_error": 3e-6, "limit": 2e-6, "holds": False},
}


def test_the_report_holds_every_benchmark(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    for name, row in ROWS.items():
        content = {"benchmark": name, "machine": PLACE, "rows": [row]}
        (tmp_path / "results" / f"{name}-a-processor.json").write_text(json.dumps(content))
    text = report.write_report(tmp_path).read_text()
    assert text.count("\n## ") == len(report.TITLES) == len(ROWS)
    assert "**A Processor**, 2 threads (avx2); Python 3.11, torch 2.15.0; 2026-01-02, load average 0.1 before." in text
    assert "| m | bf16 | 8 | 2.0 (1.5 to 3.2) | 2.0 (1.5 to 3.2) | **1.23** | 1.8 | 1.0e-06 |" in text
    assert "| **1.51** | 1.4 | 2.0 (1.5 to 3.2) | 0.91 | 12.3 |" in text
    assert "| m | 1024 x 1024 | ours | **120** | 119 to 121 | at most 250 |" in text
    assert "| m | 96 | 7.5 | **2.3 %** | at most 10 % |" in text
    assert "| 1.0e-06 | 3.0e-06 | 2.0e-06 | **no** |" in text


def test_the_report_in_the_repository_is_made_from_its_results(tmp_path: Path) -> None:
    shutil.copytree(BENCHMARKS / "results", tmp_path / "results")
    assert report.write_report(tmp_path).read_text() == (BENCHMARKS / "RESULTS.md").read_text()


def test_calls_alternate_after_a_warm_up() -> None:
    called: list[str] = []
    seconds = timing.alternate({name: lambda n=name: called.append(n) for name in "ab"}, rounds=3)
    assert "".join(called) == "ab" + "ab" * 3
    assert [len(values) for values in seconds.values()] == [3, 3]
    assert timing.summarise([0.001, 0.002, 0.004])["median"] == 2.0
    assert timing.summarise([0.001])["low"] == 1.0


def test_outputs_that_differ_stop_the_speed_benchmark() -> None:
    pair = {"timm": torch.nn.Identity(), "ours": torch.nn.ReLU()}
    assert speed.compare_outputs(pair, torch.ones(2, 3), "fp32") == 0.0
    with pytest.raises(SystemExit, match="refused: outputs differ by 1 in fp32"):
        speed.compare_outputs(pair, -torch.ones(2, 3), "fp32")
    with pytest.raises(SystemExit, match="refused"):
        speed.compare_outputs(pair, torch.full((2, 3), torch.nan), "fp32")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_high_water_mark_is_seen_and_set_back() -> None:
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from benchmarks.memory import read_memory\n"
        "early = bytearray(200_000_000); del early\n"
        "held = read_memory('VmRSS'); Path('/proc/self/clear_refs').write_text('5')\n"
        "late = bytearray(b'x') * 64_000_000; del late\n"
        "print(read_memory('VmHWM') - held)\n"
    )
    command = [sys.executable, "-c", program, str(BENCHMARKS.parent)]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 60e6 < peak < 80e6


def test_a_fields_absence_is_said() -> None:
    with pytest.raises(SystemExit, match="has no VmNothing"):
        memory.read_memory("VmNothing")


def test_the_share_is_read_as_the_command_prints_it() -> None:
    printed = f"convit: {Timings(images=24, failed=0, seconds=3.1, waiting_seconds=0.07)}"
    found = folder._SUMMARY.search(printed)
    assert found is not None
    assert found.groups() == ("24", "3.1", "7.7", "2.3")


def test_photographs_are_made(tmp_path: Path) -> None:
    folder.make_photographs(tmp_path, 6)
    assert len(list(tmp_path.glob("*.jpg"))) == 6


def test_the_machine_is_described() -> None:
    described = machine.describe_machine()
    assert described["versions"].keys() == {"convit", "torch", "timm"}
    assert described["device"] == described["cpu"]
    json.dumps(described)
