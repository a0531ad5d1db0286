"""What was chosen for a device, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from convit.model.processor import is_amd_avx512, lacks_int8
from convit.optimization.precision import check_precision, computed_in, default_precision, has_fp8
from convit.output.files import check_packages

AUTO = {
    "bf16": "auto: this GPU has matrix units for it",
    "fp32": "auto: the same on every processor; 'fastest' times what there is",
}

_WITH_INT8 = "its int8 products and attention were the fastest of those measured on a CPU"
WITHOUT_INT8 = "this processor has neither VNNI nor AMX, without which int8 took as long as fp32"


class Step(NamedTuple):
    """One choice: what was to be chosen, such as "products", what was taken, and why."""

    name: str
    choice: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """How a model runs.

    Attributes:
        device: such as "cpu" or "cuda:0".
        precision: what was asked for, or chosen where "auto" was: "fp32", "bf16", "fp16", "fp8" or "int8".
        dtype: of tokens between products, such as "fp32".
        backend: "torch", "compiled", "cuda graph" or "openvino".
        steps: the choices, in the order in which they were made.
    """

    device: str
    precision: str
    dtype: str
    backend: str
    steps: tuple[Step, ...]


def choose_precision(precision: str, device: torch.device, *, calibrated: bool) -> Step:
    """Settle the precision, other than "fastest", which is measured; with `calibrated`, int8 has images for its ranges.

    Raises:
        ValueError: an unknown precision, or one that the device cannot compute in.
        ModuleNotFoundError: one that needs a package that is not installed.
    """
    check_precision(precision)
    if precision == "auto":
        found = default_precision(device)
        return Step("precision", found, AUTO[found])
    if precision == "fp8" and not has_fp8(device):
        raise ValueError(
            f"precision is 'fp8', but {device} is not a CUDA GPU of capability 8.9 or later; use 'bf16' or 'int8'"
        )
    if precision in ("fp8", "int8") and device.type == "mps":
        raise ValueError(f"precision is {precision!r}, but Apple's GPUs compute in 'fp32', 'bf16' and 'fp16' only")
    if precision == "int8" and device.type == "cpu" and not calibrated:
        raise ValueError("precision is 'int8', which is calibrated on images: give calibration=, a batch of them")
    if precision in ("fp8", "int8"):
        needed = ("openvino", "nncf") if device.type == "cpu" else ("torchao",)
        check_packages(f"{precision} on {device.type}", *needed, extra="quantize")
    return Step("precision", precision, "asked for")


def choose_dtype(precision: str, device: torch.device) -> Step:
    """Settle what tokens are carried in: on CPUs that are slower at half precision, fp32 stands in for it."""
    dtype = computed_in(precision, device)
    if precision in ("fp8", "int8"):
        return Step("computed in", dtype, f"between the {precision} products")
    if dtype != precision:
        return Step("computed in", dtype, f"this processor multiplies {precision} no faster, and rounds more")
    return Step("computed in", dtype, "as asked for")


def choose_backend(precision: str, device: torch.device, *, compile: bool) -> Step:  # noqa: A002
    """Settle what runs the folded model; `compile` asks for compiled code.

    Raises:
        ValueError: compiled code was asked for where OpenVINO compiles.
    """
    if precision == "int8" and device.type == "cpu":
        if compile:
            raise ValueError("int8 on a CPU is compiled by OpenVINO; leave compile out")
        return Step("run by", "openvino", WITHOUT_INT8 if lacks_int8() else _WITH_INT8)
    if compile and device.type == "cpu" and is_amd_avx512() and computed_in(precision, device) == "fp32":
        return Step("run by", "torch", "not compiled: MKL would multiply, which is half as fast on AMD's AVX-512")
    if compile:
        return Step("run by", "compiled", "asked for")
    if device.type == "cuda":
        return Step("run by", "cuda graph", "saves launching each kernel; compile=True was not asked for")
    return Step("run by", "torch", "compile=True was not asked for")
