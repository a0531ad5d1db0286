"""Where a patch is: the factors of position attention, its initialization, and position embeddings for any grid."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def axis_attention(
    linear: Float[Tensor, " heads"], quadratic: Float[Tensor, " heads"], bias: Float[Tensor, " heads"], length: int
) -> Float[Tensor, "heads length length"]:
    """Position attention along one axis, in patches: softmax over j of `linear (j - i) + quadratic (j - i)² + bias`.

    The bias cancels in the softmax; it takes part so that it gets its (zero) gradient, as in the reference. Computed
    and given in fp32 at least: bf16 is inexact for whole numbers above 256.
    """
    dtype = torch.promote_types(linear.dtype, torch.float32)
    place = torch.arange(length, device=linear.device, dtype=dtype)
    offset = place[None, :] - place[:, None]
    linear, quadratic, bias = (value.to(dtype)[:, None, None] for value in (linear, quadratic, bias))
    attention = torch.softmax(linear * offset + quadratic * offset.square() + bias, dim=-1)
    # far places get subnormal weights, which slow matrix products down many times over and add nothing
    return torch.where(attention > torch.finfo(dtype).tiny, attention, 0.0)


def position_factors(
    weight: Float[Tensor, "heads 3"], bias: Float[Tensor, " heads"], grid: tuple[int, int]
) -> tuple[Float[Tensor, "heads grid_height grid_height"], Float[Tensor, "heads grid_width grid_width"]]:
    """The attentions between rows and between columns of `grid`; their Kronecker product is position attention.

    `weight` holds the weights of (δx, δy, δx² + δy²), one row per head.
    """
    weight_x, weight_y, weight_square = weight.unbind(1)
    rows = axis_attention(weight_y, weight_square, bias, grid[0])
    columns = axis_attention(weight_x, weight_square, bias, grid[1])
    return rows, columns


def apply_axis_attention(
    value: Float[Tensor, "batch heads patches head_dim"],
    rows: Float[Tensor, "heads grid_height grid_height"],
    columns: Float[Tensor, "heads grid_width grid_width"],
) -> Float[Tensor, "batch heads patches head_dim"]:
    """Read `value` through position attention without its patches x patches matrix.

    Source: ConViT, Eq. 7's second softmax. Differs: its logits are a sum of a function of the row offset and one of
    the column offset, so the matrix is the Kronecker product `rows ⊗ columns`, and its two factors are applied one
    after the other: patches * (grid_height + grid_width) multiplications per channel instead of patches².

    `value` is in row-major order of the grid, and so is the result.
    """
    grid_height, grid_width = rows.shape[-1], columns.shape[-1]
    by_rows = rows @ value.unflatten(2, (grid_height, grid_width)).flatten(3)
    by_both = columns.unsqueeze(1) @ by_rows.unflatten(3, (grid_width, -1))
    return by_both.flatten(2, 3)


def local_position_weights(num_heads: int, locality_strength: float) -> Float[Tensor, "heads 3"]:
    """Weights of (δx, δy, δx² + δy²) that make k² heads a k x k convolution (paper Sec. 3).

    Head h1 + k * h2 looks h2 - c columns and h1 - c rows away, with k = floor(sqrt(num_heads)) and c the kernel's
    center. Heads beyond k² get zeros, which attend everywhere alike, as all do where `locality_strength` is 0.
    """
    kernel = math.isqrt(num_heads)
    center = (kernel - 1) / 2 if kernel % 2 == 0 else kernel // 2
    weights = torch.zeros(num_heads, 3)
    for column in range(kernel):
        for row in range(kernel):
            weights[row + kernel * column] = torch.tensor([2 * (column - center), 2 * (row - center), -1.0])
    return locality_strength * weights


def patch_distances(grid: tuple[int, int], like: Tensor) -> Float[Tensor, "patches patches"]:
    """‖δ_ij‖ between the patches of a (rows, columns) grid, in patches; on the device and in the dtype of `like`."""
    place = torch.arange(grid[0] * grid[1], device=like.device)
    row, column = (place // grid[1]).to(like.dtype), (place % grid[1]).to(like.dtype)
    return torch.hypot(row[None, :] - row[:, None], column[None, :] - column[:, None])


def grid_of(patches: int, known: tuple[int, int] | None) -> tuple[int, int]:
    """(rows, columns) of so many patches where nobody says it: the `known` grid where it has as many, else a square.

    Raises:
        ValueError: the number is neither.

    >>> grid_of(28, (4, 7)), grid_of(9, (4, 7))
    ((4, 7), (3, 3))
    """
    if known is not None and known[0] * known[1] == patches:
        return known
    side = math.isqrt(patches)
    if side * side != patches:
        of_model = "" if known is None else f" nor the model's {known[0]} x {known[1]}"
        raise ValueError(f"{patches} patches make no square{of_model}; pass their grid as (rows, columns)")
    return side, side


def resample_position_embedding(
    pos_embed: Float[Tensor, "1 old_patches dim"], old_grid: tuple[int, int], new_grid: tuple[int, int]
) -> Float[Tensor, "1 new_patches dim"]:
    """Stretch a position embedding to another patch grid (bicubic, antialiased, as timm resizes those of other models).

    `pos_embed` has one embedding per patch, row-major, and no slot for a class token; grids are (rows, columns).

    Raises:
        ValueError: `pos_embed` does not have `old_grid`'s number of patches.
    """
    if pos_embed.shape[1] != old_grid[0] * old_grid[1]:
        raise ValueError(
            f"a position embedding of {pos_embed.shape[1]} patches is not one of a {old_grid[0]} x {old_grid[1]} grid; "
            "say which grid (rows, columns) it was made for"
        )
    return stretched(pos_embed, old_grid, new_grid)


def stretched(pos_embed: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int]) -> Tensor:
    """As `resample_position_embedding`, unchecked, in the Python that TorchScript compiles."""
    if old_grid[0] == new_grid[0] and old_grid[1] == new_grid[1]:
        return pos_embed
    dtype = torch.promote_types(pos_embed.dtype, torch.float32)
    image = pos_embed.to(dtype).unflatten(1, old_grid).permute(0, 3, 1, 2)
    rows, columns = _stretch(old_grid[0], new_grid[0], image), _stretch(old_grid[1], new_grid[1], image)
    image = rows @ image @ columns.transpose(0, 1)
    return image.flatten(2).transpose(1, 2).contiguous().to(pos_embed.dtype)


def _stretch(old: int, new: int, like: Tensor) -> Tensor:
    """The matrix of that resize along one axis: compiled, the operator itself has no gradient for sizes that vary."""
    identity = torch.eye(old, device=like.device, dtype=like.dtype)[None, None]
    return F.interpolate(identity, size=[new, old], mode="bicubic", antialias=True)[0, 0]
