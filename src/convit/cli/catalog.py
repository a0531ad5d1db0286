"""What can be had by name: every variant and every weight set, with its cost counted and its merits as measured.

A variant is an architecture; a weight set is a variant with trained weights. `convit models` shows them as rows,
`convit info` one of them in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from convit.model import ConViTConfig, Operations, Variant
    from convit.weights import WeightSet
    from convit.weights.published import Published


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of `convit models`.

    Attributes:
        name: what `--model` and `convit info` take.
        parameters, gmacs, activations: learned values, 10^9 multiply-accumulates, and values that convolutions and
            matrix products give, counted on the plain twin for one image of `input_size`.
        input_size: (channels, height, width) in pixels.
        classes: width of the head.
        top1, top5: accuracy in percent, or None where nobody measured it.
        measured_by: who measured those two, on what.
        published: what others published of it, each with its source: the result tables' figures of a released file, and
            the paper's of its model.
        measured: "top1", "top5" and "source" of what this project measured itself, or None.
        license: terms of the weights; "" for a variant, which has none.
        weights_from: "package" or "hub: REPOSITORY"; for a variant, its default weight set, "" where none is published.
        cached: whether the weights are on this machine; None for a variant.
    """

    name: str
    parameters: int
    gmacs: float
    activations: int
    input_size: tuple[int, int, int]
    classes: int
    top1: float | None
    top5: float | None = None
    measured_by: str
    published: tuple[Published, ...]
    measured: dict[str, Any] | None = None
    license: str = ""
    weights_from: str
    cached: bool | None = None


def entries() -> list[Entry]:
    """Describe every variant, each followed by its weight sets."""
    from convit.model import VARIANTS
    from convit.weights import WEIGHT_SETS

    rows: list[Entry] = []
    for variant in VARIANTS.values():
        rows.append(describe_variant(variant))
        rows.extend(describe_weights(each) for each in WEIGHT_SETS.values() if each.architecture == variant.name)
    return rows


def describe_variant(variant: Variant) -> Entry:
    """Describe an architecture; its accuracy is the one that the paper reports."""
    from convit.weights import default_weight_set

    config, weights = variant.config, default_weight_set(variant.name)
    return Entry(
        name=variant.name,
        **_costs(config),
        input_size=(config.in_chans, config.image_height, config.image_width),
        classes=config.num_classes,
        top1=variant.paper_top1,
        measured_by=variant.source if variant.paper_top1 is not None else "",
        published=_of_paper(variant),
        weights_from="" if weights is None else weights.name,
    )


def describe_weights(weight_set: WeightSet) -> Entry:
    """Describe a weight set: its architecture's cost at its own input size, and its own accuracy."""
    from convit.model import VARIANTS
    from convit.weights import is_cached

    top1, top5, source = weight_set.top1, weight_set.top5, weight_set.measured_by
    ours, paper = weight_set.source == "bundled", _of_paper(VARIANTS[weight_set.architecture])
    return Entry(
        name=weight_set.name,
        **_costs(weight_set.config),
        input_size=weight_set.input_size,
        classes=weight_set.num_classes,
        top1=top1,
        top5=top5,
        measured_by=source,
        published=(*weight_set.published, *paper) if weight_set.published else (),
        measured={"top1": top1, "top5": top5, "source": source} if ours and top1 is not None else None,
        license=weight_set.license,
        weights_from="package" if ours else f"hub: {weight_set.hub_repo}",
        cached=is_cached(weight_set),
    )


def _costs(config: ConViTConfig) -> dict[str, Any]:
    counted = count(config)
    return {"parameters": counted.parameters, "gmacs": round(counted.gmacs, 4), "activations": counted.activations}


def _of_paper(variant: Variant) -> tuple[Published, ...]:
    from convit.weights.published import Published

    return () if variant.paper_top1 is None else (Published("imagenet", variant.paper_top1, variant.source),)


def limits_of(weight_set: WeightSet) -> str:
    """Say what a weight set cannot do: what holds for every classifier, and what its own file says besides."""
    from convit.weights.header import read_metadata

    always = f"answers with one of its {weight_set.num_classes} classes whatever the image shows"
    own = "" if weight_set.file is None else read_metadata(weight_set.file).get("limits", "")
    return f"{always}; {own}" if own else always


@cache
def count(config: ConViTConfig, form: Literal["fused", "plain"] = "plain") -> Operations:
    """Count what one image of a configuration's own size costs, by the paper's equations or as executed ("fused")."""
    from convit.model import count_operations

    return count_operations(config, form=form)
