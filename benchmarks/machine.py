"""What a benchmark ran on, and where its results are kept."""

from __future__ import annotations

import json
import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parent / "results"
# What decides how fast matrix products are.
_FLAGS = ("amx_tile", "amx_bf16", "avx512_fp16", "avx512_bf16", "avx512f", "avx2", "asimd", "bf16", "i8mm", "sve")


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """Name the device, the processor's relevant abilities, versions, and how busy the machine is."""
    cpu = _read_cpu()
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu["name"],
        "cpu": cpu["name"],
        "cpu_flags": [flag for flag in _FLAGS if flag in cpu["flags"]],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("convit", "torch", "timm")},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def print_machine(machine: dict[str, Any]) -> None:
    """Say it in two lines."""
    versions = ", ".join(f"{package} {number}" for package, number in machine["versions"].items())
    print(f"{machine['device']}: {machine['threads']} threads, {' '.join(machine['cpu_flags'])}")
    print(f"Python {machine['python']}, {versions}; load average {machine['load_average']}", flush=True)


def save_result(benchmark: str, machine: dict[str, Any], rows: list[dict[str, Any]]) -> Path:
    """Keep a run's rows under the benchmark's and the device's name, and write RESULTS.md anew."""
    from benchmarks.report import write_report

    RESULTS.mkdir(exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", machine["device"].lower().replace("(r)", "")).strip("-")
    path = RESULTS / f"{benchmark}-{slug}.json"
    path.write_text(json.dumps({"benchmark": benchmark, "machine": machine, "rows": rows}, indent=1) + "\n")
    write_report()
    return path


def _read_cpu() -> dict[str, Any]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {"name": platform.processor() or platform.machine(), "flags": set()}
    name = re.search(r"^(?:model name|Processor)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return {
        "name": name[1].strip() if name else platform.machine(),
        "flags": set(flags[1].split()) if flags else set[str](),
    }
