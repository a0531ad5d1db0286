"""Which precision products run in: a bf16 model computes in fp32 where the processor is slower at bf16.

Intel's AVX-512 issues bf16 products at about half the rate of fp32 ones, and older x86 processors emulate them; AMX,
AMD's AVX-512 and other architectures are faster at bf16. Where it is slower, tokens are carried in fp32 and each layer
widens its bf16 weights as it uses them: the same weights, less rounding, less time.
"""

from __future__ import annotations

import functools
import platform

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@functools.cache
def bfloat16_pays() -> bool:
    """Whether this machine's processor multiplies bf16 numbers faster than fp32 ones."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.11 does not say
    if capabilities.get("amx_bf16", torch.cpu._is_amx_tile_supported()):
        return True
    return bool(capabilities.get("avx512_bf16")) and "AMD" in str(capabilities.get("cpu_name"))


def working_dtype(x: Tensor) -> torch.dtype:
    """The dtype to carry `x` through the blocks in: fp32 for bf16 on a processor that is slower at bf16, else its own.

    Compiled and exported graphs keep their own dtype, since they may run elsewhere.
    """
    slow = x.dtype == torch.bfloat16 and x.device.type == "cpu" and not torch.compiler.is_compiling()
    return torch.float32 if slow and not bfloat16_pays() else x.dtype


def narrowed(x: Tensor, images: Tensor) -> Tensor:
    """A result in the images' dtype where `working_dtype` widened it; else as it is."""
    return x.to(images.dtype) if images.dtype == torch.bfloat16 else x


class Linear(nn.Linear):
    """A linear layer whose weights are widened to a wider input's dtype."""

    def forward(self, input: Float[Tensor, "*rest in_features"]) -> Float[Tensor, "*rest out_features"]:  # noqa: A002, D102
        return F.linear(input, widened(self.weight, input), None if self.bias is None else widened(self.bias, input))


class LayerNorm(nn.LayerNorm):
    """A layer norm (eps 1e-6) whose scale and shift are widened to a wider input's dtype."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=1e-6)

    def forward(self, input: Float[Tensor, "*rest dim"]) -> Float[Tensor, "*rest dim"]:  # noqa: A002, D102
        return F.layer_norm(
            input, self.normalized_shape, widened(self.weight, input), widened(self.bias, input), self.eps
        )


def widened(parameter: Tensor, x: Tensor) -> Tensor:
    """`parameter` in `x`'s dtype if that is wider, else itself."""
    return parameter.to(torch.promote_types(parameter.dtype, x.dtype))
