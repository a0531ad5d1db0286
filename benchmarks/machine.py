"""What every benchmark does: name the machine, print each row as it comes, and save the rows for RESULTS.md."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from convit.benchmark import describe_machine, machine_lines

RESULTS = Path(__file__).resolve().parent / "results"


def benchmark_parser(doc: str | None, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser whose help is the script's docstring, with --dry, and --rounds where it has a default."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="save no result")
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="timed calls of each, in turn")
    return parser


def keep_rows(
    benchmark: str, rows: Iterable[dict[str, Any]], *, dry: bool, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Print each row, as JSON, and save it as soon as it is measured.

    Args:
        benchmark: its name in results/ and in `report.TITLES`.
        rows: measured one after the other as they are asked for.
        dry: saves none.
        device: where it is measured.

    Returns:
        The rows.
    """
    machine = describe_machine(device)
    print(*machine_lines(machine), sep="\n", flush=True)
    found: list[dict[str, Any]] = []
    for row in rows:
        found.append(row)
        print(json.dumps(row), flush=True)
        if not dry:
            save_result(benchmark, machine, found)
    return found


def saved_rows(benchmark: str, machine: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a benchmark's last run on this device; none where there was none."""
    path = _place(benchmark, machine)
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []


def save_result(benchmark: str, machine: dict[str, Any], rows: list[dict[str, Any]]) -> Path:
    """Keep a run's rows under the names of benchmark, device and a CPU's widest instructions; write RESULTS.md anew."""
    from benchmarks.report import write_report

    RESULTS.mkdir(exist_ok=True)
    path = _place(benchmark, machine)
    path.write_text(json.dumps({"benchmark": benchmark, "machine": machine, "rows": rows}, indent=1) + "\n")
    write_report(RESULTS.parent)
    return path


def _place(benchmark: str, machine: dict[str, Any]) -> Path:
    # virtual machines tell the maker alone: processors of one name may lack what others of it have
    widest = "" if "cuda" in machine else " ".join(machine["cpu_flags"][:1])
    slug = re.sub(r"[^a-z0-9]+", "-", f"{machine['device']} {widest}".lower().replace("(r)", "")).strip("-")
    return RESULTS / f"{benchmark}-{slug}.json"
