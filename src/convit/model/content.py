"""Content attention: what tokens read of each other by queries and keys, on whatever computes it fastest."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from convit.model.processor import is_amd_avx512

# The scores of all pairs exist at once: of up to so many keys they take less memory than the layer's other tensors.
# In place, so many at a time and thread, which stay in the cache, and of an image at most.
MOST_KEYS, _SCORES, MOST_SCORES = 256, 2**20, 2**24
_AMD = is_amd_avx512()


def read_content(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch heads keys head_dim"],
    value: Float[Tensor, "batch heads keys head_dim"],
    *,
    scale: float | None = None,
    dropout: float = 0.0,
    in_place: bool = False,
) -> Float[Tensor, "batch heads queries head_dim"]:
    """Softmax attention without a queries x keys tensor, but for bf16 of few tokens on AMD's AVX-512.

    There PyTorch's fused kernel takes twice the time of two batched products forward, and more backward; they round the
    scores to bf16. Not measured on processors with AMX, which keep the fused kernel.

    Without a `scale`, scores are divided by the root of the heads' width; weights are dropped with the probability
    `dropout`. For inference alone, `in_place` takes a few images at a time, each step in the place of the one before.
    """
    if dropout or not suits_products(query, key, in_place=in_place):
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scale)
    factor: float = query.shape[-1] ** -0.5 if scale is None else scale
    if not in_place or _keeps_scores():
        # scaled before they are rounded to bf16
        asked, compared = query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2)
        scores = torch.baddbmm(query.new_zeros(()), asked, compared, beta=0, alpha=factor)
        return torch.softmax(scores, -1).unflatten(0, query.shape[:2]) @ value
    query = query if factor == 1 else query * factor
    batch, heads, queries, dim = query.shape
    read = query.new_empty(batch, queries, heads, dim).transpose(1, 2)
    at_once = max(1, torch.get_num_threads() * _SCORES // (heads * queries * key.shape[2]))
    for start in range(0, batch, at_once):
        some = slice(start, start + at_once)
        scores = query[some] @ key[some].transpose(-1, -2)
        read[some] = torch.softmax(scores, -1, out=scores) @ value[some]
    return read


def suits_products(query: Tensor, key: Tensor, *, in_place: bool = False) -> bool:
    """Whether `read_content` computes by products what has these queries and keys."""
    if not _AMD or query.dtype != torch.bfloat16 or query.device.type != "cpu" or torch.compiler.is_exporting():
        return False
    if not (in_place or torch.is_grad_enabled() or torch.compiler.is_compiling()):
        return False  # in inference a model that is not optimized rounds no more than it must
    if not _keeps_scores():
        return query.shape[1] * query.shape[2] * key.shape[2] <= MOST_SCORES
    return key.shape[2] <= MOST_KEYS


def _keeps_scores() -> bool:
    is_traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    if is_traced or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return True
    return torch._C._are_functorch_transforms_active()  # such as vmap, which takes no out=
