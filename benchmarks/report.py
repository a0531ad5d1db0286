"""Writes RESULTS.md from the last results of every benchmark: nothing in it is typed by hand.

python benchmarks/report.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
TITLES = {
    "speed": "Speed against timm",
    "training": "Training steps against timm",
    "memory": "Memory at 1024 x 1024",
    "startup": "Starting the command",
    "folder": "Waiting for data",
    "parity": "Parity of numbers",
}
Rows = list[dict[str, Any]]
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def write_report(folder: Path = FOLDER) -> Path:
    """Write RESULTS.md from `folder`/results/*.json.

    Args:
        folder: where results and the report are kept.

    Returns:
        The report.
    """
    parts = ["# Results\n\nWritten by `benchmarks/report.py` from `results/*.json`; each script says what it measures."]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "results").glob("*.json"))]
    for benchmark, title in TITLES.items():
        runs = [run for run in found if run["benchmark"] == benchmark]
        if runs:
            parts.append(f"## {title}\n\n`python benchmarks/{benchmark}.py`")
        parts += [f"{_machine(run['machine'])}\n\n{_markdown(TABLES[benchmark](run['rows']))}" for run in runs]
    path = folder / "RESULTS.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _machine(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{package} {number}" for package, number in machine["versions"].items())
    return (
        f"**{machine['device']}**, {machine['threads']} threads ({' '.join(machine['cpu_flags'])}); Python "
        f"{machine['python']}, {versions}; {machine['date'][:10]}, load average {machine['load_average']} before."
    )


def _markdown(table: Table) -> str:
    heads, rows = table
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _time(times: dict[str, float]) -> str:
    return f"{times['median']:.1f} ({times['low']:.1f} to {times['high']:.1f})"


def _speed(rows: Rows) -> Table:
    heads = (
        "model",
        "precision",
        "batch",
        "timm, ms: median (quartiles)",
        "ours, ms",
        "ratio",
        "target",
        "outputs differ by",
    )
    return heads, [
        (
            row["model"],
            row["precision"],
            str(row["batch"]),
            _time(row["timm_ms"]),
            _time(row["ours_ms"]),
            f"**{row['ratio']:.2f}**",
            "" if row["target"] is None else f"{row['target']:g}",
            f"{row['difference']:.1e}",
        )
        for row in rows
    ]


def _training(rows: Rows) -> Table:
    heads = (
        "model",
        "precision",
        "ours computed in",
        "batch",
        "timm, ms a step: median (quartiles)",
        "ours, ms",
        "ratio",
        "target",
        "timm's DeiT of the size, ms",
        "ratio",
        "our images/s",
    )
    return heads, [
        (
            row["model"] + (", compiled" if row["compiled"] else ""),
            row["precision"],
            row["computed_in"],
            str(row["batch"]),
            _time(row["timm_ms"]),
            _time(row["ours_ms"]),
            f"**{row['ratio']:.2f}**",
            "" if row["target"] is None else f"{row['target']:g}",
            _time(row["deit_ms"]),
            f"{row['ratio_to_deit']:.2f}",
            f"{row['images_per_second']:.1f}",
        )
        for row in rows
    ]


def _memory(rows: Rows) -> Table:
    heads = ("model", "image", "by", "peak over the loaded model, MB", "range", "target")
    return heads, [
        (
            row["model"],
            f"{row['size']} x {row['size']}",
            row["by"],
            f"**{row['peak_mb']:.0f}**",
            f"{row['lowest_mb']:.0f} to {row['highest_mb']:.0f}",
            "" if row["target_mb"] is None else f"at most {row['target_mb']:.0f}",
        )
        for row in rows
    ]


def _startup(rows: Rows) -> Table:
    heads = ("`convit --help`, ms: median (quartiles)", "`import typer, rich`, ms", "ratio", "target", "imports torch")
    return heads, [
        (
            _time(row["convit_ms"]),
            _time(row["libraries_ms"]),
            f"**{row['ratio']:.2f}**",
            f"at most {row['target']:g}",
            "yes" if row["imports_torch"] else "no",
        )
        for row in rows
    ]


def _folder(rows: Rows) -> Table:
    heads = ("model", "images", "images/s", "waiting for data", "target")
    return heads, [
        (
            row["model"],
            str(row["images"]),
            f"{row['images_per_second']:.1f}",
            f"**{row['waiting_percent']:.1f} %**",
            f"at most {row['target_percent']:g} %",
        )
        for row in rows
    ]


def _parity(rows: Rows) -> Table:
    heads = ("model", "grid", "precision", "of", "against", "its error", "our error", "limit", "holds")
    return heads, [
        (
            row["model"],
            row["grid"],
            row["precision"],
            row["what"],
            row["against"],
            f"{row['their_error']:.1e}",
            f"{row['our_error']:.1e}",
            f"{row['limit']:.1e}",
            "yes" if row["holds"] else "**no**",
        )
        for row in rows
    ]


TABLES: dict[str, Callable[[Rows], Table]] = {
    "speed": _speed,
    "training": _training,
    "memory": _memory,
    "startup": _startup,
    "folder": _folder,
    "parity": _parity,
}

if __name__ == "__main__":
    sys.stdout.write(f"{write_report()}\n")
