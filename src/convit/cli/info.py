"""`convit info`: one variant, weight set, weight file, exported folder or hub repository in full."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convit.cli import options

if TYPE_CHECKING:
    from convit.cli.models import Entry
    from convit.weights import WeightSet
    from convit.weights.resolving import Plan

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE|FOLDER|hf-hub:OWNER/NAME",
        help="Model or weight set (see `convit models`), weights on this machine, or a hub repository.",
    ),
]

_LABELS: dict[str, str] = {
    "gmacs": "GMACs, paper's form",
    "gmacs_executed": "GMACs, executed",
    "activations": "activations, paper's form",
    "activations_executed": "activations, executed",
    "top1": "top-1 (%)",
    "top5": "top-5 (%)",
}
_SIZES = ("image", "input_size", "img_size")


def info(name: Name, target: Annotated[options.Target, options.results("text", "json")] = options.STDOUT) -> None:
    """Show one variant, weight set, weight file, exported folder or hub repository in full.

    Of a hub repository, only config.json is fetched. Costs are counted twice: from the paper's equations as written, as
    other tables do, and as the fast path executes them.
    """
    from convit.output.console import printable
    from convit.output.text import json_text

    facts = describe(name)
    with target.text() as stream:
        stream.write(json_text(facts) if target.format == "json" else printable(_as_lines(facts)))


def _as_lines(facts: dict[str, Any]) -> str:
    lines = [facts.pop("name")]
    for title, values in _sections(facts):
        lines += ["", title]
        labels = [_LABELS.get(key) or key.replace("_", " ") for key in values]
        width = max(map(len, labels)) + 2
        for label, key in zip(labels, values, strict=True):
            lines.append(f"  {label:{width}}{_as_text(values[key], ' x ' if key in _SIZES else ', ')}")
    return "\n".join(lines) + "\n"


def describe(name: str) -> dict[str, Any]:
    """Return everything known about a variant, weight set, file, folder or hub repository, by section.

    Raises:
        ValueError: there is nothing of that name (the message names the closest), or the file is damaged.
        FileNotFoundError: there is no such file, or no weights in the folder.
        ConnectionError: the hub repository can't be reached.
    """
    from convit.cli.models import describe_variant, describe_weights, limits_of
    from convit.inference.models import find_exported
    from convit.model import VARIANTS
    from convit.weights.files import READABLE, weights_file
    from convit.weights.hub import WEIGHT_FILES, cached_file, parse_repo
    from convit.weights.weight_sets import check_model_name, find_weight_set, local_weights, split_source

    source, rest = split_source(name)
    if source == "hf-hub":
        from convit.weights.resolving import resolve  # brings torch, which a mistyped name need not wait for

        return _of_plan(name, resolve(name), cached_file(parse_repo(rest), WEIGHT_FILES))
    if (exported := find_exported(rest)) is not None:
        return _of_exported(exported)
    if source or name.endswith(READABLE) or local_weights(name) is not None:
        from convit.weights.resolving import read_file

        _, plan = read_file(Path(rest))
        return _of_plan(str(Path(rest)), plan, weights_file(rest))
    if name in VARIANTS:
        variant = VARIANTS[name]
        entry, config = describe_variant(variant), variant.config
        return {
            "name": name,
            "cost": _cost(config),
            "accuracy": _accuracy(entry),
            "weights": {"default": entry.weights_from or None, "source": variant.source},
            "configuration": config.to_dict(),
        }
    check_model_name(name)
    weights = find_weight_set(name)
    entry = describe_weights(weights)
    return {
        "name": weights.name,
        "cost": _cost(weights.config),
        "accuracy": _accuracy(entry),
        "preprocessing": weights.preprocessing.to_dict(),
        "classes": {"number": weights.num_classes, "set": weights.classes or None, "names": weights.label_names},
        "limits": {"note": limits_of(weights)},
        "weights": _weights(weights),
        "configuration": weights.config.to_dict(),
    }


def _of_exported(folder: Path) -> dict[str, Any]:
    from convit.inference.exported import read_config

    config, export, transform = read_config(folder)
    told = config["export"]
    return {
        "name": str(folder),
        "source": told.get("source", {}),
        "file": {
            **{key: told[key] for key in ("format", "precision", "file", "outputs")},
            "img_size": "any in whole patches" if export.size is None else list(export.size),
            "sha256": export.sha256[export.file],
        },
        "difference": told.get("difference", {}),
        "preprocessing": transform,
        "classes": {"number": config.get("num_classes"), "set": None, "names": config.get("label_names")},
        "versions": told.get("versions", {}),
    }


def _of_plan(name: str, plan: Plan, file: Path | None) -> dict[str, Any]:
    """What a file or repository says of its model; `file` is where its weights are on this machine."""
    from convit.output.files import hash_file
    from convit.weights.card import DEFAULT_PREPROCESSING, PROVENANCE, make_card

    card = make_card(plan.architecture, plan.config, plan.description, plan.origin)
    return {
        "name": name,
        "model": {"architecture": plan.architecture},
        "cost": _cost(plan.config),
        "preprocessing": {key: card[key] for key in ("input_size", *DEFAULT_PREPROCESSING)},
        "classes": {"number": plan.config.num_classes, "set": None, "names": card["label_names"]},
        "weights": {
            **{key: card[key] for key in (*PROVENANCE, "source")},
            "hub_repository": card["hf_hub_id"],
            "sha256": None if file is None else hash_file(file),
            "cached": file is not None,
            "file": None if file is None else str(file),
        },
        "configuration": plan.config.to_dict(),
    }


def _accuracy(entry: Entry) -> dict[str, Any]:
    return {
        "top1": entry.top1,
        "top5": entry.top5,
        "measured_by": entry.measured_by or None,
        "published": [asdict(each) for each in entry.published],
        "measured": entry.measured,
    }


def _sections(facts: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Title and values of each section; accuracies stand under whoever measured them."""
    from convit.weights.published import DATA_SETS

    for title, values in facts.items():
        if title != "accuracy":
            yield title, values
            continue
        published, measured = values["published"], values["measured"]
        for source in dict.fromkeys(each["source"] for each in published):
            theirs = {DATA_SETS[each["data"]]: _percents(each) for each in published if each["source"] == source}
            yield f"accuracy published by others: {source}", theirs
        if measured:
            yield f"accuracy measured by this project: {measured['source']}", {"its test images": _percents(measured)}
        if not published and not measured:
            yield title, {"top1": None}


def _percents(accuracy: dict[str, Any]) -> str:
    top5 = accuracy["top5"]
    return f"top-1 {accuracy['top1']:g} %" + ("" if top5 is None else f", top-5 {top5:g} %")


def _cost(config: Any) -> dict[str, Any]:
    from convit.cli.models import count

    plain, fused = count(config), count(config, "fused")
    return {
        "image": [config.in_chans, config.image_height, config.image_width],
        "parameters": plain.parameters,
        "gmacs": round(plain.gmacs, 4),
        "gmacs_executed": round(fused.gmacs, 4),
        "activations": plain.activations,
        "activations_executed": fused.activations,
    }


def _weights(weights: WeightSet) -> dict[str, Any]:
    from convit.weights.fetch import cached_weights

    file = cached_weights(weights)
    return {
        "license": weights.license or None,
        "trained_on": weights.trained_on or None,
        "origin": weights.origin or None,
        "source": weights.source,
        "hub_repository": weights.hub_repo,
        "authors_file": weights.url,
        "sha256": weights.sha256,
        "cached": file is not None,
        "file": None if file is None else str(file),
    }


def _as_text(value: Any, between: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value >= 10_000:
        return f"{value / 1e6:.2f} M ({value:,})"
    if isinstance(value, list | tuple):
        shown = [str(each) for each in value[:10]]
        return (between.join(shown) or "-") + (", ..." if len(value) > len(shown) else "")
    return str(value)
