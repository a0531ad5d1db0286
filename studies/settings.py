r"""Which settings of a recipe to take into a long run, found in short ones.

    python studies/settings.py --recipe recipes/tiny_imagenet_convit_mini_patch8_64.yaml --data tiny-imagenet/ \
        --share 0.4 --epochs-at-full 1.6 --seeds 1 --change 'AdamW: optimizer.name=adamw optimizer.lr=1e-3'

The recipe and each change of it is trained on the same images for equally many epochs.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from operator import attrgetter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from convit.training.recipe import Recipe
from convit.training.recipe_io import read_recipe
from studies.command import main, options
from studies.results import Scores, describe_certainty
from studies.sample_efficiency import share_columns
from studies.study import Study, plan_runs

BASE = "the recipe"
EXAMPLE = "'AdamW: optimizer.name=adamw optimizer.lr=1e-3'"
# without these a change would see other images, be tested on those that it has seen, or be trained for longer
ALIKE = (
    *("seed", "data.train", "data.classes", "data.validation", "data.held_out", "data.share"),
    *("schedule.epochs", "schedule.cooldown_epochs"),
)


def plan_settings(
    rows: Mapping[str, Recipe], share: float, seeds: int, data: str | Path, epochs_at_full: float | None = None
) -> Study:
    """A recipe and changes of it on one share of the training images.

    Args:
        rows: label → recipe; the first is what the others are compared with.
        share: of the training images of each class, above 0 and up to 1.
        seeds: runs of each, with other images and other random numbers.
        data: folder that the recipes' data paths start from.
        epochs_at_full: epochs on all images; None for the first recipe's. A share has 1/share times as many.

    Raises:
        FileNotFoundError: the data are absent.
        ValueError: recipes differ in their images or epochs, or as `plan_runs` says.
    """
    base, *others = rows
    for other, key in product(others, ALIKE):
        ours, theirs = (attrgetter(key)(rows[row]) for row in (base, other))
        if ours != theirs:
            raise ValueError(
                f"{other!r} changes {key} from {ours!r} to {theirs!r}, but all rows have the same images and equally "
                "many epochs; leave it out, or change it for all with --set, --share or --epochs-at-full"
            )
    columns = share_columns(rows[base], (share,), epochs_at_full)
    (column,) = columns

    def findings(scores: Scores) -> list[str]:
        cells = {row: scores.cell(row, column.label) for row in rows}
        ranked = sorted(((cell.mean, row) for row, cell in cells.items() if cell), reverse=True)
        if not ranked or cells[base] is None:
            broken = any(each.model == base for each in scores.diverged)
            return [f"No change can be compared with the recipe{', which diverged' if broken else ' yet'}."]
        order = ", ".join(f"{row} {mean:.1f} %" for mean, row in ranked)
        rates = ", ".join(f"{row} {rate:.0f}" for row in rows if (rate := scores.images_per_second(row)))
        certainty = ["Each has a single seed: chance cannot be ruled out."]
        if seeds > 1:
            certainty = [word for other in others for word in describe_certainty(scores, other, base, columns)]
        return [
            f"Best is {ranked[0][1]} with {ranked[0][0]:.1f} %.",
            f"In order: {order}.",
            f"Training images per second: {rates}.",
            *certainty,
        ]

    return Study(
        name="settings",
        title="Settings: top-1 of short runs",
        rows=tuple(rows),
        columns=columns,
        runs=plan_runs(rows, columns, seeds, data),
        findings=findings,
    )


def read_changes(changes: Sequence[str], recipe: Path, settings: Sequence[str]) -> dict[str, Recipe]:
    """Label → recipe: the one in a file, then each change of it.

    Args:
        changes: as the command line has them, "LABEL: KEY=VALUE …" with quotes as in a shell.
        recipe: the file.
        settings: changes that all have, "KEY=VALUE".

    Raises:
        ValueError: a text is no such change, a label comes twice, or the recipe refuses a value.
    """
    rows = {BASE: read_recipe(recipe, settings)}
    for text in changes:
        label, _, own = text.partition(":")
        if not label or not own.strip():
            raise ValueError(f"the change {text!r} is not 'LABEL: KEY=VALUE'; write it as in {EXAMPLE}")
        if label in rows:
            raise ValueError(f"the change {label!r} comes twice; give one of the two another label")
        rows[label] = read_recipe(recipe, [*settings, *shlex.split(own)])
    return rows


if __name__ == "__main__":
    parser = options(__doc__ or "")
    parser.add_argument("--share", type=float, default=1.0, help="of the training images of each class")
    parser.add_argument("--change", action="append", default=[], metavar="'LABEL: KEY=VALUE …'", help="may be repeated")
    main(
        parser,
        lambda _, given: plan_settings(
            read_changes(given.change, given.recipe, given.set),
            given.share,
            given.seeds,
            given.data,
            given.epochs_at_full,
        ),
    )
