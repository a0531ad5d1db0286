r"""What pretrained weights save in labeled images: fine-tuning against training from scratch.

    python studies/transfer.py --recipe recipes/study_transfer.yaml --data tiny-imagenet/ --test val-000000.tar.gz \
        --weights convit_nano_patch4_32.cifar10 --images 1000,10000

The recipe's model is trained from pretrained weights and from scratch, in equally many steps.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from convit.training.recipe import Recipe
from studies.command import main, numbers, options
from studies.results import Scores, describe_certainty, describe_lead
from studies.study import Column, Study, change, epochs_factor, plan_runs, training_labels

SCRATCH = "from scratch"


def plan_transfer(
    recipe: Recipe,
    weights: str,
    counts: Sequence[int],
    seeds: int,
    data: str | Path,
    epochs_at_full: float | None = None,
) -> Study:
    """Both starts on some numbers of images.

    Args:
        recipe: for both; its `model.weights` is replaced.
        weights: a weight set of the recipe's variant, or a file.
        counts: numbers of training images, ascending; every class has its part of them.
        seeds: runs of both on each number.
        data: folder that the recipe's data paths start from.
        epochs_at_full: epochs on all images; None for the recipe's. Fewer images have proportionally more.

    Raises:
        ValueError: the weights do not fit, there are fewer images than asked for, or too few for every class to have
            one; else as `plan_runs`.
    """
    tuned = f"fine-tuned from {Path(weights).name}"
    models = {tuned: change(recipe, "model", weights=weights), SCRATCH: change(recipe, "model", weights=None)}
    total = len(training_labels(recipe, data)) - recipe.data.held_out
    if counts[-1] > total:
        raise ValueError(
            f"{counts[-1]} images are asked for, but there are {total} training images; take at most that many"
        )
    factor = epochs_factor(recipe, epochs_at_full)
    columns = tuple(
        Column(f"{count:,}", f"images-{count}", position=count, share=count / total, stretch=factor * total / count)
        for count in counts
    )
    runs = plan_runs(models, columns, seeds, data)
    for run in runs:
        if abs(run.images - run.column.position) > 0.05 * run.column.position:
            raise ValueError(
                f"{run.column.position} images cannot be taken in proportion: every class gives a whole number and at "
                f"least one, which makes {run.images}; take that many"
            )

    def findings(scores: Scores) -> list[str]:
        lead = describe_lead(scores, tuned, SCRATCH, columns)
        named = f"{lead[:-1]} images." if "points" in lead else lead
        return [named, *describe_certainty(scores, tuned, SCRATCH, columns)]

    return Study(
        name="transfer",
        title="Transfer: top-1 by number of labeled images, with and without pretrained weights",
        rows=tuple(models),
        columns=columns,
        runs=runs,
        findings=findings,
        axis="training images",
        comparisons=((tuned, SCRATCH),),
    )


if __name__ == "__main__":
    parser = options(__doc__ or "")
    parser.add_argument("--weights", required=True, help="weight set or file that is fine-tuned")
    parser.add_argument("--images", default="100,1000,10000", help="numbers of training images")
    main(
        parser,
        lambda recipe, given: plan_transfer(
            recipe,
            given.weights,
            numbers(given.images, int, float("inf"), "a number of images above 0, as in 100,1000,10000"),
            given.seeds,
            given.data,
            given.epochs_at_full,
        ),
    )
