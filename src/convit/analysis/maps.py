"""Content, position and blended attention of every layer, apart from each other, and attention rollout over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convit.analysis.attention import Grid, _attention_inputs, _grid, _layers
from convit.model import ConViT, GatedPositionalSelfAttention, plain
from convit.model.attention import split_heads


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
                f"layer {self.index + 1} has no class token, which joins after the GPSA layers; "
                "take a layer behind them, or ask for a patch"
            )
        return self.blended[:, :, 0, 1:].unflatten(-1, self.grid)

    def from_patch(self, row: int, column: int, kind: str = "blended") -> Float[Tensor, "batch heads rows columns"]:
        """What one patch reads of each patch.

        In layers with the class token, its column is dropped and the rest divided by what remains of its sum.

        Args:
            row: the patch's row on the grid, from 0.
            column: its column, from 0.
            kind: "blended", "content" or "position".

        Raises:
            ValueError: the place is outside of the grid, or `kind` is another or not to be had in this layer.
        """
        rows, columns = self.grid
        if not (0 <= row < rows and 0 <= column < columns):
            raise ValueError(
                f"the query {row},{column} is outside of the {rows} x {columns} patches; rows go from 0 to {rows - 1}, "
                f"columns from 0 to {columns - 1}"
            )
        matrix = self.among_patches(kind)
        return matrix[:, :, row * columns + column].unflatten(-1, self.grid)

    def among_patches(self, kind: str = "blended") -> Float[Tensor, "batch heads patches patches"]:
        """The matrix among the patches alone; without the class token's row and column, rows divided by what remains.

        A row that reads nothing but the class token stays 0.

        Args:
            kind: "blended", "content" or "position".

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

    GPSA layers attend among the patches, the others among the class token, which comes first, and the patches. As with
    `attention_matrices`, the forward pass runs in evaluation mode when this function is called, the model is left as it
    was, and one layer's matrices are made at a time: `list` keeps them all.

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
    inputs, grid = _attention_inputs(model, images), _grid(model, images)
    return (_maps(index, layer, inputs.pop(0), grid) for index, layer in enumerate(_layers(model)))


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
    tokens = (grid := _grid(model, images))[0] * grid[1] + model.num_prefix_tokens
    for maps in attention_maps(model, images):
        attention = maps.blended.mean(dim=1)
        mixing = torch.eye(tokens, dtype=attention.dtype, device=attention.device).repeat(len(attention), 1, 1)
        missing = tokens - attention.shape[-1]
        mixing[:, missing:, missing:] += attention
        mixing[:, missing:, missing:] /= 2
        rollout = mixing if rollout is None else mixing @ rollout
    assert rollout is not None  # a model has at least one layer
    return rollout


@torch.no_grad()
def _maps(index: int, layer: nn.Module, x: Tensor, grid: Grid) -> LayerMaps:
    if not isinstance(layer, GatedPositionalSelfAttention):
        matrix: Any = layer.attention_matrix
        wide = _widened(matrix(x))
        return LayerMaps(index, grid, wide, wide, None, None)
    query, key = (split_heads(part, layer.num_heads) for part in layer.qk(x).chunk(2, dim=-1))
    content = _widened(plain.content_attention(query, key))
    position = plain.position_attention(layer.pos_proj.weight, layer.pos_proj.bias, grid)
    return LayerMaps(
        index, grid, plain.gated_attention(content, position, layer.gate), content, position, layer.gate.detach()
    )


def _widened(matrix: Tensor) -> Tensor:
    return matrix.to(torch.promote_types(matrix.dtype, torch.float32))
