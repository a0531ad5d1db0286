"""How much accuracy is left with little data: ConViT against DeiT (paper Sec. 3, Table 2).

    python studies/sample_efficiency.py --recipe recipes/study_cifar10.yaml --data cifar10/ --test test-000000.tar.gz

Every model is trained on every share of the training images, in equally many steps. A model is written as
[LABEL=]NAME[,OPTION=VALUE...], NAME a variant or timm:NAME; the first is compared with the others.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from convit.model import VARIANTS
from convit.training.peers import is_peer
from convit.training.recipe import Recipe
from convit.weights.weight_sets import closest
from studies.command import main, numbers, options
from studies.results import Scores, describe_certainty, describe_lead
from studies.study import Column, Study, change, epochs_factor, plan_runs

PAPER_SHARES = (0.05, 0.1, 0.3, 0.5, 1.0)
PAPER = {
    "paper, on ImageNet: ConViT-S": (47.8, 59.6, 73.7, 78.2, 81.4),
    "paper, on ImageNet: DeiT-S": (34.8, 48.0, 66.1, 74.6, 79.9),
}
EXAMPLE = "DeiT=convit_tiny,local_up_to_layer=0"


def plan_sample_efficiency(
    recipe: Recipe,
    models: Mapping[str, Recipe],
    shares: Sequence[float],
    seeds: int,
    data: str | Path,
    epochs_at_full: float | None = None,
) -> Study:
    """Every model on every share of the training images of each class.

    Args:
        recipe: for all models.
        models: label → the recipe with that model; the first is compared with each other one.
        shares: ascending, above 0 and up to 1. The smaller ones of a seed are parts of the larger ones.
        seeds: runs of each model on each share, with other images and other random numbers.
        data: folder that the recipe's data paths start from.
        epochs_at_full: epochs on all images; None for the recipe's. A share has 1/share times as many, as in the paper.
    """
    columns = share_columns(recipe, shares, epochs_at_full)
    first, *others = models

    def findings(scores: Scores) -> list[str]:
        return [
            *(describe_lead(scores, first, other, columns) for other in others),
            *([] if others else [f"{first} by share of the training images."]),
            *(sentence for other in others for sentence in describe_certainty(scores, first, other, columns)),
            "The paper's lines are its Table 2: other data, larger models, 300 epochs; only the tendency compares.",
        ]

    return Study(
        name="sample-efficiency",
        title="Sample efficiency: top-1 by share of the training images",
        rows=tuple(models),
        columns=columns,
        runs=plan_runs(models, columns, seeds, data),
        findings=findings,
        axis="share of the training images, per class",
        comparisons=tuple((first, other) for other in others),
        paper_rows={
            label: dict(zip([f"{100 * share:g} %" for share in PAPER_SHARES], values, strict=True))
            for label, values in PAPER.items()
        },
    )


def share_columns(recipe: Recipe, shares: Sequence[float], epochs_at_full: float | None) -> tuple[Column, ...]:
    """A column for each share, with as many steps as the full data have."""
    factor = epochs_factor(recipe, epochs_at_full)
    return tuple(
        Column(f"{100 * share:g} %", f"share-{share:g}", position=share, share=share, stretch=factor / share)
        for share in shares
    )


def read_shares(text: str) -> list[float]:
    """Ascending shares of the training images from a text with commas between them."""
    return numbers(text, float, 1, "a share above 0 and up to 1, as in 0.05,0.1,0.3,1")


def read_models(specs: Sequence[str], recipe: Recipe) -> dict[str, Recipe]:
    """Label → recipe of each model: the recipe itself, with only its model replaced.

    Args:
        specs: as the command line has them. The recipe's own variant keeps the recipe's options but for those that are
            given; others keep its number of classes.
        recipe: what the models are trained by.

    Raises:
        ValueError: a text is not such a specification, names no variant, or a label comes twice.
    """
    rows: dict[str, Recipe] = {}
    for spec in specs:
        label, model = _read_model(spec, recipe)
        if label in rows:
            raise ValueError(f"the model {label!r} comes twice; give one of the two another label, as in {EXAMPLE}")
        rows[label] = model
    return rows


def default_models(recipe: Recipe) -> list[str]:
    """The recipe's ConViT, and the DeiT that it becomes without GPSA."""
    name = recipe.model.architecture
    return [f"ConViT={name}", f"DeiT={name},local_up_to_layer=0"]


def _read_model(spec: str, recipe: Recipe) -> tuple[str, Recipe]:
    head, *settings = spec.split(",")
    label, sign, name = head.partition("=")
    label, name = (label, name) if sign else (spec, head)
    given: dict[str, object] = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not (sign and key and value):
            raise ValueError(f"{setting!r} in the model {spec!r} is not OPTION=VALUE; write it as in {EXAMPLE}")
        given[key] = yaml.safe_load(value)
    if not label or not name or not (is_peer(name) or name in VARIANTS):
        hint = closest(name, VARIANTS)
        raise ValueError(f"{name!r} in the model {spec!r} is not a variant or timm:NAME; {hint}; as in {EXAMPLE}")
    own = recipe.model
    if name == own.architecture:
        return label, change(recipe, "model", options=own.options | given)
    kept = {key: value for key, value in own.options.items() if key == "num_classes"}
    return label, change(recipe, model={"architecture": name, "options": kept | given})


if __name__ == "__main__":
    parser = options(__doc__ or "")
    parser.add_argument("--shares", default="0.05,0.1,0.3,1", help="of the training images of each class")
    parser.add_argument("--model", action="append", help="may be repeated; the recipe's and its DeiT unless given")
    main(
        parser,
        lambda recipe, given: plan_sample_efficiency(
            recipe,
            read_models(given.model or default_models(recipe), recipe),
            read_shares(given.shares),
            given.seeds,
            given.data,
            given.epochs_at_full,
        ),
    )
