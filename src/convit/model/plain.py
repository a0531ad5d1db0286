"""The paper's attention as written, with its tokens x tokens matrix: the twin that every fast path is tested against.

Taken by `ConViT.set_attention("plain")`, by training with attention dropout (which needs the matrix), and by whoever
wants to look at the matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def content_attention(
    query: Float[Tensor, "batch heads queries head_dim"], key: Float[Tensor, "batch heads tokens head_dim"]
) -> Float[Tensor, "batch heads queries tokens"]:
    """softmax(q·k / sqrt(head_dim)), in the operands' dtype."""
    return torch.softmax(query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5, dim=-1)


def position_attention(
    project: Callable[[Tensor], Tensor], grid: tuple[int, int], like: Tensor
) -> Float[Tensor, "heads patches patches"]:
    """softmax_j(w·(δx, δy, δx² + δy²) + b) for every pair of patches of a (rows, columns) grid; fp32 at least.

    `project` maps the three features in the last dimension to one score per head; `like` has the device and precision.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    place = torch.arange(grid[0] * grid[1], device=like.device)
    row, column = place // grid[1], place % grid[1]
    delta_x = (column[None, :] - column[:, None]).to(dtype)
    delta_y = (row[None, :] - row[:, None]).to(dtype)
    scores = project(torch.stack((delta_x, delta_y, delta_x.square() + delta_y.square()), dim=-1))
    return torch.softmax(scores.to(dtype).permute(2, 0, 1), dim=-1)


def gated_attention(
    content: Float[Tensor, "batch heads patches patches"],
    position: Float[Tensor, "heads patches patches"],
    gate: Float[Tensor, " heads"],
) -> Float[Tensor, "batch heads patches patches"]:
    """Mix content and position attention: (1 - gate) content + gate position.

    Source: ConViT, Eq. 7. Differs: the paper's last normalization is left out, since the rows of both sum to 1 already.
    """
    gate = gate.to(content.dtype)[:, None, None]
    return (1 - gate) * content + gate * position.to(content.dtype)
