"""Where a model runs and in which arithmetic: devices and precisions by name, and what is computed in what.

Needs torch only inside the functions, so that the command line can list the names at once.
"""

from __future__ import annotations

import functools
import platform
import re
from typing import TYPE_CHECKING, Literal, get_args

from convit.model.processor import capabilities, has_amx, is_amd_avx512, onednn_has

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fastest", "fp32", "bf16", "fp16", "fp8", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
CASTS = ("fp32", "bf16", "fp16")  # what the parameters of any module can be cast to
_DTYPES = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def check_precision(precision: str) -> None:
    """Raise a ValueError where `precision` is not one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, but must be one of {', '.join(PRECISIONS)}")


def dtype_of(precision: str) -> torch.dtype:
    """Return the dtype that "fp64", "fp32", "bf16" or "fp16" stands for; raises `ValueError` for other precisions."""
    import torch

    if precision not in _DTYPES:
        check_precision(precision)
        raise ValueError(f"precision is {precision!r}, which only a ConViT's fast form runs in; use fp32, bf16 or fp16")
    return getattr(torch, _DTYPES[precision])


def name_of(dtype: torch.dtype) -> str:
    """The precision that a dtype stands for; PyTorch's own name for other dtypes.

    >>> import torch
    >>> name_of(torch.bfloat16), name_of(torch.float64)
    ('bf16', 'fp64')
    """
    full = str(dtype).removeprefix("torch.")
    return next((name for name, each in _DTYPES.items() if each == full), full)


@functools.cache
def bfloat16_pays() -> bool:
    """Whether this machine's processor multiplies bf16 numbers faster than fp32 ones.

    Intel's AVX-512 issues bf16 products at about half the rate of fp32 ones, and older processors emulate them; AMX,
    AMD's AVX-512 and ARM's bf16 instructions are faster at bf16.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return onednn_has("bf16")
    return has_amx() or (is_amd_avx512() and bool(capabilities().get("avx512_bf16")))


def has_bf16(device: torch.device) -> bool:
    """Whether a device is a CUDA GPU with matrix units for bf16 (compute capability 8.0, Ampere)."""
    return _capability(device) >= (8, 0)


def has_fp8(device: torch.device) -> bool:
    """Whether a device is a CUDA GPU that multiplies 8-bit floating-point numbers (compute capability 8.9, Ada)."""
    return _capability(device) >= (8, 9)


def default_precision(device: torch.device) -> str:
    """What "auto" means: bf16 on CUDA GPUs that have it, else fp32, whatever the processor."""
    return "bf16" if has_bf16(device) else "fp32"


def is_emulated(precision: str, device: torch.device) -> bool:
    """Whether PyTorch's products in a half precision are several times slower than in fp32, on this processor."""
    return device.type == "cpu" and precision in ("bf16", "fp16") and not onednn_has(precision)


def native_precisions(device: torch.device) -> tuple[str, ...]:
    """fp32, and the half precisions that a device multiplies in at a rate of their own."""
    has_all = device.type != "cuda" or has_bf16(device)
    return tuple(dict.fromkeys(computed_in(each, device) for each in CASTS if has_all or each != "bf16"))


def computed_in(precision: str, device: torch.device) -> str:
    """What tokens are carried in, in training and in optimized models: "fp32", "bf16" or "fp16".

    Args:
        precision: as asked for; not "auto".
        device: where the model runs. On CPUs that are slower at half precision, fp32 stands in for it: the same
            weights, less rounding, less time.
    """
    if device.type == "cpu":
        return "bf16" if precision == "bf16" and bfloat16_pays() else "fp32"
    return "bf16" if precision in ("fp8", "int8") else precision


def widest_float(device: torch.device) -> torch.dtype:
    """The dtype in which to add up on a device: float64, which Apple's GPUs lack, or float32."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """Find the device that a name stands for.

    Args:
        name: "auto" (a CUDA GPU if there is one, else Apple's, else the CPU), "cpu", "cuda", "cuda:1" …, "mps".

    Raises:
        ValueError: there is no such kind of device, or none of it here.
    """
    check_device_name(str(name))
    import torch

    if str(name) == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(found)
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device is {str(name)!r}, but PyTorch sees {torch.cuda.device_count()} CUDA GPUs; "
            "use device='auto' or 'cpu'"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device is 'mps', but there is no Apple GPU here; use device='auto' or 'cpu'")
    return device


def check_device_name(name: str) -> None:
    """Refuse by a `ValueError` what is the name of no kind of device; without torch."""
    if not re.fullmatch(r"auto|(cpu|cuda|mps)(:(0|[1-9]\d?))?", name):
        raise ValueError(f"device is {name!r}, but must be auto, cpu, cuda, cuda:1 (and so on) or mps")


def describe_device(device: torch.device) -> str:
    """Name a device and what it is, such as "cuda (NVIDIA H100)" or "cpu (x86_64, 2 threads)"."""
    import torch

    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"{device} ({platform.machine()}, {threads} {'thread' if threads == 1 else 'threads'})"


def _capability(device: torch.device) -> tuple[int, int]:
    """(0, 0) for other devices than CUDA GPUs."""
    import torch

    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
