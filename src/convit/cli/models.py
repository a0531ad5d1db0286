"""`convit models`: every variant and weight set, one row each, with its cost counted and its merits as measured.

A variant is an architecture; a weight set is a variant with trained weights. `convit info` shows one of them in full,
and `convit plan` calculates what embedding many images with one costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO, TypeAlias

import typer

from convit.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from convit.model import ConViTConfig, Operations, Variant
    from convit.weights import WeightSet
    from convit.weights.published import Published

Cells: TypeAlias = "dict[str, Callable[[Entry], str]]"  # what stands under each heading


def models(
    target: Annotated[options.Target, options.results("table", "json", "jsonl", "csv")] = options.STDOUT,
) -> None:
    """List all variants and weight sets, with their cost, accuracy and its source, license, and location.

    Parameters, multiply-accumulates and activations are counted from the paper's equations as written; `convit info
    NAME` shows what the fast path executes. Published accuracies are listed apart from those measured by this project.
    """
    rows = entries()
    if target.format == "table":
        with target.text() as stream:
            _print_tables(rows, stream)
        return
    values = [_flat(row) if target.format == "csv" else asdict(row) for row in rows]
    target.write_rows(values, list(values[0]))


def _flat(row: Entry) -> dict[str, Any]:
    """A row without lists in it: a column for each published figure of a released file, and for the paper's."""
    from convit.weights.published import DATA_SETS, TIMM

    values = asdict(row) | {"input_size": "x".join(map(str, row.input_size))}
    del values["published"], values["measured"]
    values |= {f"{data}_top1": _released(row).get(data) for data in DATA_SETS if data != "imagenet"}
    paper = next((each.top1 for each in row.published if each.source != TIMM), None)
    return values | {"paper_top1": paper, "measured_top1": (row.measured or {}).get("top1")}


def _print_tables(rows: list[Entry], stream: TextIO) -> None:
    """Print the variants with their costs, then the weight sets with their merits: together they fit no terminal."""
    from convit.output.console import make_table, print_parts

    parts: list[Table | str] = []
    for title, those, cells in _tables(rows):
        if those:
            right = range(1, len(cells)) if title != "Weights" else ()
            lines = [[cell(row) for cell in cells.values()] for row in those]
            parts.append(make_table([*cells], lines, right=right, unfolded=(0, *right), title=title))
    bare = [row.name for row in rows if row.cached is None and not row.weights_from]
    parts.append(f"No weights are available for {', '.join(bare)}.")
    for who in dict.fromkeys(row.measured_by for row in rows if row.measured_by):
        names = ", ".join(row.name for row in rows if row.measured_by == who)
        parts.append(f"Accuracy of {names}: {who}.")
    print_parts(stream, *parts)


def _tables(rows: list[Entry]) -> list[tuple[str, list[Entry], Cells]]:
    """Title, rows and cells of each table; who published an accuracy stands below them all."""
    from convit.weights.published import DATA_SETS

    costs: Cells = {
        "variant": lambda row: row.name,
        "params\n(M)": lambda row: f"{row.parameters / 1e6:.2f}",
        "GMACs": lambda row: f"{row.gmacs:.2f}",
        "activations\n(M)": lambda row: f"{row.activations / 1e6:.2f}",
        "image": _size,
        "paper's\ntop-1 (%)": lambda row: _percent(row.top1),
    }
    name: Cells = {"name": lambda row: row.name}
    origin: Cells = {
        "license": lambda row: row.license or "-",
        "from": lambda row: row.weights_from.partition(":")[0],
        "cached": lambda row: "yes" if row.cached else "no",
    }
    accuracy: Cells = {"top-1": lambda row: _percent(row.top1), "top-5": lambda row: _percent(row.top5)}
    relatives: Cells = {
        told.removeprefix("ImageNet").lstrip(" -"): lambda row, data=data: _percent(_released(row).get(data))
        for data, told in DATA_SETS.items()
        if data != "imagenet"
    }
    variants, sets = [row for row in rows if row.cached is None], [row for row in rows if row.cached is not None]
    published = "Published in timm's result tables (top-1, %, on ImageNet-1k and its relatives)"
    return [
        ("Variants", variants, costs),
        ("Weights", sets, name | origin),
        (published, [row for row in sets if row.published], name | accuracy | relatives),
        ("Accuracy measured by this project (%)", [row for row in sets if row.measured], name | accuracy),
    ]


def _released(row: Entry) -> dict[str, float]:
    """Top-1 of a released file by data set."""
    from convit.weights.published import TIMM

    return {each.data: each.top1 for each in row.published if each.source == TIMM}


def _size(row: Entry) -> str:
    channels, height, width = row.input_size
    return f"{height}x{width}" if channels == 3 else f"{channels}x{height}x{width}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of `convit models`.

    Attributes:
        name: what `--model` and `convit info` take.
        parameters, gmacs, activations: learned values, 10^9 multiply-accumulates, and values that convolutions and
            matrix products give, counted on the plain twin for one image of `input_size`.
        input_size: (channels, height, width) in pixels.
        classes: width of the head.
        top1, top5: accuracy in percent, or None if it was not measured.
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


Images = Annotated[float, typer.Option(min=1, metavar="N", help="Number of images, such as 1e9.")]
Bytes = Annotated[int, typer.Option(min=1, metavar="N", help="Average size of an image file, bytes.")]
Model = Annotated[str, typer.Option(metavar="NAME", help="Model or weight set; see `convit models`.")]
Dim = Annotated[int | None, typer.Option(min=1, metavar="N", help="Numbers per vector.  [default: the model's]")]
Cores = Annotated[int, typer.Option(min=1, metavar="N", help="CPU cores that work at once.")]


def plan(
    images: Images,
    bytes_per_image: Bytes = 110_000,
    model: Model = "convit_base",
    dim: Dim = None,
    cores: Cores = 64,
    target: Annotated[options.Target, options.results("text", "json")] = options.STDOUT,
) -> None:
    """Calculate what embedding many images costs: core hours, storage, and which step takes the most.

    Nothing is run: the numbers follow from rates that were measured on one machine, which the result names.
    """
    from convit.output.text import json_text
    from convit.scale.planning import plan_job

    cost = plan_job(round(images), model, bytes_per_image=bytes_per_image, dim=dim, cores=cores)
    with target.text() as stream:
        stream.write(json_text(asdict(cost)) if target.format == "json" else cost.as_lines())
