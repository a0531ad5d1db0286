"""Where a model runs and in which arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16", "fp16", "fp8", "int8"]


def pick_device(name: str | torch.device) -> torch.device:
    """Find the device that a name stands for.

    Args:
        name: "auto" (a CUDA GPU if there is one, else Apple's, else the CPU), "cpu", "cuda", "cuda:1" …, "mps".

    Raises:
        ValueError: there is no such kind of device, or none of it here.
    """
    import torch

    if str(name) == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(found)
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device is {str(name)!r}, but must be auto, cpu, cuda, cuda:1 (and so on) or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device is {str(name)!r}, but PyTorch sees {torch.cuda.device_count()} CUDA GPUs; "
            "use device='auto' or 'cpu'"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device is 'mps', but there is no Apple GPU here; use device='auto' or 'cpu'")
    return device


def check_precision(precision: str) -> None:
    """Refuse an unknown precision.

    Raises:
        ValueError: `precision` is not one of auto, fp32, bf16, fp16, fp8, int8.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision is {precision!r}, but must be one of {', '.join(get_args(Precision))}")


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Choose the type of weights and activations.

    Args:
        precision: "fp32", "bf16", "fp16", or "auto": bf16 on CUDA GPUs that compute in it (from Ampere on), else fp32.
        device: where the model will run.

    Raises:
        ValueError: an unknown precision, or one that no type of PyTorch's stands for (fp8, int8).
    """
    import torch

    check_precision(precision)
    if precision in ("fp8", "int8"):
        raise ValueError(f"precision is {precision!r}, which only a ConViT can run in; use fp32, bf16 or fp16")
    if precision == "auto":
        is_new_gpu = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        precision = "bf16" if is_new_gpu else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def precision_name(dtype: torch.dtype) -> str:
    """Name a type as `pick_dtype` does: "fp32", "bf16", "fp16", or "fp64" for a model that was handed over so."""
    import torch

    names = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}
    return names.get(dtype, str(dtype))
