"""What ConViT owes to its gates and to its convolutional start (paper Sec. 4, Table 3).

    python studies/ablation.py --recipe recipes/study_cifar10.yaml --data cifar10/ --test test-000000.tar.gz

Every row of Table 3 is trained on some shares of the training images, in equally many steps.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from convit.model import VARIANTS
from convit.training.recipe import Recipe
from studies.command import main, options
from studies.results import Scores
from studies.sample_efficiency import read_shares, share_columns
from studies.study import Column, Study, change, plan_runs

FULL, TENTH = "paper, ImageNet, 100 %", "paper, ImageNet, 10 %"
# the paper's Table 3, ConViT-S+
PAPER = {
    "ConViT": (82.2, 59.7),
    "gates frozen at 0.5": (82.0, 57.4),
    "no convolutional init": (81.4, 56.9),
    "neither": (81.6, 54.6),
    "DeiT": (79.1, 47.8),
    "GPSA frozen, with init": (78.6, 54.3),
    "GPSA frozen, without init": (73.7, 44.8),
}
# what the whole ConViT has over a row
WORTH = {
    "gates": "gates frozen at 0.5",
    "convolutional init": "no convolutional init",
    "both": "neither",
    "GPSA": "DeiT",
}


def variants(recipe: Recipe) -> dict[str, Recipe]:
    """The rows of the paper's Table 3, made from the recipe's ConViT.

    "neither" has gates frozen at 0.5 and no convolutional init. "GPSA frozen" keeps the GPSA layers' attention as it
    was initialized: `qk`, `v`, `pos_proj`, the gates and the output projection are not trained, so that in these blocks
    the MLP (and the norms) learn alone, as the paper has it. DeiT is `local_up_to_layer=0`.

    Raises:
        ValueError: the recipe's model is not a ConViT with GPSA, or starts from weights.
    """
    own = recipe.model
    if own.architecture not in VARIANTS or own.weights is not None:
        start = f" from {own.weights}" if own.weights else ""
        raise ValueError(
            f"the ablation starts ConViT from scratch, but the recipe's model is {own.architecture}{start}; take a "
            f"recipe of a variant without model.weights"
        )
    local = VARIANTS[own.architecture].config.replace(**own.options).local_up_to_layer
    if not local:
        raise ValueError("the recipe's ConViT has no GPSA layer; set model.options.local_up_to_layer above 0")
    gates: dict[str, Any] = {"initial_gate": 0.5, "freeze": [*own.freeze, "*gating_param"]}
    frozen = {"freeze": [*own.freeze, *(f"blocks.{block}.attn." for block in range(local))]}
    plain = {"convolutional_init": False}
    return {
        "ConViT": recipe,
        "gates frozen at 0.5": change(recipe, "model", **gates),
        "no convolutional init": change(recipe, "model", **plain),
        "neither": change(recipe, "model", **gates, **plain),
        "DeiT": change(recipe, "model", options=own.options | {"local_up_to_layer": 0}),
        "GPSA frozen, with init": change(recipe, "model", **frozen),
        "GPSA frozen, without init": change(recipe, "model", **frozen, **plain),
    }


def plan_ablation(
    recipe: Recipe, shares: Sequence[float], seeds: int, data: str | Path, epochs_at_full: float | None = None
) -> Study:
    """Every row of `variants` on some shares; arguments as of `studies.sample_efficiency.plan_sample_efficiency`."""
    models = variants(recipe)
    columns = share_columns(recipe, shares, epochs_at_full)
    return Study(
        name="ablation",
        title="Ablation of gates and initialization (the paper's Table 3)",
        rows=tuple(models),
        columns=columns,
        runs=plan_runs(models, columns, seeds, data),
        findings=lambda scores: [
            _describe_worth(scores, columns),
            *(describe_order(scores, column) for column in columns),
            "The paper's columns are its Table 3: ConViT-S+ on ImageNet, 300 epochs; only the order compares.",
        ],
        paper_columns={
            FULL: {row: full for row, (full, _) in PAPER.items()},
            TENTH: {row: tenth for row, (_, tenth) in PAPER.items()},
        },
    )


def describe_order(scores: Scores, column: Column) -> str:
    """Whether the rows stand in the paper's order, pair by pair, and which pairs the seeds do not tell apart."""
    which = 0 if column.share == 1 else 1
    met, inside, contrary = _sort_pairs(scores, column, which)
    pairs = met + len(inside) + len(contrary)
    if not pairs:
        return f"At {column.label} no two rows are done yet."
    place = f"at {column.label} ({(FULL, TENTH)[which]})"
    turned = f" ({'; '.join(contrary)})" if contrary else ""
    cells = [scores.cell(row, column.label) for row in PAPER]
    if any(cell is not None and len(cell.values) == 1 for cell in cells):
        return (
            f"A single seed does not settle the paper's ordering {place}: by it, {met} of {pairs} pairs of rows stand "
            f"as there and {len(contrary)} the other way round{turned}, with no spread to judge by."
        )
    if not met and not contrary:
        verdict = "The seeds do not tell the rows apart, so nothing is shown of the paper's ordering"
    elif contrary:
        verdict = "The paper's ordering was not met"
    else:
        verdict = "The paper's ordering was met" + (" as far as the seeds tell the rows apart" if inside else "")
    return (
        f"{verdict} {place}: of {pairs} pairs of rows, {met} stand as there, beyond the spread; {len(contrary)} stand "
        f"the other way round, beyond the spread{turned}; {len(inside)} are inside the spread"
        + (f" ({'; '.join(inside)})." if inside else ".")
    )


def _sort_pairs(scores: Scores, column: Column, which: int) -> tuple[int, list[str], list[str]]:
    """Pairs as in the paper, inside the spread, and the other way round, the better one of the paper named first."""
    met, inside, contrary = 0, list[str](), list[str]()
    for pair in combinations(PAPER, 2):
        better, worse = sorted(pair, key=lambda row: -PAPER[row][which])
        ours, theirs = scores.cell(better, column.label), scores.cell(worse, column.label)
        if ours is None or theirs is None:
            continue
        if ours.overlaps(theirs):
            inside.append(f"{better} / {worse}")
        elif ours.mean > theirs.mean:
            met += 1
        else:
            contrary.append(f"{better} / {worse}")
    return met, inside, contrary


def _describe_worth(scores: Scores, columns: Sequence[Column]) -> str:
    parts: list[str] = []
    for column in columns:
        gaps = [(name, scores.difference("ConViT", row, column.label)) for name, row in WORTH.items()]
        known = [f"{name} {gap.mean:+.1f}" for name, gap in gaps if gap is not None]
        if known:
            parts.append(f"at {column.label}: {', '.join(known)}")
    return f"Worth in points {'; '.join(parts)}." if parts else "Gates and initialization: no pair is done yet."


if __name__ == "__main__":
    parser = options(__doc__ or "")
    parser.add_argument("--shares", default="0.1", help="of the training images of each class")
    main(
        parser,
        lambda recipe, given: plan_ablation(
            recipe, read_shares(given.shares), given.seeds, given.data, given.epochs_at_full
        ),
    )
