"""What every benchmark does: name the machine, print each row as it comes, and save the rows for RESULTS.md."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from convit.benchmark.running import describe_machine, machine_lines

__all__ = [
    "RESULTS",
    "benchmark_parser",
    "describe_machine",
    "keep_rows",
    "print_machine",
    "save_result",
    "saved_rows",
]

RESULTS = Path(__file__).resolve().parent / "results"


def benchmark_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the script's docstring, with --dry."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="save no result")
    return parser


def keep_rows(
    benchmark: str,
    rows: Iterable[dict[str, Any]],
    describe: Callable[[dict[str, Any]], str] = json.dumps,
    *,
    dry: bool,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Print and save each row as soon as it is measured.

    Args:
        benchmark: its name in results/ and in `report.TITLES`.
        rows: measured one after the other as they are asked for.
        describe: gives a row as one line.
        dry: saves none.
        device: where it is measured.

    Returns:
        The rows.
    """
    machine = describe_machine(device)
    print_machine(machine)
    found: list[dict[str, Any]] = []
    for row in rows:
        found.append(row)
        sys.stdout.write(f"{describe(row)}\n")
        sys.stdout.flush()
        if not dry:
            save_result(benchmark, machine, found)
    return found


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
