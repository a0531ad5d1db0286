"""Attention rollout: what reaches the class token through all layers, and what of it speaks for a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convit.analysis.attention import attention_maps, evaluating, first_arguments, layers_of, patch_grid
from convit.model import ConViT


def attention_rollout(
    model: ConViT, images: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch tokens tokens"]:
    """How much of each input token reaches each output token, if attention and residuals are all that mix them.

    The product of (A + I) / 2 over the layers, last layer leftmost, with A the mean of the heads' blended matrices.
    GPSA layers have no class token: their matrices are extended by a row and a column of the identity, so that the
    class token reads itself alone there. MLPs and values take no part: an indication, and no attribution.

    Source: Abnar and Zuidema 2020 (arXiv 2005.00928), Sec. 3. Differs: the extension by the class token.

    Arguments and errors are those of `attention_maps`.

    Returns:
        One matrix per image whose rows sum to 1, the class token first where the model has one: row 0 without its first
        number is the class token's view of the patches, row by row. In fp32 at least, without gradient.
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


def class_rollout(
    model: ConViT, images: Float[Tensor, "batch channels height width"], classes: Sequence[int]
) -> Float[Tensor, "batch rows columns"]:
    """Where a model looks for a class: attention rollout, weighted by what it does to the class's logit.

    R <- R + mean over heads of (dlogit/dA * A)+ R over the layers, first layer first, R beginning as the identity; what
    is given is the class token's row of R over the patches (of a model that pools patches the mean of their rows, less
    the identity). Attention that speaks against the class counts as none.

    Source: Chefer et al. 2021 (arXiv 2103.15679), Eqs. 5-6. Differs: GPSA layers have no class token, whose row and
    column are 0 there.

    The images are as for `attention_maps`; the model is left as it was, gradients included.

    Returns:
        A map per image, at least 0, of which the proportions alone mean something. In fp32 at least, without gradient.

    Raises:
        ValueError: the model gives no logits, there is not one class per image or no such class, or the patch size does
            not divide the images' height or width.
    """
    if not model.num_classes or model.global_pool == "":
        raise ValueError("the model gives no logits, so no class can be explained; take one with a head and pooling")
    if len(classes) != len(images) or not all(0 <= index < model.num_classes for index in classes):
        raise ValueError(
            f"the classes are {list(classes)} for {len(images)} images, but must be one of 0 to "
            f"{model.num_classes - 1} for each"
        )
    matrices, logits = _attend(model, images)
    wanted = logits[torch.arange(len(images)), list(classes)].sum()  # images do not mix
    grid = patch_grid(model, images)
    tokens = grid[0] * grid[1] + model.num_prefix_tokens
    wide = torch.promote_types(logits.dtype, torch.float32)
    identity = torch.eye(tokens, dtype=wide, device=images.device)
    relevance = identity.repeat(len(images), 1, 1)
    for matrix, gradient in zip(matrices, torch.autograd.grad(wanted, matrices), strict=True):
        kept = (matrix.detach() * gradient).to(wide).clamp_min(0).mean(dim=1)
        missing = tokens - kept.shape[-1]
        relevance = relevance + nn.functional.pad(kept, (missing, 0, missing, 0)) @ relevance
    found, first = relevance - identity, model.num_prefix_tokens
    return (found[:, 0, 1:] if model.global_pool == "token" else found[:, first:, first:].mean(dim=1)).unflatten(
        -1, grid
    )


@torch.enable_grad()
def _attend(model: ConViT, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Every layer's attention matrix as the model applies it, and the logits that come of them, with gradient."""
    layers: list[Any] = layers_of(model)
    forms = [(layer, layer.plain) for layer in layers]
    try:
        # the plain form computes the matrix and hands it to its dropout
        with evaluating(model), first_arguments([layer.attn_drop for layer in layers]) as matrices:
            for layer in layers:
                layer.plain = True
            # also a model whose weights are frozen gives gradients so; every token, as the rollout takes them
            logits = model.forward_head(model.forward_features(images.detach().requires_grad_()))
    finally:
        for layer, form in forms:
            layer.plain = form
    return matrices, logits
