"""fp8 and int8 on GPUs, by torchao: weights per output channel, tokens per row as they come."""

from __future__ import annotations

from typing import Any

from torch import nn

from convit.optimization.products import PlainProduct


def quantize(model: nn.Module, precision: str) -> None:
    """Quantize every `PlainProduct` of a model in place; patch embedding and head stay as they are.

    Args:
        model: on its GPU, in bf16.
        precision: "fp8" or "int8".
    """
    from torchao.quantization import quantize_

    quantize_(model, _config(precision), filter_fn=lambda module, _: isinstance(module, PlainProduct))


def _config(precision: str) -> Any:
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int8DynamicActivationInt8WeightConfig,
        PerRow,
    )

    if precision == "fp8":
        return Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
    return Int8DynamicActivationInt8WeightConfig()
