"""Fine-tuning from beginning to end: train by the plan, label the validation pictures, write the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from lightning.fabric.utilities.rank_zero import rank_zero_only

from convit.data.corrupt import CorruptImages
from convit.data.datasets import ImageDataset
from convit.finetune.cost import Cost
from convit.finetune.plan import Plan
from convit.finetune.report import Facts, write_report
from convit.finetune.scores import Scores, score_pictures
from convit.training.run import WEIGHTS, run_recipe
from convit.training.splits import Split, open_split
from convit.weights import load_model

Bar = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
UNREADABLE = "corrupt.jsonl"  # the list that a run keeps of pictures that it left out
LEFT_BY_RUNS = ("recipe.yaml", WEIGHTS, "checkpoints", "report.html")


@dataclass(frozen=True)
class FinetuneResult:
    """What a run left.

    Attributes:
        weights: the trained file.
        report: `report.html`.
        scores: the weights on the validation pictures; None where the recipe was changed to have none.
        unreadable: name and problem of every picture that could not be read.
    """

    weights: Path
    report: Path
    scores: Scores | None
    unreadable: dict[str, str]


def check_free(output: Path, source: str | Path) -> None:
    """Refuse an output folder that holds a run already, or that would become a class of the pictures.

    Raises:
        FileExistsError: it holds a run.
        NotADirectoryError: it is a file.
        ValueError: it lies inside the folder of pictures.
    """
    if output.is_file():
        raise NotADirectoryError(f"{output} is a file, but a run needs a folder; choose another --output")
    found = next((name for name in LEFT_BY_RUNS if (output / name).exists()), None)
    if found is not None:
        raise FileExistsError(
            f"{output} holds a run already ({found}); go on with --resume, or choose another --output"
        )
    if Path(source).is_dir() and output.resolve().is_relative_to(Path(source).resolve()):
        raise ValueError(
            f"the output {output} lies inside the pictures' folder {source}, where it would become a class; choose "
            f"another --output"
        )


def is_first_process() -> bool:
    """Whether this is the process that speaks and writes; where the recipe asks for several, the others only train."""
    return not getattr(rank_zero_only, "rank", 0)


def finetune(
    plan: Plan,
    output: Path,
    *,
    cost: Cost | None = None,
    resume: bool = False,
    quiet: bool = False,
    bar: Bar = lambda what, total: nullcontext(lambda: None),
) -> FinetuneResult | None:
    """Train by a plan, evaluate, and write `report.html` and `report.json` beside the weights.

    Args:
        plan: what `plan_finetune` or `resume_plan` gave.
        output: the run's folder.
        cost: what was said beforehand, for the report.
        resume: goes on from the last checkpoint.
        quiet: shows no bar.
        bar: shows how far the evaluation has come.

    Returns:
        What the run left; None in processes other than the first.

    Raises:
        Whatever `convit.training.run.run_recipe` raises.
    """
    begun = time.monotonic()
    weights = run_recipe(plan.recipe, plan.root, output, resume=resume, quiet=quiet)
    if not is_first_process():
        return None
    trained = time.monotonic() - begun
    model = load_model(weights)
    split = open_split(plan.recipe, plan.root, model.config.image_height, model.config.image_width)
    classes = split.classes or tuple(f"class {index}" for index in range(model.config.num_classes))
    scores = None
    if isinstance(split.validation, ImageDataset):
        with bar("validation", len(split.validation)) as advance:
            scores = score_pictures(weights, split.validation, classes, advance)
    left_out = CorruptImages(output / UNREADABLE, plan.recipe.data.corrupt_limit).reasons()
    unreadable = {**left_out, **(scores.unreadable if scores else {})}
    facts = Facts(plan, model.config, classes, _counts(split, classes, unreadable), unreadable, trained, cost)
    report = write_report(output, weights, facts, scores, split.validation)
    return FinetuneResult(weights, report, scores, unreadable)


def _counts(split: Split, classes: tuple[str, ...], unreadable: dict[str, str]) -> list[tuple[str, int, int]]:
    """(class, training pictures, validation pictures), of those that could be read."""
    numbers: list[list[int]] = []
    for part in (split.train, split.validation):
        found = [0] * len(classes)
        if isinstance(part, ImageDataset):
            for index, place in enumerate(part.indices):
                found[part.label(index)] += part.samples.names[place] not in unreadable
        numbers.append(found)
    return list(zip(classes, *numbers, strict=True))
