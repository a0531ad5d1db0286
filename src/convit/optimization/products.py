"""The matrix products of an optimized model, in three forms that compute the same.

Which is fastest where was measured with convit_base on two threads of an Intel processor with AVX-512: with weights
laid out beforehand by MKL a forward pass takes 0.84 of the time at batch 1 and 0.94 at batch 8, by oneDNN 0.93 and 1.0.
On an AMD processor with AVX-512, whose widest instructions MKL passes over, oneDNN takes half of MKL's time; on one
without AVX-512 (AVX2 alone) both take equally long.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from convit.model.processor import is_amd_avx512, onednn_has
from convit.optimization.folding import Affine


class PlainProduct(nn.Linear):
    """A linear layer, and GELU after it where asked: what `torch.compile` and quantizers understand."""

    def __init__(self, affine: Affine, dtype: torch.dtype, *, gelu: bool = False) -> None:
        out_features, in_features = affine.weight.shape
        super().__init__(in_features, out_features, device="meta")
        self.weight = nn.Parameter(affine.weight.to(dtype, copy=True).contiguous(), requires_grad=False)
        self.bias = nn.Parameter(affine.bias.to(dtype, copy=True), requires_grad=False)
        self.gelu = gelu

    def forward(self, input: Float[Tensor, "*rest in_features"]) -> Float[Tensor, "*rest out_features"]:  # noqa: A002
        """The product of the input's rows (..., inputs) with the weights, plus the bias: (..., outputs)."""
        result = super().forward(input)
        return F.gelu(result) if self.gelu else result


# rows from which on a product gains nothing by weights that were laid out beforehand (6 % are left at 1,568)
_MANY_ROWS = 2048


class MklProduct(PlainProduct):
    """The same on an x86 processor in fp32, with weights laid out by MKL; not for autograd.

    MKL lays weights out for one number of rows (images times tokens). That is done when a number of rows comes for the
    second time running; rows of another number, and very many, pass through PyTorch's own product, whose weights are
    kept for them. The two differ in the last bits, so a result depends on what came before, unless `lays_out` says
    whether it is done now (True) or not (False).
    """

    def __init__(self, affine: Affine, dtype: torch.dtype, *, gelu: bool = False) -> None:
        super().__init__(affine, dtype, gelu=gelu)
        self.lays_out: bool | None = None
        self._latest = 0
        self._packed: tuple[int, Tensor] | None = None  # replaced as one, so that threads may share the model

    def forward(self, input: Float[Tensor, "*rest in_features"]) -> Float[Tensor, "*rest out_features"]:  # noqa: A002
        """The product of the input's rows (..., inputs) with the weights, plus the bias: (..., outputs)."""
        rows = input.numel() // self.in_features
        packed = self._packed
        if packed is None or packed[0] != rows:
            is_wanted = self._latest == rows if self.lays_out is None else self.lays_out
            if not is_wanted or rows > _MANY_ROWS:
                self._latest = rows
                return self._activated(F.linear(input, self.weight, self.bias))
            packed = self._packed = (rows, torch.ops.mkl._mkl_reorder_linear_weight(self.weight, rows))
        self._latest = rows
        return self._activated(torch.ops.mkl._mkl_linear(input, packed[1], self.weight, self.bias, rows))

    def __getstate__(self) -> dict[str, Any]:
        """Without the weights that are laid out, which can be neither copied nor pickled."""
        return {**super().__getstate__(), "_packed": None, "_latest": 0}

    def _activated(self, result: Tensor) -> Tensor:
        # in place: of a large image the MLP's inner layer is what takes the most memory
        return torch.ops.aten.gelu_(result) if self.gelu else result


def lay_out(model: nn.Module, now: bool) -> None:
    """Say to all products of a model whether weights are laid out for the number of rows that comes next."""
    for module in model.modules():
        if isinstance(module, MklProduct):
            module.lays_out = now


class PackedProduct(nn.Module):
    """The same on a CPU, through oneDNN with weights in its own layout, for any number of rows; not for autograd.

    `dtype`, of the weights kept, is fp32, or bf16 where the processor has it. GELU is part of the product.
    """

    def __init__(self, affine: Affine, dtype: torch.dtype, *, gelu: bool = False) -> None:
        super().__init__()
        self._weight = self._laid_out(affine.weight.to(dtype).contiguous())
        self.bias = nn.Buffer(affine.bias.to(dtype, copy=True))
        self._activation = ("gelu", "none") if gelu else ("none", "")

    def forward(self, x: Float[Tensor, "*rest in_features"]) -> Float[Tensor, "*rest out_features"]:
        """The product of the input's rows (..., inputs) with the weights, plus the bias: (..., outputs)."""
        name, form = self._activation
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self.bias, name, [], form)

    def __getstate__(self) -> dict[str, Any]:
        """With the weights in PyTorch's layout; in oneDNN's they can be neither copied nor pickled."""
        return {**super().__getstate__(), "_weight": self._weight.to_dense()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Lay the weights out again."""
        super().__setstate__(state)
        self._weight = self._laid_out(self._weight)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """As a `PlainProduct` does, so that all of a model's weights are there."""
        destination[f"{prefix}weight"] = self._weight.to_dense()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    @staticmethod
    def _laid_out(weight: Float[Tensor, "out_features in_features"]) -> Tensor:
        # the layout that suits a few hundred rows suits many more as well (measured from 196 to 1,568)
        return torch.ops.mkldnn._reorder_linear_weight(weight, 196)


Product = type[PlainProduct] | type[PackedProduct]


def fastest_product(device: torch.device, dtype: torch.dtype) -> Product:
    """The form to take for a model that PyTorch runs as it is, with tokens of this dtype."""
    if device.type != "cpu":
        return PlainProduct
    # operators of PyTorch's own compiler, which a build for another processor may lack
    mkl, onednn = torch.ops.mkl, torch.ops.mkldnn
    if (
        dtype == torch.float32
        and torch.backends.mkl.is_available()
        and hasattr(mkl, "_mkl_linear")
        and not is_amd_avx512()
    ):
        return MklProduct
    knows_dtype = dtype == torch.float32 or (dtype == torch.bfloat16 and onednn_has("bf16"))
    if torch.backends.mkldnn.is_available() and hasattr(onednn, "_linear_pointwise") and knows_dtype:
        return PackedProduct
    return PlainProduct


def quantize(model: nn.Module, precision: str) -> None:
    """Quantize every `PlainProduct` of a bf16 model on a GPU, by torchao, in "fp8" or "int8".

    Weights are quantized per output channel, tokens per row as they come; patch embedding and head stay as they are.
    """
    from torchao import quantization as ao

    fp8 = ao.Float8DynamicActivationFloat8WeightConfig(granularity=ao.PerRow())
    config = fp8 if precision == "fp8" else ao.Int8DynamicActivationInt8WeightConfig()
    ao.quantize_(model, config, filter_fn=lambda module, _: isinstance(module, PlainProduct))
