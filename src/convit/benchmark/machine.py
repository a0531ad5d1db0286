"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

# what decides how fast matrix products are
_FLAGS = (
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "avx512_fp16",
    "avx512_bf16",
    "avx512_vnni",
    "avx512f",
    "avx2",
    "asimd",
    "bf16",
    "i8mm",
    "sve",
)
_PACKAGES = ("convit", "torch", "timm", "openvino", "torchao", "triton")


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """Name the device, the processor's relevant abilities, versions, and how busy the machine is.

    Args:
        device: "cpu", "cuda", "cuda:1" ….

    Returns:
        What JSON can hold: device, cpu, cpu_flags, cores, threads, load_average (None where the system has none),
        system, python, versions (of the packages that are installed), date; on a GPU also cuda and gpu_memory_gb.
    """
    cpu = _read_cpu()
    described: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu["name"],
        "cpu": cpu["name"],
        "cpu_flags": [flag for flag in _FLAGS if flag in cpu["flags"]],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": _versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
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


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # peers and runtimes are extras
    return found


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
