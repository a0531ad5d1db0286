"""What every benchmark does: name the machine, print each row as it comes, and save the rows for RESULTS.md."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from convit.benchmark import describe_machine, machine_lines
from convit.output.files import replace_file

RESULTS = Path(__file__).resolve().parent / "results"
Rows = list[dict[str, Any]]
CASES = {
    "targets": ("name",),
    "accuracy": ("model", "precision"),
    "startup": ("command",),
    "exports": ("model", "batch"),
    "runtime": ("program", "model"),
    "folder": ("model", "precision", "megapixels", "fast_decode"),
    "decoding": ("photographs", "model"),
    "vectors": ("vectors", "dim"),
    "large_index": ("vectors", "is_calculated"),
    "scale": ("model", "loop"),
    "parity": ("model", "grid", "precision", "what"),
}
"""The fields that tell the cases of a benchmark apart, of which rows of a later run replace those of an earlier one."""


def benchmark_parser(doc: str | None, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser whose help is the script's docstring, with --dry, and --rounds where it has a default."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="save no result")
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="timed calls of each, in turn")
    return parser


def keep_rows(benchmark: str, rows: Iterable[dict[str, Any]], *, dry: bool, device: str = "cpu") -> Rows:
    """Print each row, as JSON, and save it as soon as it is measured, as `save_result` does.

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
    found: Rows = []
    for row in rows:
        found.append(row)
        print(json.dumps(row), flush=True)
        if not dry:
            save_result(benchmark, machine, [row])
    return found


def saved_rows(benchmark: str, machine: dict[str, Any]) -> Rows:
    """What was kept of a benchmark on this device, each row with its date; none where nothing was."""
    path = _place(benchmark, machine)
    if not path.is_file():
        return []
    kept = json.loads(path.read_text(encoding="utf-8"))
    return _dated(kept["rows"], kept["machine"])


def save_result(benchmark: str, machine: dict[str, Any], rows: Rows) -> Path:
    """Keep rows under the names of benchmark, device and a CPU's widest instructions, and write RESULTS.md anew.

    They take the place of earlier rows of the same cases; rows of other cases stay.
    """
    from benchmarks.report import write_report

    path = _place(benchmark, machine)
    cases = _by_case(benchmark, saved_rows(benchmark, machine)) | _by_case(benchmark, _dated(rows, machine))
    result = {"benchmark": benchmark, "machine": machine, "rows": [row for each in cases.values() for row in each]}
    replace_file(path, f"{json.dumps(result, indent=1)}\n".encode())
    write_report(RESULTS.parent)
    return path


def _by_case(benchmark: str, rows: Rows) -> dict[tuple[Any, ...], Rows]:
    found: dict[tuple[Any, ...], Rows] = {}
    for row in rows:
        case = tuple(row.get(field) for field in CASES[benchmark.partition("-")[0]])
        found.setdefault(case, []).append(row)
    return found


def _dated(rows: Rows, machine: dict[str, Any]) -> Rows:
    when = {name: machine[name] for name in ("date", "load_average")}
    return [when | row for row in rows]


def _place(benchmark: str, machine: dict[str, Any]) -> Path:
    # virtual machines tell the maker alone: processors of one name may lack what others of it have
    widest = "" if "cuda" in machine else " ".join(machine["cpu_flags"][:1])
    slug = re.sub(r"[^a-z0-9]+", "-", f"{machine['device']} {widest}".lower().replace("(r)", "")).strip("-")
    return RESULTS / f"{benchmark}-{slug}.json"
