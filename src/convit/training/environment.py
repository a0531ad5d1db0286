"""What a run was made with: versions, machine and data, for the file beside it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from convit.training.splits import Split


def describe_environment(split: Split) -> dict[str, Any]:
    """Versions, device and fingerprints of the data."""
    packages: dict[str, str] = {}
    for name in ("convit", "torch", "torchvision", "lightning", "pillow", "numpy", "timm"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    )
    return {
        "python": platform.python_version(),
        "packages": packages,
        "device": device,
        "data_sha256": dict(split.files),
    }
