"""Calls that run at one batch size only, made to take any."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Call = Callable[[Tensor], Tensor]


class FixedBatch:
    """Cuts what comes into batches of one size and fills the last one up with zeros.

    Compiled code and recorded graphs are made for one shape; a folder's last few pictures must not cost another
    compilation. What the filling gives is dropped. Results are the caller's own: a recorded graph writes its next one
    over its last.

    Args:
        call: maps a batch to one row per image.
        batch_size: images per call; None takes the first batch's.
    """

    def __init__(self, call: Call, batch_size: int | None = None) -> None:
        self.call = call
        self.batch_size = batch_size

    def __call__(self, images: Tensor) -> Tensor:
        """One row per image."""
        size = self.batch_size = self.batch_size or len(images)
        if len(images) == size:
            return self.call(images).clone()
        parts: list[Tensor] = []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            filled = torch.cat((part, part.new_zeros(size - len(part), *part.shape[1:]))) if len(part) < size else part
            parts.append(self.call(filled)[: len(part)].clone())
        return torch.cat(parts)
