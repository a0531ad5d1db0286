"""One case after the other, and what is kept of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from convit.benchmark.cases import Case
from convit.benchmark.explaining import Explanation, explain
from convit.benchmark.machine import describe_machine
from convit.benchmark.rows import Row
from convit.output.files import write_file
from convit.output.text import json_text

JSON_NAME = "results.json"
# imported when they are asked for: training needs an extra
_MEASURES = {
    "infer": ("throughput", "measure_throughput"),
    "latency": ("throughput", "measure_throughput"),
    "train": ("training", "measure_training"),
    "memory": ("memory", "measure_memory"),
}


@dataclass
class Report:
    """What a benchmark has found so far.

    Attributes:
        machine: what it ran on, see `describe_machine`.
        rows: of all cases, in order.
        explanations: of the cases that were explained.
    """

    machine: dict[str, Any]
    rows: list[Row] = field(default_factory=list[Row])
    explanations: list[Explanation] = field(default_factory=list[Explanation])

    def write(self, folder: Path, *, overwrite: bool = False) -> Path:
        """Write results.json into a folder, which is made where there is none.

        Args:
            folder: where.
            overwrite: whether an existing file may be replaced.

        Returns:
            The file.

        Raises:
            FileExistsError: the file exists and `overwrite` is false.
            OSError: the file cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / JSON_NAME, json_text(dataclasses.asdict(self)), overwrite=overwrite)
        return folder / JSON_NAME


def measure(case: Case) -> list[Row]:
    """Measure one case.

    Args:
        case: checked before.

    Returns:
        A row per candidate, ours first.

    Raises:
        ValueError: outputs differ that must not, or a candidate cannot be made.
        ImportError: a candidate's library is not installed.
        MemoryError: ours has no room for a single image.
    """
    if case.threads is not None:
        torch.set_num_threads(case.threads)
    module, function = _MEASURES[case.mode]
    measuring: Callable[[Case], list[Row]] = getattr(import_module(f"convit.benchmark.{module}"), function)
    torch.compiler.reset()  # what earlier cases compiled would count as recompilations of the same code
    return measuring(case)


def start_report(case: Case) -> Report:
    """An empty report about the machine that a case runs on, with its number of threads."""
    if case.threads is not None:
        torch.set_num_threads(case.threads)
    return Report(describe_machine(str(case.torch_device)))


def run_cases(cases: Iterable[Case], report: Report, *, explains: bool = False) -> Iterator[list[Row]]:
    """Measure cases one after the other.

    Args:
        cases: checked before.
        report: grows with each, so that what was measured is there whatever ends the run.
        explains: also profiles ours in each case.

    Yields:
        The rows of each case, when it is done.

    Raises:
        As `measure` does.
    """
    for case in cases:
        rows = measure(case)
        report.rows += rows
        if explains:
            report.explanations.append(explain(case))
        yield rows
