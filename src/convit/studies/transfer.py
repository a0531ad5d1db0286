"""What pretrained weights save in labeled images: fine-tuning against training from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convit.studies.comparing import tell_certainty, tell_lead
from convit.studies.scores import Scores
from convit.studies.study import Column, PlannedRun, Study, change, plan_runs, training_labels
from convit.training.recipe import Recipe

SCRATCH = "from scratch"


def plan_transfer(
    recipe: Recipe,
    weights: str,
    counts: Sequence[int],
    seeds: int,
    data: str | Path,
    epochs_at_full: float | None = None,
) -> Study:
    """The recipe's model from pretrained weights and from scratch, on some numbers of images, in equally many steps.

    Args:
        recipe: for both; its `model.weights` is replaced.
        weights: a weight set of the recipe's variant, or a file.
        counts: numbers of training images, ascending; every class has its part of them.
        seeds: runs of both on each number.
        data: folder that the recipe's data paths start from.
        epochs_at_full: epochs on all images; None for the recipe's. Fewer images have proportionally more.

    Raises:
        FileNotFoundError: the data or the weights are absent.
        ValueError: the weights do not fit, there are fewer images than asked for, or not so few that every class has
            one; else as `plan_runs`.
    """
    tuned = f"fine-tuned from {Path(weights).name}"
    models = {tuned: change(recipe, "model", weights=weights), SCRATCH: change(recipe, "model", weights=None)}
    columns = _columns(recipe, counts, data, epochs_at_full)
    runs = plan_runs(models, columns, seeds, data)
    _check_counts(runs, dict(zip((column.label for column in columns), counts, strict=True)))
    return Study(
        name="transfer",
        title="Transfer: top-1 by number of labeled images, with and without pretrained weights",
        rows=tuple(models),
        columns=columns,
        runs=runs,
        axis="training images",
        comparisons=((tuned, SCRATCH),),
        headline=lambda scores: _headline(scores, tuned, columns),
        notes=lambda scores: tell_certainty(scores, tuned, SCRATCH, columns),
    )


def _columns(
    recipe: Recipe, counts: Sequence[int], data: str | Path, epochs_at_full: float | None
) -> tuple[Column, ...]:
    total = len(training_labels(recipe, data)) - recipe.data.held_out
    if counts[-1] > total:
        raise ValueError(
            f"{counts[-1]} images are asked for, but there are {total} training images; take at most those"
        )
    epochs = recipe.schedule.epochs if epochs_at_full is None else epochs_at_full
    if not epochs > 0:
        raise ValueError(f"the epochs on all images are {epochs}, but must be above 0")
    times = epochs / recipe.schedule.epochs
    return tuple(
        Column(f"{count:,}", f"images-{count}", count, count / total, times * total / count) for count in counts
    )


def _check_counts(runs: Sequence[PlannedRun], wanted: dict[str, int]) -> None:
    for run in runs:
        count = wanted[run.column.label]
        if abs(run.images - count) > 0.05 * count:
            raise ValueError(
                f"{count} images cannot be taken in proportion: every class gives a whole number and at least one, "
                f"which makes {run.images}; take that many"
            )


def _headline(scores: Scores, tuned: str, columns: Sequence[Column]) -> str:
    lead = tell_lead(scores, tuned, SCRATCH, columns)
    return lead + " images" if "points" in lead else lead
