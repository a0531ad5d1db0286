"""Feature maps of chosen blocks, in timm's `features_only` manner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from convit.model.convit import ConViT
from convit.model.layers import wanted_blocks


class FeatureInfo:
    """Channels, reduction and module name of each map that a `FeatureExtractor` gives."""

    def __init__(self, entries: Sequence[dict[str, Any]], out_indices: Sequence[int]) -> None:
        self.info = list(entries)
        self.out_indices = tuple(out_indices)

    def channels(self) -> list[int]:
        """Channels of each map."""
        return [int(self.info[index]["num_chs"]) for index in self.out_indices]

    def reduction(self) -> list[int]:
        """Stride of each map, pixels."""
        return [int(self.info[index]["reduction"]) for index in self.out_indices]

    def module_name(self) -> list[str]:
        """The block behind each map."""
        return [str(self.info[index]["module"]) for index in self.out_indices]


class FeatureExtractor(nn.Module):
    """A backbone: images in, one feature map per chosen block out. Blocks after the last one are not computed.

    Args:
        model: the model; its head is removed.
        out_indices: blocks as in `ConViT.forward_intermediates`; None keeps the last three.
        output_fmt: "NCHW" or "NLC".
        norm: applies the last norm to each map.

    Raises:
        ValueError: a block that does not exist.
    """

    def __init__(
        self,
        model: ConViT,
        out_indices: int | Sequence[int] | None = None,
        output_fmt: str = "NCHW",
        norm: bool = False,
    ) -> None:
        super().__init__()
        chosen = wanted_blocks(min(3, len(model.blocks)) if out_indices is None else out_indices, len(model.blocks))
        model.reset_classifier(0)
        self.model = model
        self.output_fmt = output_fmt
        self.norm = norm
        self.feature_info = FeatureInfo(model.feature_info, chosen)
        self.pretrained_cfg = model.pretrained_cfg

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> list[Tensor]:
        """One map (batch, dim, rows, columns) per chosen block; see `ConViT.forward_intermediates`."""
        return self.model.forward_intermediates(
            images,
            indices=self.feature_info.out_indices,
            norm=self.norm,
            stop_early=True,
            output_fmt=self.output_fmt,
            intermediates_only=True,
        )
