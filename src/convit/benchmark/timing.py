"""What timed calls come to, and the most that a machine's matrix products reach."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from convit.optimization.folding import Affine
from convit.optimization.precision import dtype_of
from convit.optimization.products import PackedProduct, fastest_product
from convit.optimization.timing import alternate, settling


def summarize(seconds: list[float]) -> dict[str, float]:
    """Median, quartiles ("low", "high") and minimum ("least"), in milliseconds.

    >>> summarize([0.001, 0.002, 0.004])["median"]
    2.0
    """
    low, _, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
    chosen = {"median": statistics.median(seconds), "low": low, "high": high, "least": min(seconds)}
    return {name: round(1000 * value, 3) for name, value in chosen.items()}


def percentiles(seconds: list[float]) -> dict[str, float]:
    """What 50, 90 and 99 of a hundred calls stay within ("p50", "p90", "p99"), in milliseconds.

    >>> percentiles([number / 1000 for number in range(1, 102)])
    {'p50': 51.0, 'p90': 91.0, 'p99': 100.0}
    """
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
    return {f"p{share}": round(1000 * cuts[share - 1], 3) for share in (50, 90, 99)}


# (rows, inner, columns). Square ones reach the most on most devices; the long ones are a ViT's own.
_SHAPES = {
    "cpu": ((1024, 1024, 1024), (2048, 2048, 2048), (1568, 768, 3072), (1568, 3072, 768)),
    "cuda": ((4096, 4096, 4096), (8192, 8192, 8192), (50176, 768, 3072), (50176, 3072, 768)),
}


@functools.cache
def measure_peak(device: torch.device, precision: str, threads: int, rounds: int = 5) -> float:
    """Operations per second of a device's products, a multiply-accumulate counted as two: the best of a few shapes.

    They are PyTorch's: int8 is `torch._int_mm`, fp8 is `torch._scaled_mm`. The fastest of `rounds` calls counts. A peak
    is kept for each number of CPU `threads`, which is the one in use.
    """
    del threads  # a part of the cache's key
    best = 0.0
    for shape in _SHAPES.get(device.type, _SHAPES["cpu"]):
        product = make_product(device, precision, shape)
        seconds = min(alternate({"product": product}, rounds, settling(device), warm_ups=2)["product"])
        best = max(best, 2 * math.prod(shape) / seconds)
    return best


def make_product(device: torch.device, precision: str, shape: tuple[int, int, int]) -> Callable[[], Tensor]:
    """A matrix product of random factors to call, of shape (rows, inner, columns)."""
    rows, inner, columns = shape
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(rows, inner, generator=generator)
    # the second factor lies as a linear layer's weight does: (columns, inner), which 8-bit products need
    right = torch.randn(columns, inner, generator=generator)
    if precision == "int8":
        first, second = ((20 * values).clamp(-127, 127).to(torch.int8).to(device) for values in (left, right))
        return lambda: torch.ops.aten._int_mm(first, second.t())
    if precision == "fp8":
        first, second = (values.to(device).to(torch.float8_e4m3fn) for values in (left, right))
        one = torch.ones((), device=device)
        return lambda: torch.ops.aten._scaled_mm(
            first, second.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
        )
    first, second = (values.to(device, dtype_of(precision)) for values in (left, right))
    if device.type == "cpu" and fastest_product(device, first.dtype) is PackedProduct:
        product = PackedProduct(Affine(second, second.new_zeros(columns)), first.dtype)
        return lambda: product(first)
    return lambda: torch.mm(first, second.t())
