"""Attention as the model really uses it: content, position and blended, on the activations that reach layer."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convit.model import ConViT, GatedPositionalSelfAttention, plain
from convit.model.attention import split_heads
from convit.model.positional import patch_distances

Grid = tuple[int, int]


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """What one layer attends to.

    Attributes:
        index: the layer's place in the model's `blocks`, from 0.
        grid: (rows, columns) of patches.
        blended: the matrix that the layer applies, (batch, heads, queries, keys): Eq. 7 in GPSA layers, ordinary
            attention in the others. In these the class token comes first, before the patches in row-major order.
        content: softmax of q·k alone, in the same shape; `blended` itself in ordinary layers.
        position: position attention of GPSA layers, (heads, patches, patches), the same for every image; None in
            ordinary layers.
        gate: the gate of each head of a GPSA layer; None in ordinary layers.
    """

    index: int
    grid: Grid
    blended: Float[Tensor, "batch heads tokens tokens"]
    content: Float[Tensor, "batch heads tokens tokens"]
    position: Float[Tensor, "heads patches patches"] | None
    gate: Float[Tensor, " heads"] | None

    @property
    def has_class_token(self) -> bool:
        """Whether the class token is among the layer's tokens."""
        return self.blended.shape[-1] > self.grid[0] * self.grid[1]

    def class_attention(self) -> Float[Tensor, "batch heads rows columns"]:
        """What the class token reads of each patch; sums to 1 less what it reads of itself.

        Raises:
            ValueError: the class token joins after this layer.
        """
        if not self.has_class_token:
            raise ValueError(
                f"layer {self.index + 1} has no class token, which joins after the GPSA layers; take a layer behind "
                "them, or the row and column of a patch"
            )
        return self.blended[:, :, 0, 1:].unflatten(-1, self.grid)

    def from_patch(self, row: int, column: int, kind: str = "blended") -> Float[Tensor, "batch heads rows columns"]:
        """What one patch reads of each patch.

        In layers with the class token, its column is dropped and the rest divided by what remains of its sum. Row and
        column of the patch count from 0; `kind` is as in `among_patches`.

        Raises:
            ValueError: the place is outside of the grid, or `kind` is another or not to be had in this layer.
        """
        rows, columns = self.grid
        if not (0 <= row < rows and 0 <= column < columns):
            raise ValueError(
                f"the query {row},{column} is outside of the image's {rows} x {columns} patches; rows go from 0 to "
                f"{rows - 1}, columns from 0 to {columns - 1}"
            )
        return self.among_patches(kind)[:, :, row * columns + column].unflatten(-1, self.grid)

    def among_patches(self, kind: str = "blended") -> Float[Tensor, "batch heads patches patches"]:
        """The matrix among the patches alone; without the class token's row and column, rows divided by what remains.

        A row that reads nothing but the class token stays 0. The kind is "blended", "content" or "position".

        Raises:
            ValueError: `kind` is another, or "position" in an ordinary layer.
        """
        if kind not in ("blended", "content", "position"):
            raise ValueError(f"the kind of attention is {kind!r}, but must be 'blended', 'content' or 'position'")
        if kind == "position":
            if self.position is None:
                raise ValueError(f"layer {self.index + 1} has no position attention; take a GPSA layer")
            return self.position.expand(len(self.blended), -1, -1, -1)
        matrix = self.blended if kind == "blended" else self.content
        if not self.has_class_token:
            return matrix
        patches = matrix[..., 1:, 1:]
        return patches / patches.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(matrix.dtype).tiny)


def attention_maps(model: ConViT, images: Float[Tensor, "batch channels height width"]) -> Iterator[LayerMaps]:
    """Content, position and blended attention of every layer, first layer first, on the layer's true input.

    GPSA layers attend among the patches, the others among the class token, which comes first, and the patches. The
    forward pass runs in evaluation mode when this function is called; after it the model is as it was, and each layer's
    matrices are made when they are asked for, so that those of one layer need memory at a time (`list` keeps them all).
    Change no weights in between.

    Source: ConViT (arXiv 2103.10697), Eqs. 4-7.

    Args:
        model: any ConViT, in any mode.
        images: normalized images on the model's device and in its dtype, of any size that the model takes.

    Returns:
        An iterator over one `LayerMaps` per layer; in fp32 at least, without gradient.

    Raises:
        ValueError: the patch size does not divide the images' height or width.

    >>> from convit.model import ConViTConfig
    >>> model = ConViT(ConViTConfig(depth=3, local_up_to_layer=2))
    >>> [tuple(maps.blended.shape) for maps in attention_maps(model, torch.zeros(1, 3, 32, 64))]
    [(1, 4, 8, 8), (1, 4, 8, 8), (1, 4, 9, 9)]
    """
    inputs, grid = _attention_inputs(model, images), patch_grid(model, images)
    return (_maps(index, layer, inputs.pop(0), grid) for index, layer in enumerate(layers_of(model)))


def attention_matrices(
    model: ConViT, images: Float[Tensor, "batch channels height width"]
) -> Iterator[Float[Tensor, "batch heads tokens tokens"]]:
    """The matrix that each layer applies, first layer first: `LayerMaps.blended` of `attention_maps`.

    The same in both attention forms; rows sum to 1. Source: ConViT (arXiv 2103.10697), Eq. 7.
    """
    return (maps.blended for maps in attention_maps(model, images))


def nonlocality(model: ConViT, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "layers heads"]:
    """How far each head looks on average, in patches: D_loc = (1/L) Σ_ij A_ij ‖δ_ij‖, averaged over the images.

    In layers with the class token, which has no place, A is what `LayerMaps.among_patches` gives; the paper does not
    say what it does there. The authors' own log feeds the patch embedding to every layer instead of what the layers
    before give, so its numbers differ.

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
    rows: list[Tensor] = []
    for maps in attention_maps(model, images):
        matrix = maps.among_patches()
        lengths = patch_distances(maps.grid, matrix)
        rows.append((matrix.flatten(2) @ lengths.flatten()).mean(dim=0) / len(lengths))
    return torch.stack(rows)


@torch.no_grad()
def _maps(index: int, layer: nn.Module, x: Tensor, grid: Grid) -> LayerMaps:
    if not isinstance(layer, GatedPositionalSelfAttention):
        matrix: Any = layer.attention_matrix
        wide = _widened(matrix(x))
        return LayerMaps(index, grid, wide, wide, None, None)
    query, key = (split_heads(part, layer.num_heads) for part in layer.qk(x).chunk(2, dim=-1))
    content = _widened(plain.content_attention(query, key))
    position = layer.position_attention(grid)
    return LayerMaps(
        index, grid, plain.gated_attention(content, position, layer.gate), content, position, layer.gate.detach()
    )


def _widened(matrix: Tensor) -> Tensor:
    return matrix.to(torch.promote_types(matrix.dtype, torch.float32))


@torch.no_grad()
def _attention_inputs(model: ConViT, images: Tensor) -> list[Tensor]:
    """What reaches each attention layer when the model sees `images`."""
    with evaluating(model), first_arguments(layers_of(model)) as inputs:
        # every token, also in the last block, of which `forward` may compute the class token alone
        model.forward_features(images)
    return inputs


@contextmanager
def first_arguments(modules: Sequence[nn.Module]) -> Generator[list[Tensor]]:
    """A list that takes what each call of these modules within the block is given first."""
    found: list[Tensor] = []
    hooks = [each.register_forward_pre_hook(lambda _, arguments: found.append(arguments[0])) for each in modules]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Without dropout; each module's own mode returns, since parts of a model may be frozen in evaluation mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def layers_of(model: ConViT) -> list[nn.Module]:
    """The attention layer of every block, first first."""
    return [block.get_submodule("attn") for block in model.blocks]


def patch_grid(model: ConViT, images: Tensor) -> Grid:
    """(rows, columns) of patches, rounded up as `dynamic_img_pad` pads; other models take no images that need it."""
    size = model.config.patch_size
    return -(-images.shape[-2] // size), -(-images.shape[-1] // size)
