"""The published variants, one row each, and the small ones of this project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from convit.model.config import ConViTConfig

PAPER = "ConViT, d'Ascoli et al. 2021, arXiv 2103.10697, Table 1"
OURS = "this project"


@dataclass(frozen=True)
class Variant:
    """A named configuration.

    Attributes:
        name: what `create_model` takes, e.g. "convit_base".
        config: the whole configuration.
        source: where the row comes from.
        paper_top1: top-1 on ImageNet-1k that the paper reports, percent, or None.
    """

    name: str
    config: ConViTConfig
    source: str
    paper_top1: float | None = None


def _paper(name: str, num_heads: int, embed_dim: int, top1: float) -> Variant:
    return Variant(name, ConViTConfig(num_heads=num_heads, embed_dim=embed_dim), PAPER, top1)


def _ours(
    name: str, img_size: int, patch_size: int, classes: int, heads: int, embed_dim: int, depth: int, local: int
) -> Variant:
    config = ConViTConfig(
        img_size=img_size,
        patch_size=patch_size,
        num_classes=classes,
        num_heads=heads,
        embed_dim=embed_dim,
        depth=depth,
        local_up_to_layer=local,
    )
    return Variant(name, config, OURS)


_ROWS = (
    #      name                 heads  width per head  top-1
    _paper("convit_tiny", 4, 48, 73.1),
    _paper("convit_tiny_plus", 4, 64, 76.7),
    _paper("convit_small", 9, 48, 81.3),
    _paper("convit_small_plus", 9, 64, 82.2),
    _paper("convit_base", 16, 48, 82.4),
    _paper("convit_base_plus", 16, 64, 82.5),
    #     name                       image patch classes heads width depth local
    _ours("convit_nano_patch4_32", 32, 4, 10, 9, 12, 6, 5),
    _ours("convit_mini_patch8_64", 64, 8, 200, 4, 64, 6, 5),
    _ours("convit_tiny_patch8_64", 64, 8, 200, 4, 48, 12, 10),
)

VARIANTS: dict[str, Variant] = {variant.name: variant for variant in _ROWS}
_SHAPE = ("dim", "num_heads", "depth", "local_up_to_layer", "patch_size")


def find_variant(found: ConViTConfig | Mapping[str, int], first: str | None = None) -> str | None:
    """Name the variant that has these width, heads, depth and patches, or None.

    Args:
        found: a configuration, or those numbers by name.
        first: the name to prefer where several have them.
    """
    shape = found if isinstance(found, Mapping) else {name: getattr(found, name) for name in _SHAPE}
    same = [
        name
        for name, variant in VARIANTS.items()
        if all(shape.get(each) == getattr(variant.config, each) for each in _SHAPE)
    ]
    return first if first in same else next(iter(same), None)
