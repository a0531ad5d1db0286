"""What can be had by name: every variant and every weight set, with its cost counted and its merits as measured.

A variant is an architecture; a weight set is a variant with trained weights. `convit models` shows them as rows,
`convit info` one of them in full.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from convit.model import ConViTConfig, Operations, Variant
    from convit.weights import WeightSet
    from convit.weights.published import Published


@dataclass(frozen=True)
class Entry:
    """One row of `convit models`.

    Attributes:
        name: What `--model` and `convit info` take.
        parameters: Learned values, counted.
        gmacs: 10^9 multiply-accumulates for one image of `input_size`, counted on the plain twin.
        activations: Values that convolutions and matrix products give for that image, counted likewise.
        input_size: (channels, height, width) in pixels.
        classes: Width of the head.
        top1: Accuracy in percent, or None where nobody measured it.
        top5: Likewise for the five best classes.
        measured_by: Who measured those two, on what.
        published: What others published of it, each with its source: the result tables' figures of a released file, and
            the paper's of its model.
        measured: "top1", "top5" and "source" of what this project measured itself, or None.
        license: Terms of the weights; "" for a variant, which has none.
        weights_from: "package" or "hub: REPOSITORY"; for a variant, its default weight set, "" where none is published.
        cached: Whether the weights are on this machine; None for a variant.
    """

    name: str
    parameters: int
    gmacs: float
    activations: int
    input_size: tuple[int, int, int]
    classes: int
    top1: float | None
    top5: float | None
    measured_by: str
    published: tuple[Published, ...]
    measured: dict[str, Any] | None
    license: str
    weights_from: str
    cached: bool | None

    def to_dict(self) -> dict[str, Any]:
        """Give the row as a dict that `json.dumps` takes."""
        return asdict(self)


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

    config, operations = variant.config, count(variant.config)
    weights = default_weight_set(variant.name)
    return Entry(
        name=variant.name,
        parameters=operations.parameters,
        gmacs=round(operations.gmacs, 4),
        activations=operations.activations,
        input_size=(config.in_chans, config.image_height, config.image_width),
        classes=config.num_classes,
        top1=variant.paper_top1,
        top5=None,
        measured_by=variant.source if variant.paper_top1 is not None else "",
        published=_of_paper(variant),
        measured=None,
        license="",
        weights_from="" if weights is None else weights.name,
        cached=None,
    )


def describe_weights(weight_set: WeightSet) -> Entry:
    """Describe a weight set: its architecture's cost at its own input size, and its own merits."""
    from convit.weights import is_cached

    operations = count(config_of(weight_set))
    return Entry(
        name=weight_set.name,
        parameters=operations.parameters,
        gmacs=round(operations.gmacs, 4),
        activations=operations.activations,
        input_size=weight_set.input_size,
        classes=weight_set.num_classes,
        top1=weight_set.top1,
        top5=weight_set.top5,
        measured_by=weight_set.measured_by,
        published=published_of(weight_set),
        measured=measured_of(weight_set),
        license=weight_set.license,
        weights_from="package" if weight_set.source == "bundled" else f"hub: {weight_set.hub_repo}",
        cached=is_cached(weight_set),
    )


def published_of(weight_set: WeightSet) -> tuple[Published, ...]:
    """What others published of a released weight set, and last what the paper says of its model."""
    from convit.model import VARIANTS

    if not weight_set.published:
        return ()
    return (*weight_set.published, *_of_paper(VARIANTS[weight_set.architecture]))


def measured_of(weight_set: WeightSet) -> dict[str, Any] | None:
    """What this project measured of a weight set of its own: "top1", "top5" (percent) and "source"."""
    if weight_set.source != "bundled" or weight_set.top1 is None:
        return None
    return {"top1": weight_set.top1, "top5": weight_set.top5, "source": weight_set.measured_by}


def _of_paper(variant: Variant) -> tuple[Published, ...]:
    from convit.weights.published import Published

    return () if variant.paper_top1 is None else (Published("imagenet", variant.paper_top1, variant.source),)


def config_of(weight_set: WeightSet) -> ConViTConfig:
    """Give the configuration of a weight set: as its file says where that is bundled, else its variant's."""
    from convit.model import VARIANTS, ConViTConfig

    if weight_set.file is not None:
        return ConViTConfig.from_dict(_metadata(weight_set)["config"])
    channels, height, width = weight_set.input_size
    return VARIANTS[weight_set.architecture].config.replace(
        in_chans=channels, img_size=(height, width), num_classes=weight_set.num_classes
    )


def limits_of(weight_set: WeightSet) -> str:
    """Say what a weight set cannot do: what holds for every classifier, and what its own file says besides."""
    always = f"answers with one of its {weight_set.num_classes} classes whatever the image shows"
    own = "" if weight_set.file is None else _metadata(weight_set).get("limits", "")
    return f"{always}; {own}" if own else always


def _metadata(weight_set: WeightSet) -> dict[str, Any]:
    from convit.weights.header import read_metadata

    assert weight_set.file is not None
    return read_metadata(weight_set.file)


@cache
def count(config: ConViTConfig, form: Literal["fused", "plain"] = "plain") -> Operations:
    """Count what a configuration costs for one image of its own size.

    Args:
        config: The configuration.
        form: "plain" for the paper's equations as written, "fused" for what the normal path executes.
    """
    import torch

    from convit.model import ConViT, count_operations

    with torch.device("meta"):  # counts shapes: no memory is taken and no weight is drawn
        model = ConViT(config, initialize=False)
    return count_operations(model, form=form)
