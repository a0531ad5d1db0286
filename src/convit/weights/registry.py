"""Which models and weight sets there are, by timm's calls."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from convit.model.variants import VARIANTS
from convit.weights.weight_sets import WEIGHT_SETS


def list_models(filter: str | Sequence[str] = "", pretrained: bool = False) -> list[str]:  # noqa: A002  # timm's name
    """List the variants, or with `pretrained` the weight sets, in natural order.

    Args:
        filter: a shell pattern such as "convit_*plus", or several; empty for all.
        pretrained: lists names with tags, of those that have weights.

    >>> list_models("*plus")
    ['convit_base_plus', 'convit_small_plus', 'convit_tiny_plus']
    """
    names = WEIGHT_SETS if pretrained else VARIANTS
    patterns = [filter] if isinstance(filter, str) else list(filter)
    patterns = [pattern for pattern in patterns if pattern] or ["*"]
    if pretrained:  # a pattern without a tag means every tag
        patterns = [each for pattern in patterns for each in (pattern, f"{pattern}.*")]
    return sorted((name for name in names if any(fnmatch.fnmatch(name, each) for each in patterns)), key=_natural)


def list_pretrained(filter: str | Sequence[str] = "") -> list[str]:  # noqa: A002  # timm's name
    """List the weight sets, in natural order.

    Args:
        filter: a shell pattern, or several; empty for all.

    >>> list_pretrained("convit_b*")
    ['convit_base.fb_in1k']
    """
    return list_models(filter, pretrained=True)


def is_model(model_name: str) -> bool:
    """Say whether there is a variant of that name; a tag is ignored.

    >>> is_model("convit_base.fb_in1k"), is_model("resnet50")
    (True, False)
    """
    return model_name.partition(".")[0] in VARIANTS


def _natural(name: str) -> list[tuple[int, str]]:
    """A sort key that counts numbers as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name.lower())]
