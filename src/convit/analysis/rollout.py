"""Attention rollout: what reaches the class token through all layers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from convit.analysis.attention import attention_maps, patch_grid
from convit.model import ConViT


def attention_rollout(
    model: ConViT, images: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch tokens tokens"]:
    """How much of each input token reaches each output token, if attention and residuals are all that mix them.

    The product of (A + I) / 2 over the layers, last layer leftmost, with A the mean of the heads' blended matrices.
    GPSA layers have no class token: their matrices are extended by a row and a column of the identity, so that the
    class token reads itself alone there. MLPs and values take no part: an indication, and no attribution.

    Source: Abnar and Zuidema 2020 (arXiv 2005.00928), Sec. 3. Differs: the extension by the class token.

    Args:
        model: any ConViT, in any mode; it is left as it was.
        images: as in `attention_maps`.

    Returns:
        One matrix per image whose rows sum to 1, the class token first where the model has one: row 0 without its first
        number is the class token's view of the patches, row by row. In fp32 at least, without gradient.

    Raises:
        ValueError: the patch size does not divide the images' height or width.
    """
    rollout: Tensor | None = None
    tokens = (grid := patch_grid(model, images))[0] * grid[1] + model.num_prefix_tokens
    for maps in attention_maps(model, images):
        attention = maps.blended.mean(dim=1)
        mixing = torch.eye(tokens, dtype=attention.dtype, device=attention.device).repeat(len(attention), 1, 1)
        missing = tokens - attention.shape[-1]
        mixing[:, missing:, missing:] += attention
        mixing[:, missing:, missing:] /= 2
        rollout = mixing if rollout is None else mixing @ rollout
    assert rollout is not None  # a model has at least one layer
    return rollout
