"""Every target of speed and memory that this device can show: measured, judged, and kept.

Measures through `convit.benchmark`: everybody takes turns in one process (for memory: processes take turns), the same
models have the same weights, and their outputs are compared before they are timed. Prints each number with its target
and whether it was met, and keeps each measurement as soon as it is done, in the place of its former result on the same
device. What the command's start takes is `startup.py`'s, accuracy is `convit evaluate`'s.

    python benchmarks/targets.py                        # everything on the CPU, on 2 threads: hours
    python benchmarks/targets.py --device cuda          # everything on a GPU
    python benchmarks/targets.py --only memory scaling --models convit_tiny --rounds 5 --dry
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import benchmark_parser, save_result
from benchmarks.plan import MODELS, PARTS, Measurement, Rows, Target, best, plan
from benchmarks.report import goal, is_met
from convit.benchmark import Case, Row, machine_lines, measure, start_report
from convit.model.processor import has_amx


def judge(measurement: Measurement, target: Target, rows: Rows) -> dict[str, Any]:
    """What is kept of a target: what was reached, by what times, and whether that is enough."""
    found = target.value(rows)
    ours, theirs = best(rows, "ours"), best(rows, target.against or "")
    outcome = {
        "name": measurement.name,
        "what": target.what,
        "unit": target.unit,
        "found": None if found is None else round(found, 3),
        "target": target.bound,
        "at_most": target.at_most,
        "ours": None if ours is None else summary(ours),
        "theirs": None if theirs is None else summary(theirs),
    }
    return {**outcome, "met": is_met(outcome)}


def summary(row: Row) -> dict[str, Any]:
    """The numbers of a row that a reader of a result wants beside it."""
    names = ("candidate", "computed_in", "backend", "batch", "step_ms", "images_per_second", "memory_mb", "difference")
    return {name: getattr(row, name) for name in names}


def scaling_rows(rows: Rows) -> list[dict[str, Any]]:
    """How cost grows with the image: one line per size."""
    return [
        {
            "name": f"{row.height} x {row.width}",
            "tokens": row.cost.tokens,
            "gmacs": round((row.cost.executed or 0) / 1e9, 4),
            "position_gmacs": round((row.cost.position or 0) / 1e9, 5),
            "step_ms": row.step_ms,
            "memory_mb": row.memory_mb,
        }
        for row in rows
    ]


def describe(outcome: dict[str, Any]) -> str:
    """One line of what came out."""
    what = f"{outcome['name']}: {outcome['what']}"
    wanted = goal(outcome["at_most"], outcome["target"], outcome["unit"])
    if outcome["found"] is None:
        return f"{what}: not measured ({wanted})"
    return f"{what}: {outcome['found']:.3g} {outcome['unit']} ({wanted}): {'met' if outcome['met'] else 'MISSED'}"


def run_part(
    measurements: Sequence[Measurement],
    say: Callable[[str], object],
    measuring: Callable[[Case], list[Row]] = measure,
) -> list[dict[str, Any]]:
    """Measure and judge a part.

    Args:
        measurements: of one part.
        say: is told each outcome as it comes.
        measuring: measures a case.

    Returns:
        What is kept of it: outcomes, and for "scaling" its table. A measurement that fails is kept with its error.
    """
    kept: list[dict[str, Any]] = []
    for measurement in measurements:
        rows: list[Row] = []
        try:
            for case in measurement.cases:
                case.check()
                rows += measuring(case)
        except (ValueError, ImportError, MemoryError, RuntimeError) as error:
            # one that cannot be measured here (a missing package, too little memory) must not cost the others
            message = " ".join(str(error).split()) or type(error).__name__
            kept.append({"name": measurement.name, "error": message})
            say(f"{measurement.name}: {message}")
        outcomes = [judge(measurement, target, rows) for target in measurement.targets] if rows else []
        for outcome in outcomes:
            say(describe(outcome))
        kept += outcomes
        if measurement.part == "scaling":
            kept += scaling_rows(rows)
    return kept


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 and so on")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME", help=", ".join(MODELS)
    )
    parser.add_argument("--rounds", type=int, help="timed calls of each; else as each part has it, 5 at least")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    given = parser.parse_args()
    amx = given.device == "cpu" and has_amx()
    everything = plan(given.device, given.models, given.rounds, given.threads, amx=amx)
    for part in [part for part in PARTS if part in given.only]:
        measurements = [measurement for measurement in everything if measurement.part == part]
        if not measurements:
            continue
        print(f"\n{part}")
        for measurement in measurements:
            machine = start_report(measurement.cases[0]).machine
            if measurement is measurements[0]:
                print(*machine_lines(machine), sep="\n", flush=True)
            rows = run_part([measurement], lambda line: print(line, flush=True))
            if not given.dry:
                save_result(f"targets-{part}", machine, rows)


if __name__ == "__main__":
    main()
