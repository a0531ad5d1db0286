"""Where a benchmark's results are kept, and how the machine is named in front of them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from convit.benchmark.running import describe_machine, machine_lines

__all__ = ["RESULTS", "describe_machine", "print_machine", "save_result", "saved_rows"]

RESULTS = Path(__file__).resolve().parent / "results"


def print_machine(machine: dict[str, Any]) -> None:
    """Say in two lines what `describe_machine` gave."""
    for line in machine_lines(machine):
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def saved_rows(benchmark: str, machine: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a benchmark's last run on this device; none where there was none."""
    path = _place(benchmark, machine)
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []


def save_result(benchmark: str, machine: dict[str, Any], rows: list[dict[str, Any]]) -> Path:
    """Keep a run's rows under the benchmark's and the device's name, and write RESULTS.md anew."""
    from benchmarks.report import write_report

    RESULTS.mkdir(exist_ok=True)
    path = _place(benchmark, machine)
    path.write_text(json.dumps({"benchmark": benchmark, "machine": machine, "rows": rows}, indent=1) + "\n")
    write_report(RESULTS.parent)
    return path


def _place(benchmark: str, machine: dict[str, Any]) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", machine["device"].lower().replace("(r)", "")).strip("-")
    return RESULTS / f"{benchmark}-{slug}.json"
