"""Content attention: what tokens read of each other by queries and keys, on whatever computes it fastest."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from convit.model.processor import is_amd

# In training and compiled code the weights of all pairs exist at once: of up to so many keys they take less memory than
# the layer's other tensors. Else so many scores at a time and thread, which stay in the cache, and of an image at most.
MOST_KEYS, _SCORES, MOST_SCORES = 256, 2**20, 2**24
_AMD = is_amd()


def read_content(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch heads keys head_dim"],
    value: Float[Tensor, "batch heads keys head_dim"],
    *,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads queries head_dim"]:
    """Softmax attention without a queries x keys tensor, but for bf16 of few tokens on processors that are AMD's.

    There PyTorch's fused kernel takes twice the time of two batched products forward, and more backward; they round the
    scores to bf16. Not measured on processors with AMX, which keep the fused kernel.

    Args:
        query: what asks, with heads apart.
        key: what it is compared with.
        value: what is read.
        scale: of the scores; None for one over the root of the heads' width.
        dropout: probability with which a weight is dropped.

    Returns:
        What each query reads; the heads lie side by side in memory, so that joining them is free.
    """
    if dropout or not suits_products(query, key):
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scale)
    if scale != 1:
        query = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    batch, heads, queries, _ = query.shape
    at_once = batch
    if not _keeps_scores():
        at_once = max(1, torch.get_num_threads() * _SCORES // (heads * queries * key.shape[2]))
    parts = zip(*(part.split(at_once) for part in (query, key, value)), strict=True)
    read = [(torch.softmax(q @ k.transpose(-1, -2), -1) @ v).transpose(1, 2) for q, k, v in parts]
    return torch.cat(read).transpose(1, 2)


def suits_products(query: Tensor, key: Tensor) -> bool:
    """Whether `read_content` computes by products what has these queries and keys."""
    if not _AMD or query.dtype != torch.bfloat16 or query.device.type != "cpu" or torch.compiler.is_exporting():
        return False
    if _keeps_scores():
        return key.shape[2] <= MOST_KEYS
    return query.shape[1] * query.shape[2] * key.shape[2] <= MOST_SCORES


def _keeps_scores() -> bool:
    return torch.is_grad_enabled() or torch.compiler.is_compiling()
