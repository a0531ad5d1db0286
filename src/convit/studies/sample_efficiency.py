"""How much accuracy is left with little data: ConViT against DeiT (paper Sec. 3, Table 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from convit.studies.comparing import tell_certainty, tell_lead
from convit.studies.study import Column, Study, plan_runs
from convit.training.recipe import Recipe

PAPER_SHARES = (0.05, 0.1, 0.3, 0.5, 1.0)
PAPER = {
    "paper, on ImageNet: ConViT-S": (47.8, 59.6, 73.7, 78.2, 81.4),
    "paper, on ImageNet: DeiT-S": (34.8, 48.0, 66.1, 74.6, 79.9),
}


def default_models(recipe: Recipe) -> list[str]:
    """The recipe's ConViT, and the DeiT that it becomes without GPSA; see `convit.studies.specs`."""
    name = recipe.model.architecture
    return [f"ConViT={name}", f"DeiT={name},local_up_to_layer=0"]


def plan_sample_efficiency(
    recipe: Recipe,
    models: Mapping[str, Recipe],
    shares: Sequence[float],
    seeds: int,
    data: str | Path,
    epochs_at_full: float | None = None,
) -> Study:
    """Every model on every share of the training images, in equally many steps.

    Args:
        recipe: for all models.
        models: label → the recipe with that model; the first is compared with each other one.
        shares: of the training images of each class, ascending, above 0 and up to 1. The smaller ones of a seed are
            parts of the larger ones.
        seeds: runs of each model on each share, with other images and other random numbers.
        data: folder that the recipe's data paths start from.
        epochs_at_full: epochs on all images; None for the recipe's. A share has 1/share times as many (as in the
            paper), warm-up and cool-down likewise.

    Raises:
        FileNotFoundError: the data are absent.
        ValueError: as `plan_runs`.
    """
    columns = share_columns(recipe, shares, epochs_at_full)
    rows = tuple(models)
    first, *others = rows
    return Study(
        name="sample-efficiency",
        title="Sample efficiency: top-1 by share of the training images",
        rows=rows,
        columns=columns,
        runs=plan_runs(models, columns, seeds, data),
        axis="share of the training images, per class",
        comparisons=tuple((first, other) for other in others),
        paper_rows={
            label: {share_label(share): top1 for share, top1 in zip(PAPER_SHARES, values, strict=True)}
            for label, values in PAPER.items()
        },
        headline=lambda scores: (
            tell_lead(scores, first, others[0], columns) if others else f"{first} by share of the training images"
        ),
        notes=lambda scores: [
            *(tell_lead(scores, first, other, columns) + "." for other in others[1:]),
            *(note for other in others for note in tell_certainty(scores, first, other, columns)),
            "The paper's lines are its Table 2: other data, larger models, 300 epochs; only the tendency compares.",
        ],
    )


def share_columns(recipe: Recipe, shares: Sequence[float], epochs_at_full: float | None) -> tuple[Column, ...]:
    """A column for each share, with as many steps as the full data have."""
    epochs = recipe.schedule.epochs if epochs_at_full is None else epochs_at_full
    if not epochs > 0:
        raise ValueError(f"the epochs on all images are {epochs}, but must be above 0")
    times = epochs / recipe.schedule.epochs
    return tuple(Column(share_label(share), f"share-{share:g}", share, share, times / share) for share in shares)


def share_label(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:g} %"
