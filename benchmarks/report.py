"""Writes RESULTS.md from the last results of every benchmark: nothing in it is typed by hand.

python benchmarks/report.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.plan import plan

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
Table = tuple[str, list[tuple[str, ...]]]
"""Headings with " | " between them, and as many cells of each row."""


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
        parts += [f"{_machine(run['machine'])}\n\n{_markdown(TABLES[benchmark](run['rows']))}" for run in runs]
    path = folder / "RESULTS.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


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
        missing = _not_measured(device, found)
        if missing[1]:
            parts.append(f"### Not measured on {name}\n\n`{command}` fills these in.\n\n{_markdown(missing)}")
    return parts


def _part_tables(rows: Rows) -> list[str]:
    judged = [row for row in rows if "what" in row]
    sizes = [row for row in rows if "tokens" in row]
    tables = [_markdown(_judged(judged))] if judged else []
    tables += [_markdown(_sizes(sizes))] if sizes else []
    return tables + [f"{row['name']}: not measured: {row['error']}" for row in rows if "error" in row]


def _judged(rows: Rows) -> Table:
    heads = (
        "case | what | found | target | met | ours, ms | theirs, ms | ours computed in | outputs differ by | "
        "measured on, load before"
    )
    return heads, [
        (
            row["name"],
            row["what"],
            "" if row["found"] is None else f"**{row['found']:.3g}** {row['unit']}",
            _goal(row["at_most"], row["target"], row["unit"]),
            "not measured" if (met := is_met(row)) is None else "yes" if met else "**no**",
            _side(row["ours"]),
            _side(row["theirs"]),
            "" if row["ours"] is None else f"{row['ours']['computed_in']}, {row['ours']['backend']}",
            "" if row["ours"] is None or row["ours"]["difference"] is None else f"{row['ours']['difference']:.1e}",
            # runs of an earlier day were kept as a whole, and have both in the line above the table
            f"{row['date'][:10]}, {row['load_average']}" if "date" in row else "",
        )
        for row in rows
    ]


def _sizes(rows: Rows) -> Table:
    heads = "image | patches | GMACs executed | of them position | ms | memory over the loaded model, MB"
    return heads, [
        (
            row["name"],
            str(row["tokens"]),
            f"{row['gmacs']:.4g}",
            f"{row['position_gmacs']:.3g}",
            _time(row["step_ms"]),
            "" if row["memory_mb"] is None else f"{row['memory_mb']:.0f}",
        )
        for row in rows
    ]


def _side(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    memory = "" if row["memory_mb"] is None else f", {row['memory_mb']:.0f} MB"
    return f"{_time(row['step_ms'])}{memory}"


def _goal(at_most: bool, bound: float, unit: str) -> str:
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


def _not_measured(device: str, found: Rows) -> Table:
    """The targets of a device of which no device of its kind has a result; with "amx" those that AMX is for."""

    def is_one(machine: dict[str, Any]) -> bool:
        return ("cuda" in machine) == (device == "cuda") and (device != "amx" or "amx_bf16" in machine["cpu_flags"])

    runs = [run for run in found if run["benchmark"].startswith("targets-") and is_one(run["machine"])]
    known = {(run["benchmark"], row["name"]) for run in runs for row in run["rows"]}
    measurements = plan(device.replace("amx", "cpu"), amx=device == "amx")
    return "case | what | target", [
        (measurement.name, target.what, _goal(target.at_most, target.bound, target.unit))
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


def _markdown(table: Table) -> str:
    heads, rows = table
    lines = [heads, " | ".join("---" for _ in heads.split(" | ")), *map(" | ".join, rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _time(times: dict[str, float]) -> str:
    return f"{times['median']:.1f} ({times['low']:.1f} to {times['high']:.1f})"


def _accuracy(rows: Rows) -> Table:
    heads = "model | precision | between products | images | top-1, % | top-5, % | loss | points lost | target"
    return heads, [
        (
            row["model"],
            row["precision"],
            row["computed_in"],
            str(row["images"]),
            f"{row['top1']:.2f}",
            f"{row['top5']:.2f}",
            f"{row['loss']:.4f}",
            f"**{row['lost']:.2f}**",
            "" if row["target"] is None else f"at most {row['target']:g}",
        )
        for row in rows
    ]


def _startup(rows: Rows) -> Table:
    heads = "command | ms: median (quartiles) | against | ms | ratio | target | met | imports torch"
    return heads, [
        (
            f"`{row['command']}`",
            _time(row["convit_ms"]),
            f"`{row['libraries']}`",
            _time(row["libraries_ms"]),
            f"**{row['ratio']:.2f}**",
            f"at most {row['target']:g} x" + (f" + {row['extra_ms']:.0f} ms" if row["extra_ms"] else ""),
            "yes" if row["met"] else "**no**",
            "yes" if row["imports_torch"] else "no",
        )
        for row in rows
    ]


def _runtime(rows: Rows) -> Table:
    heads = "program | model | installed, MiB | CPU to the first label, s | memory, MB | targets | met"
    return heads, [
        (
            row["program"],
            f"`{row['model']}`",
            f"{row['installed_mib']:,.0f}",
            f"**{row['cpu_seconds']:.2f}**",
            f"{row['memory_mb']:.0f}",
            " and ".join(f"{most:g}" for most in (row["targets"] or {}).values()),
            ("yes" if row["met"] else "**no**") if row["targets"] else "",
        )
        for row in rows
    ]


def _scale(rows: Rows) -> Table:
    heads = "model | embed | CPU per image, ms | images per CPU second, of the plain loop's | target | memory, MB"
    return heads, [
        (
            f"`{row['model']}`",
            row["loop"],
            f"{row['cpu_ms_per_image']:.2f}",
            f"**{row['of_plain']:.1%}**",
            f"at least {row['target']:.0%}" if row["target"] else "",
            " and ".join(f"{mb:,} ({n:,} images)" for n, mb in zip(row["images"], row["peak_mb"], strict=True)),
        )
        for row in rows
    ]


def _large_index(rows: Rows) -> Table:
    heads = (
        "vectors | taken in, s (CPU) | index built, s (CPU) | added later, s (CPU) | search, ms | "
        "recall@10 | memory, GB | on disk, GB"
    )

    def seconds(row: dict[str, Any], name: str) -> str:
        return f"{row[f'{name}_s']:,.0f} ({row[f'{name}_cpu_s']:,.0f})"

    return heads, [
        (
            f"{row['vectors']:,}, calculated",
            seconds(row, "add"),
            seconds(row, "build"),
            *("",) * 3,
            f"{row['peak_gb']:.1f}",
            f"{row['gb']:.1f}",
        )
        if row.get("is_calculated")
        else (
            f"{row['vectors']:,} x {row['dim']}, fp16",
            seconds(row, "add"),
            f"**{seconds(row, 'build')}**, at most {row['targets']['minutes'] * 60:,}",
            f"{row['more']:,}: {seconds(row, 'more')}",
            f"{1000 * row['search_s'] / row['queries']:.0f}",
            f"**{row['recall']:.3f}**, at least {row['targets']['recall']:g}",
            f"**{row['peak_gb']:.1f}**, at most {row['targets']['gb']:g}",
            f"{row['gb']:.1f}",
        )
        for row in rows
    ]


def _exports(rows: Rows) -> Table:
    heads = "model | batch | ours, ms | theirs | ms | ratio | target | met"
    return heads, [
        (
            f"`{row['model']}`",
            str(row["batch"]),
            _time(row["ours_ms"]),
            row["theirs"],
            _time(row["theirs_ms"]),
            f"**{row['ratio']:.2f}**",
            "" if row["target"] is None else f"at least {row['target']:g} x, best batch",
            "" if row["target"] is None else "yes" if row["met"] else "**no**",
        )
        for row in rows
    ]


def _decoding(rows: Rows) -> Table:
    heads = (
        "photographs | for | reduced | ready, ms: full | fast | ratio | error, levels: mean | worst image | same class"
    )
    return heads, [
        (
            row["photographs"],
            f"{row['model']}, {row['size']}",
            f"{row['reduced']} of {row['images']}",
            _time(row["ready_full_ms"]),
            _time(row["ready_fast_ms"]),
            f"**{row['speedup']:.2f}**",
            f"{row['mean_error']:.3f}",
            f"{row['worst_mean_error']:.3f}",
            "weights not present" if row["same_top1"] is None else f"{row['same_top1']} of {row['images']}",
        )
        for row in rows
    ]


def _folder(rows: Rows) -> Table:
    heads = "model | computed in | megapixels | CPU ms an image: reading | model | images/s at best"
    heads += " | images/s by reading threads | share | target | met"
    return heads, [
        (
            f"`{row['model']}`",
            row["precision"],
            f"{row['megapixels']}{', fast decoding' * row['fast_decode']}",
            f"{row['reading_ms']:.1f}",
            f"{row['model_ms']:.1f}",
            f"{row['possible']:.1f} on {row['cores']} cores",
            ", ".join(f"{speed:.1f} ({count})" for count, speed in row["images_per_second"].items()),
            f"**{row['share_percent']:.1f} %**",
            f"at least {row['target_percent']:g} % with {row['workers']}",
            "yes" if row["share_percent"] >= row["target_percent"] else "**no**",
        )
        for row in rows
    ]


def _vectors(rows: Rows) -> Table:
    heads = (
        "vectors | index | stored, s | index built, s | exact search, ms: median (quartiles) | approximate, ms | "
        "recall@10 | target"
    )
    return heads, [
        (
            f"{row['vectors']:,} x {row['dim']}",
            row.get("index", "HNSW, which is no longer built"),
            f"{row['store_s']:.1f}",
            f"{row['build_s']:.0f}",
            _time(row["exact_ms"]),
            _time(row["approximate_ms"]),
            f"**{row['recall']:.3f}**",
            f"at least {row['target']:g}",
        )
        for row in rows
    ]


def _parity(rows: Rows) -> Table:
    heads = "model | grid | precision | of | against | its error | our error | limit | holds"
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
