"""One case after the other, on which machine, and what is kept of them."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from convit.benchmark.cases import Case
from convit.benchmark.explaining import Explanation, explain
from convit.benchmark.rows import Row
from convit.inference.predicting import usable_cores
from convit.optimization.timing import thread_count
from convit.output.files import write_file
from convit.output.text import json_text, made_with

# what decides how fast matrix products are
_FLAGS = (
    *("amx_tile", "amx_bf16", "amx_int8", "avx512_fp16", "avx512_bf16", "avx512_vnni", "avx512f", "avx_vnni", "avx2"),
    *("asimd", "bf16", "i8mm", "sve"),
)
_PACKAGES = ("convit", "torch", "timm", "openvino", "torchao", "triton")


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """Name the device, the processor's relevant abilities, versions, and how busy the machine is, for JSON.

    Keys: device, cpu, cpu_flags, cores, threads, load_average (None if the system has none), system, python,
    versions (of the packages that are installed), date; on a GPU also cuda and gpu_memory_gb.
    """
    name, flags = _read_cpu()
    made = made_with(*_PACKAGES)
    described: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else name,
        "cpu": name,
        "cpu_flags": [flag for flag in _FLAGS if flag in flags],
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": made["versions"].pop("python"),
        **made,
    }
    if device.startswith("cuda"):
        memory = torch.cuda.get_device_properties(device).total_memory
        described |= {"cuda": torch.version.cuda, "gpu_memory_gb": round(memory / 1e9, 1)}
    return described


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """What `describe_machine` gave, in two lines."""
    versions = ", ".join(f"{package} {number}" for package, number in machine["versions"].items())
    return [
        f"{machine['device']}: {machine['threads']} threads, {' '.join(machine['cpu_flags'])}",
        f"Python {machine['python']}, {versions}; load average {machine['load_average']}",
    ]


def _read_cpu() -> tuple[str, set[str]]:
    """The processor's name and abilities, from Linux where that tells them."""
    text = ""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = re.search(r"^(?:model name|Processor)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return (
        name[1].strip() if name else platform.processor() or platform.machine(),
        set(flags[1].split()) if flags else set(),
    )


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
    """What a benchmark has found so far, and on which machine (`describe_machine`)."""

    machine: dict[str, Any]
    rows: list[Row] = field(default_factory=list[Row])
    explanations: list[Explanation] = field(default_factory=list[Explanation])

    def write(self, folder: Path, *, overwrite: bool = False) -> Path:
        """Write results.json into a folder, which is made if needed, and give its path.

        Raises:
            FileExistsError: the file exists and `overwrite` is false.
            OSError: the file cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / JSON_NAME, json_text(dataclasses.asdict(self)), overwrite=overwrite)
        return folder / JSON_NAME


def measure(case: Case) -> list[Row]:
    """Measure one checked case: a row per candidate, ours first.

    Raises:
        ValueError: outputs differ that must not, or a candidate cannot be made.
        ImportError: a candidate's library is not installed.
        MemoryError: ours has no room for a single image.
    """
    module, function = _MEASURES[case.mode]
    measuring: Callable[[Case], list[Row]] = getattr(import_module(f"convit.benchmark.{module}"), function)
    torch.compiler.reset()  # what earlier cases compiled would count as recompilations of the same code
    with thread_count(case.threads):
        return measuring(case)


def start_report(case: Case) -> Report:
    """An empty report about the machine that a case runs on, with its number of threads."""
    with thread_count(case.threads):
        return Report(describe_machine(str(case.torch_device)))


def run_cases(cases: Iterable[Case], report: Report, *, explains: bool = False) -> Iterator[list[Row]]:
    """Measure checked cases one after the other, as `measure` does, and yield the rows of each.

    Args:
        cases: checked before.
        report: grows with each, so that what was measured is there whatever ends the run.
        explains: also profiles ours in each case.
    """
    for case in cases:
        rows = measure(case)
        report.rows += rows
        if explains:
            report.explanations.append(explain(case))
        yield rows
