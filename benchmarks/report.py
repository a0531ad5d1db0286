"""Writes RESULTS.md from the last results of every benchmark: nothing in it is typed by hand.

python benchmarks/report.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.plan import plan
from convit.output.text import markdown_line

FOLDER = Path(__file__).resolve().parent
TITLES = {
    "targets": "Targets of speed and memory",
    "accuracy": "What each precision costs in accuracy",
    "startup": "Starting the command",
    "exports": "Exported files",
    "runtime": "Without PyTorch",
    "folder": "From files",
    "decoding": "Fast decoding",
    "vectors": "Searching embeddings",
    "large_index": "A large index",
    "scale": "Large jobs",
    "parity": "Parity of numbers",
}
PART_TITLES = {
    "infer": "Images per second",
    "compiled": "Images per second, everybody compiled",
    "eight-bit": "Eight bits",
    "train": "Training steps",
    "memory": "Memory for large images",
    "scaling": "Cost against tokens",
}
DEVICES = (
    ("cpu", "a CPU", "python benchmarks/targets.py"),
    ("amx", "a CPU with AMX", "python benchmarks/targets.py"),
    ("cuda", "an H100", "python benchmarks/targets.py --device cuda"),
)
Rows = list[dict[str, Any]]
Cells = dict[str, str]
"""What a row of a table says, by heading."""


def write_report(folder: Path = FOLDER) -> Path:
    """Write RESULTS.md from `folder`/results/*.json.

    Args:
        folder: where results and the report are kept.

    Returns:
        The report.
    """
    parts = ["# Results\n\nWritten by `benchmarks/report.py` from `results/*.json`; each script says what it measures."]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "results").glob("*.json"))]
    parts += _targets(found)
    for benchmark, title in TITLES.items():
        runs = [run for run in found if run["benchmark"] == benchmark]
        if runs:
            parts.append(f"## {title}\n\n`python benchmarks/{benchmark}.py`")
        parts += [f"{_machine(run['machine'])}\n\n{markdown(_table(run))}" for run in runs]
    path = folder / "RESULTS.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _table(run: dict[str, Any]) -> list[Cells]:
    """A run's rows; where some were kept of another day, with their dates."""
    cells = [TABLES[run["benchmark"]](row) for row in run["rows"]]
    days = [row.get("date", run["machine"]["date"])[:10] for row in run["rows"]]
    return cells if len(set(days)) < 2 else [each | {"measured on": day} for each, day in zip(cells, days, strict=True)]


def _targets(found: Rows) -> list[str]:
    """Every part's newest run on each device, and what has no run yet."""
    parts = [
        f"## {TITLES['targets']}\n\n`python benchmarks/targets.py`. Times are medians and quartiles of a batch; ours "
        "is `convit.optimize`, in training the model itself; a bold ratio says how many times as fast ours is, and "
        "a goal is met where the quartiles reach it too. What eight bits cost in accuracy is measured by `convit "
        "evaluate`."
    ]
    for part, title in PART_TITLES.items():
        runs = [run for run in found if run["benchmark"] == f"targets-{part}"]
        tables = [_machine(run["machine"]) + "\n\n" + "\n\n".join(_part_tables(run["rows"])) for run in runs]
        if tables:
            parts.append("\n\n".join([f"### {title}", *tables]))
    for device, name, command in DEVICES:
        if missing := _not_measured(device, found):
            parts.append(f"### Not measured on {name}\n\n`{command}` fills these in.\n\n{markdown(missing)}")
    return parts


def _part_tables(rows: Rows) -> list[str]:
    judged = [_judged(row) for row in rows if "what" in row]
    sizes = [_size(row) for row in rows if "tokens" in row]
    tables = [markdown(each) for each in (judged, sizes) if each]
    return tables + [f"{row['name']}: not measured: {row['error']}" for row in rows if "error" in row]


def _judged(row: dict[str, Any]) -> Cells:
    return {
        "case": row["name"],
        "what": row["what"],
        "found": "" if row["found"] is None else f"**{row['found']:.3g}** {row['unit']}",
        "target": goal(row["at_most"], row["target"], row["unit"]),
        "met": _yes(is_met(row)) or "not measured",
        "ours, ms": _side(row["ours"]),
        "theirs, ms": _side(row["theirs"]),
        "ours computed in": "" if row["ours"] is None else f"{row['ours']['computed_in']}, {row['ours']['backend']}",
        "outputs differ by": (
            "" if row["ours"] is None or row["ours"]["difference"] is None else f"{row['ours']['difference']:.1e}"
        ),
        # runs of an earlier day were kept as a whole, and have both in the line above the table
        "measured on, load before": f"{row['date'][:10]}, {row['load_average']}" if "date" in row else "",
    }


def _size(row: dict[str, Any]) -> Cells:
    return {
        "image": row["name"],
        "patches": str(row["tokens"]),
        "GMACs executed": f"{row['gmacs']:.4g}",
        "of them position": f"{row['position_gmacs']:.3g}",
        "ms": _time(row["step_ms"]),
        "memory over the loaded model, MB": "" if row["memory_mb"] is None else f"{row['memory_mb']:.0f}",
    }


def _side(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    memory = "" if row["memory_mb"] is None else f", {row['memory_mb']:.0f} MB"
    return f"{_time(row['step_ms'])}{memory}"


def goal(at_most: bool, bound: float, unit: str) -> str:
    """A target in words."""
    return f"{'at most' if at_most else 'at least'} {bound:g} {unit}"


def is_met(row: dict[str, Any]) -> bool | None:
    """Whether a measured target was reached; None where nothing was found.

    What takes time must be fast enough in the upper quartile of our times and the lower one of theirs.
    """
    found, ours, theirs = row["found"], row["ours"], row["theirs"]
    if found is None or row["at_most"]:
        return None if found is None else found <= row["target"]
    for side, quartile in ((ours, "high"), (theirs, "low")):
        if side is not None:
            share = side["step_ms"]["median"] / side["step_ms"][quartile]
            found *= share if side is ours else 1 / share
    return found >= row["target"]


def _not_measured(device: str, found: Rows) -> list[Cells]:
    """The targets of a device of which no device of its kind has a result; with "amx" those that AMX is for."""

    def is_one(machine: dict[str, Any]) -> bool:
        return ("cuda" in machine) == (device == "cuda") and (device != "amx" or "amx_bf16" in machine["cpu_flags"])

    runs = [run for run in found if run["benchmark"].startswith("targets-") and is_one(run["machine"])]
    known = {(run["benchmark"], row["name"]) for run in runs for row in run["rows"]}
    measurements = plan(device.replace("amx", "cpu"), amx=device == "amx")
    return [
        {
            "case": measurement.name,
            "what": target.what,
            "target": goal(target.at_most, target.bound, target.unit),
        }
        for measurement in measurements
        if (f"targets-{measurement.part}", measurement.name) not in known
        and (device != "amx" or {case.precision for case in measurement.cases} <= {"bf16", "int8"})
        for target in measurement.targets
    ]


def _machine(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{package} {number}" for package, number in machine["versions"].items())
    return (
        f"**{machine['device']}**, {machine['threads']} threads ({' '.join(machine['cpu_flags'])}); Python "
        f"{machine['python']}, {versions}; {machine['date'][:10]}, load average {machine['load_average']} before."
    )


def markdown(rows: Iterable[Cells]) -> str:
    """A table of at least one row, in Markdown."""
    rows = list(rows)
    return "\n".join(map(markdown_line, [rows[0], ["---"] * len(rows[0]), *(row.values() for row in rows)]))


def _time(times: dict[str, float]) -> str:
    return f"{times['median']:.1f} ({times['low']:.1f} to {times['high']:.1f})"


def _yes(met: bool | None) -> str:
    return "" if met is None else "yes" if met else "**no**"


def _accuracy(row: dict[str, Any]) -> Cells:
    return {
        "model": row["model"],
        "precision": row["precision"],
        "between products": row["computed_in"],
        "images": str(row["images"]),
        "top-1, %": f"{row['top1']:.2f}",
        "top-5, %": f"{row['top5']:.2f}",
        "loss": f"{row['loss']:.4f}",
        "points lost": f"**{row['lost']:.2f}**",
        "target": "" if row["target"] is None else f"at most {row['target']:g}",
    }


def _startup(row: dict[str, Any]) -> Cells:
    return {
        "command": f"`{row['command']}`",
        "ms: median (quartiles)": _time(row["convit_ms"]),
        "against": f"`{row['libraries']}`",
        "ms": _time(row["libraries_ms"]),
        "ratio": f"**{row['ratio']:.2f}**",
        "target": f"at most {row['target']:g} x" + (f" + {row['extra_ms']:.0f} ms" if row["extra_ms"] else ""),
        "met": _yes(row["met"]),
        "imports torch": "yes" if row["imports_torch"] else "no",
    }


def _runtime(row: dict[str, Any]) -> Cells:
    return {
        "program": row["program"],
        "model": f"`{row['model']}`",
        "installed, MiB": f"{row['installed_mib']:,.0f}",
        "CPU to the first label, s": f"**{row['cpu_seconds']:.2f}**",
        "memory, MB": f"{row['memory_mb']:.0f}",
        "targets": " and ".join(f"{most:g}" for most in (row["targets"] or {}).values()),
        "met": _yes(row["met"]) if row["targets"] else "",
    }


def _scale(row: dict[str, Any]) -> Cells:
    memory = zip(row["images"], row["peak_mb"], strict=True)
    return {
        "model": f"`{row['model']}`",
        "embed": row["loop"],
        "CPU per image, ms": f"{row['cpu_ms_per_image']:.2f}",
        "images per CPU second, of the plain loop's": f"**{row['of_plain']:.1%}**",
        "target": f"at least {row['target']:.0%}" if row["target"] else "",
        "memory, MB": " and ".join(f"{mb:,} ({images:,} images)" for images, mb in memory),
    }


def _large_index(row: dict[str, Any]) -> Cells:
    def seconds(name: str) -> str:
        return f"{row[f'{name}_s']:,.0f} ({row[f'{name}_cpu_s']:,.0f})"

    cells = {
        "vectors": f"{row['vectors']:,}, calculated",
        "taken in, s (CPU)": seconds("add"),
        "index built, s (CPU)": seconds("build"),
        "added later, s (CPU)": "",
        "search, ms": "",
        "recall@10": "",
        "memory, GB": f"{row['peak_gb']:.1f}",
        "on disk, GB": f"{row['gb']:.1f}",
    }
    if row.get("is_calculated"):
        return cells
    return cells | {
        "vectors": f"{row['vectors']:,} x {row['dim']}, fp16",
        "index built, s (CPU)": f"**{seconds('build')}**, at most {row['targets']['minutes'] * 60:,}",
        "added later, s (CPU)": f"{row['more']:,}: {seconds('more')}",
        "search, ms": f"{1000 * row['search_s'] / row['queries']:.0f}",
        "recall@10": f"**{row['recall']:.3f}**, at least {row['targets']['recall']:g}",
        "memory, GB": f"**{row['peak_gb']:.1f}**, at most {row['targets']['gb']:g}",
    }


def _exports(row: dict[str, Any]) -> Cells:
    return {
        "model": f"`{row['model']}`",
        "batch": str(row["batch"]),
        "ours, ms": _time(row["ours_ms"]),
        "theirs": row["theirs"],
        "ms": _time(row["theirs_ms"]),
        "ratio": f"**{row['ratio']:.2f}**",
        "target": "" if row["target"] is None else f"at least {row['target']:g} x, best batch",
        "met": _yes(row["met"]),
    }


def _decoding(row: dict[str, Any]) -> Cells:
    same = row["same_top1"]
    return {
        "photographs": row["photographs"],
        "for": f"{row['model']}, {row['size']}",
        "reduced": f"{row['reduced']} of {row['images']}",
        "ready, ms: full": _time(row["ready_full_ms"]),
        "fast": _time(row["ready_fast_ms"]),
        "ratio": f"**{row['speedup']:.2f}**",
        "error, levels: mean": f"{row['mean_error']:.3f}",
        "worst image": f"{row['worst_mean_error']:.3f}",
        "same class": "weights not present" if same is None else f"{same} of {row['images']}",
    }


def _folder(row: dict[str, Any]) -> Cells:
    speeds = row["images_per_second"].items()
    return {
        "model": f"`{row['model']}`",
        "computed in": row["precision"],
        "megapixels": f"{row['megapixels']}{', fast decoding' * row['fast_decode']}",
        "CPU ms an image: reading": f"{row['reading_ms']:.1f}",
        "computing": f"{row['model_ms']:.1f}",
        "images/s at best": f"{row['possible']:.1f} on {row['cores']} cores",
        "images/s by reading threads": ", ".join(f"{speed:.1f} ({count})" for count, speed in speeds),
        "share": f"**{row['share_percent']:.1f} %**",
        "target": f"at least {row['target_percent']:g} % with {row['workers']}",
        "met": _yes(row["share_percent"] >= row["target_percent"]),
    }


def _vectors(row: dict[str, Any]) -> Cells:
    return {
        "vectors": f"{row['vectors']:,} x {row['dim']}",
        "index": row.get("index", "HNSW, which is no longer built"),
        "stored, s": f"{row['store_s']:.1f}",
        "index built, s": f"{row['build_s']:.0f}",
        "exact search, ms: median (quartiles)": _time(row["exact_ms"]),
        "approximate, ms": _time(row["approximate_ms"]),
        "recall@10": f"**{row['recall']:.3f}**",
        "target": f"at least {row['target']:g}",
    }


def _parity(row: dict[str, Any]) -> Cells:
    return {
        "model": row["model"],
        "grid": row["grid"],
        "precision": row["precision"],
        "of": row["what"],
        "against": row["against"],
        "its error": f"{row['their_error']:.1e}",
        "our error": f"{row['our_error']:.1e}",
        "limit": f"{row['limit']:.1e}",
        "holds": _yes(row["holds"]),
    }


TABLES: dict[str, Callable[[dict[str, Any]], Cells]] = {
    "accuracy": _accuracy,
    "startup": _startup,
    "exports": _exports,
    "runtime": _runtime,
    "folder": _folder,
    "decoding": _decoding,
    "vectors": _vectors,
    "large_index": _large_index,
    "scale": _scale,
    "parity": _parity,
}

if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sys.stdout.write(f"{write_report()}\n")
