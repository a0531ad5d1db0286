"""What can be read off the weights of the GPSA layers: their gates, and where their heads look."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from convit.model import ConViT, GatedPositionalSelfAttention


def gates(model: ConViT) -> Float[Tensor, "layers heads"]:
    """How much each head reads by place (1) rather than by content (0): the sigmoid of the gating parameters.

    Source: ConViT (arXiv 2103.10697), Eq. 7 and Fig. 6.

    Args:
        model: any ConViT with GPSA layers.

    Returns:
        One row per GPSA layer, first layer first; in fp32 at least, without gradient.

    Raises:
        ValueError: the model has no GPSA layer.

    >>> from convit.model import ConViTConfig
    >>> gates(ConViT(ConViTConfig(depth=3, local_up_to_layer=2))).shape
    torch.Size([2, 4])
    """
    return torch.stack([layer.gate.detach() for layer in _gated_layers(model)])


def locality_centers(model: ConViT) -> Float[Tensor, "layers heads 2"]:
    """Where the position attention of each head is centered: the (row, column) offset from the query, in patches.

    The position logits w_0 δx + w_1 δy + w_2 (δx² + δy²) are highest at δx = w_0 / (-2 w_2) columns and
    δy = w_1 / (-2 w_2) rows. Where w_2 >= 0 they have no highest place and both numbers are NaN; heads beyond the
    largest square number start so, with w_2 = 0.

    Source: ConViT (arXiv 2103.10697), Sec. 2 (the attention center Δ).

    Args:
        model: any ConViT with GPSA layers.

    Returns:
        One (row, column) per GPSA layer and head, positive downwards and to the right; in fp32 at least, without
        gradient.

    Raises:
        ValueError: the model has no GPSA layer.
    """
    weight = torch.stack([layer.pos_proj.weight.detach() for layer in _gated_layers(model)])
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
    columns, rows, quadratic = weight.unbind(-1)
    centers = torch.stack((rows, columns), dim=-1) / (-2 * quadratic).unsqueeze(-1)
    return centers.masked_fill((quadratic >= 0).unsqueeze(-1), torch.nan)


def _gated_layers(model: ConViT) -> list[GatedPositionalSelfAttention]:
    layers = [module for module in model.blocks.modules() if isinstance(module, GatedPositionalSelfAttention)]
    if not layers:
        raise ValueError(
            "the model has no GPSA layer (its local_up_to_layer is 0), so it has no gates; "
            "take a model with local_up_to_layer of at least 1"
        )
    return layers
