"""Feature maps of chosen blocks, in timm's `features_only` manner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor, nn

from convit.model.layers import wanted_blocks

if TYPE_CHECKING:
    from convit.model.convit import ConViT


class FeatureInfo:
    """What is known of a model's feature maps, one dict per block, and which of them a `FeatureExtractor` gives.

    Every method means the given maps unless `idx` names blocks: one index for one value, several for a list.

    Args:
        feature_info: a dict per block, see `ConViT.feature_info`; each gets its "index".
        out_indices: blocks whose maps are given; n for the last n.
    """

    def __init__(self, feature_info: Sequence[dict[str, Any]], out_indices: int | Sequence[int]) -> None:
        self.info = [{"index": index, **entry} for index, entry in enumerate(feature_info)]
        self.out_indices = tuple(range(-out_indices, 0) if isinstance(out_indices, int) else out_indices)

    def __len__(self) -> int:
        return len(self.info)

    def __getitem__(self, item: int) -> dict[str, Any]:
        return self.info[item]

    def from_other(self, out_indices: int | Sequence[int]) -> FeatureInfo:
        """The same of other maps."""
        return FeatureInfo(self.info, out_indices)

    def get_dicts(self, keys: Sequence[str] | None = None, idx: int | Sequence[int] | None = None) -> Any:
        """The dicts, with `keys` alone where they are named."""
        if isinstance(idx, int):
            return self.info[idx] if keys is None else {key: self.info[idx][key] for key in keys}
        return [self.get_dicts(keys, index) for index in (self.out_indices if idx is None else idx)]

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """What the dicts hold under `key`."""
        found = self.get_dicts((key,), idx)
        return found[key] if isinstance(idx, int) else [each[key] for each in found]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Channels of each map."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Stride of each map, pixels."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """The block behind each map."""
        return self.get("module", idx)


class FeatureExtractor(nn.Module):
    """A backbone: images in, one feature map per chosen block out. Blocks after the last one are not computed.

    Args:
        model: the model; what the maps don't need is removed from it.
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
        self.feature_info = FeatureInfo(model.feature_info, chosen)
        model.prune_intermediate_layers(chosen, prune_norm=not norm)
        self.model = model
        self.output_fmt = output_fmt
        self.norm = norm
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
