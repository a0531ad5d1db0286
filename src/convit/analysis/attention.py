"""Attention as the model really uses it: on the activations that reach each layer, one layer's matrices at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convit.model import ConViT, GatedPositionalSelfAttention

Grid = tuple[int, int]


def attention_matrices(
    model: ConViT, images: Float[Tensor, "batch channels height width"]
) -> Iterator[Float[Tensor, "batch heads tokens tokens"]]:
    """The attention matrix of every layer, first layer first, on the layer's true input in the forward pass.

    The matrices of GPSA layers are the blended ones of Eq. 7, among the patches; those of the others are among the
    class token, which comes first, and the patches. The forward pass runs in evaluation mode when this function is
    called; after it the model is as it was, and each matrix is made when it is asked for, so that one layer's
    matrices need memory at a time (and the layers' inputs, which are far smaller). Change no weights in between.

    Source: ConViT (arXiv 2103.10697), Eq. 7; the same matrices are used in both attention forms.

    Args:
        model: any ConViT, in any mode.
        images: normalized images on the model's device and in its dtype, of any size that the model takes.

    Returns:
        An iterator over one (batch, heads, queries, keys) tensor per layer, whose rows sum to 1; without gradient.

    Raises:
        ValueError: the patch size does not divide the images' height or width.
    """
    inputs = _attention_inputs(model, images)
    grid = _grid(model, images)
    return (_matrix(layer, inputs.pop(0), grid) for layer in _layers(model))


def nonlocality(model: ConViT, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "layers heads"]:
    """How far each head looks on average, in patches: D_loc = (1/L) Σ_ij A_ij ‖δ_ij‖, averaged over the images.

    In layers with the class token its row and column are dropped and the other rows are divided by what remains of
    their sum, since the class token has no place; the paper does not say what it does there. A row that reads nothing
    but the class token counts as 0. The authors' own log feeds the patch embedding to every layer instead of what the
    layers before give, so its numbers differ.

    Source: ConViT (arXiv 2103.10697), Eq. 8.

    Args:
        model: any ConViT, in any mode; it is left as it was.
        images: one batch of normalized images on the model's device and in its dtype, of any size that the model takes.
            The average over several batches is the average of their results, weighted by their sizes.

    Returns:
        One row per layer, GPSA or not, first layer first; in fp32 at least, without gradient.

    Raises:
        ValueError: there is no image, or the patch size does not divide the images' height or width.

    >>> from convit.model import ConViTConfig
    >>> model = ConViT(ConViTConfig(depth=3, local_up_to_layer=2))
    >>> nonlocality(model, torch.zeros(1, 3, 32, 64)).shape
    torch.Size([3, 4])
    """
    if not len(images):
        raise ValueError("the batch holds no image; give at least one")
    matrices = attention_matrices(model, images)
    grid = _grid(model, images)
    patches = grid[0] * grid[1]
    rows: list[Tensor] = []
    with torch.no_grad():
        for matrix in matrices:
            wide = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
            if wide.shape[-1] > patches:
                wide = wide[..., 1:, 1:]
                wide = wide / wide.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(wide.dtype).tiny)
            lengths = _distances(grid, wide)
            rows.append((wide.flatten(2) @ lengths.flatten()).mean(dim=0) / patches)
    return torch.stack(rows)


@torch.no_grad()
def _attention_inputs(model: ConViT, images: Tensor) -> list[Tensor]:
    """What reaches each attention layer when the model sees `images`."""
    inputs: list[Tensor] = []

    def keep(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        inputs.append(arguments[0])

    hooks = [layer.register_forward_pre_hook(keep) for layer in _layers(model)]
    try:
        with _evaluating(model):
            # every token, also in the last block, of which `forward` may compute the class token alone
            model.forward_features(images)
    finally:
        for hook in hooks:
            hook.remove()
    return inputs


@contextmanager
def _evaluating(model: nn.Module) -> Generator[None]:
    """Without dropout; each module's own mode returns, since parts of a model may be frozen in evaluation mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@torch.no_grad()
def _matrix(layer: nn.Module, x: Tensor, grid: Grid) -> Tensor:
    matrix: Any = layer.attention_matrix
    return matrix(x, grid) if isinstance(layer, GatedPositionalSelfAttention) else matrix(x)


def _layers(model: ConViT) -> list[nn.Module]:
    return [block.get_submodule("attn") for block in model.blocks]


def _grid(model: ConViT, images: Tensor) -> Grid:
    """(rows, columns) of patches, rounded up as `dynamic_img_pad` pads; other models take no images that need it."""
    size = model.config.patch_size
    return -(-images.shape[-2] // size), -(-images.shape[-1] // size)


def _distances(grid: Grid, like: Tensor) -> Float[Tensor, "patches patches"]:
    """‖δ_ij‖ between the patches of a grid, in patches."""
    place = torch.arange(grid[0] * grid[1], device=like.device)
    row, column = (place // grid[1]).to(like.dtype), (place % grid[1]).to(like.dtype)
    return torch.hypot(row[None, :] - row[:, None], column[None, :] - column[:, None])
