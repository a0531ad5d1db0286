"""What is recorded: one module from images to the named outputs, around the folded form of a model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from convit.model import ConViT
from convit.model.shortcuts import takes_shortcuts
from convit.optimization.blocks import Form
from convit.optimization.building import fold, taking_levels
from convit.transforms import TransformSettings, normalize_batch

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
"""A written file, opened: from images as the file takes them to its outputs by name."""

LARGEST_BATCH, LARGEST_GRID = 65536, 1024


class Graph(nn.Module):
    """Images in, a tuple of float32 outputs in the order of `outputs`; norms, scales and gates are in the products.

    They are "logits" (batch, classes), "embedding" (batch, dim), "tokens" (batch, tokens, dim). With `takes_uint8`
    images are uint8 pixel values (batch, height, width, channels), else normalized float32 ones (batch, channels,
    height, width). The model stays as it is; for `dtype` and `apart` see `Form`.
    """

    def __init__(
        self,
        model: ConViT,
        outputs: tuple[str, ...],
        *,
        takes_uint8: bool = True,
        dtype: torch.dtype = torch.float32,
        apart: bool = False,
    ) -> None:
        super().__init__()
        self.settings = TransformSettings.from_model(model)
        folded = fold(model, Form(dtype=dtype, apart=apart))
        of_levels = taking_levels(model, folded, dtype, self.settings) if takes_uint8 else None
        self.normalizes = takes_uint8 and of_levels is None
        self.model = folded if of_levels is None else of_levels
        self.outputs, self.takes_uint8, self.dtype = outputs, takes_uint8, dtype
        self.class_only = "tokens" not in outputs and model.global_pool == "token" and takes_shortcuts(model.blocks[-1])
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in float32."""
        if self.normalizes:
            images = normalize_batch(images, self.settings)
        elif self.takes_uint8:
            images = images.permute(0, 3, 1, 2)
        tokens = self.model.norm(self.model._encode(images.to(self.dtype), class_only=self.class_only))
        found = {"tokens": tokens}
        if "tokens" not in self.outputs:
            found["embedding"] = self.model.forward_head(tokens, pre_logits=True)
            found["logits"] = self.model.head(found["embedding"])
        return tuple(found[name].float() for name in self.outputs)

    def example(self, height: int, width: int, batch: int = 2) -> Tensor:
        """Images of that size to record with."""
        channels = self.model.config.in_chans
        if self.takes_uint8:
            return torch.zeros(batch, height, width, channels, dtype=torch.uint8)
        return torch.zeros(batch, channels, height, width)

    def dynamic_axes(self, *, size: bool) -> dict[int, torch.export.Dim]:
        """The axes of the images that vary: the batch, and with `size` height and width, in whole patches."""
        axes = {0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)}
        if not size:
            return axes
        patch, first = self.model.config.patch_size, 1 if self.takes_uint8 else 2
        for axis, name in enumerate(("rows", "columns"), first):
            axes[axis] = patch * torch.export.Dim(name, min=1, max=LARGEST_GRID)
        return axes


def outputs_of(model: ConViT, asked: str | None) -> tuple[str, ...]:
    """The names of the outputs that `--outputs` means for a model.

    Raises:
        ValueError: the model has no such output.
    """
    pooled = ("logits", "embedding") if model.num_classes else ("embedding",)
    possible = (*(pooled if model.global_pool else ()), "tokens")
    if asked is None:
        return possible[:-1] or possible
    wanted = ("logits", "embedding") if asked == "both" else (asked,)
    for name in wanted:
        if name not in possible:
            lacks = "has no classes" if model.global_pool else "does not pool its tokens"
            raise ValueError(f"outputs has {name!r}, but the model {lacks}; use {' or '.join(possible)}")
    return wanted
