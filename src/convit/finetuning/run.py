"""Fine-tuning from beginning to end: train by the plan, evaluate on the validation images, write the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from convit.data.corrupt import CorruptImages
from convit.data.datasets import ImageDataset
from convit.data.samples import Part, Samples
from convit.evaluation import Evaluation, Evaluator
from convit.evaluation.report import keep_temperature
from convit.finetuning.cost import Cost
from convit.finetuning.plan import Plan
from convit.finetuning.report import RunSummary, write_report
from convit.output.files import check_packages
from convit.training.run import UNREADABLE, WEIGHTS, is_first_process, run_recipe
from convit.training.splits import Split, open_split
from convit.weights import load_model

Bar = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
LEFT_BY_RUNS = ("recipe.yaml", WEIGHTS, "checkpoints", "report.html")


@dataclass(frozen=True)
class FinetuneResult:
    """What a run left.

    Attributes:
        weights: the trained file.
        report: `report.html`.
        evaluation: of the weights on the validation images; None where the recipe was changed to have none.
        unreadable: name and problem of every image that could not be read.
    """

    weights: Path
    report: Path
    evaluation: Evaluation | None
    unreadable: dict[str, str]


def validation_images(dataset: ImageDataset, root: Path) -> Samples:
    """The validation images of a run as `convit evaluate` takes them: encoded, named within `root`."""
    images = Part(dataset.samples, dataset.indices)
    images.names = [shorten(images.where(place), root) for place in range(len(images))]
    images.classes = None  # the labels are the model's own, whatever the data call their classes
    return images


def shorten(name: str, root: Path) -> str:
    """An image's name within the folder of the run's data."""
    return name.removeprefix(f"{root}/")


def check_free(output: Path, source: str | Path) -> None:
    """Refuse an output folder that holds a run already, or that would become a class of the images.

    Raises:
        FileExistsError: it holds a run.
        NotADirectoryError: it is a file.
        ValueError: it lies inside the folder of images.
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
            f"the output {output} lies inside the folder of images {source}, where it would become a class; choose "
            f"another --output"
        )


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
        ImportError: a package of the extra `evaluate` is not installed, which the report needs.
        Whatever `convit.training.run.run_recipe` raises.
    """
    check_packages("the report of a fine-tuning run", "scipy", "sklearn", "matplotlib", "jinja2", extra="evaluate")
    begun = time.monotonic()
    weights = run_recipe(plan.recipe, plan.root, output, resume=resume, quiet=quiet, opened=plan.opened)
    if not is_first_process():
        return None
    trained = time.monotonic() - begun
    model = load_model(weights)
    split = open_split(plan.recipe, plan.root, model.config.image_height, model.config.image_width, opened=plan.opened)
    classes = split.classes or tuple(f"class {index}" for index in range(model.config.num_classes))
    images, evaluation = None, None
    if isinstance(split.validation, ImageDataset):
        images = validation_images(split.validation, plan.root)
        with bar("validation", len(images)) as advance:
            # upright, as they were trained on
            evaluation = keep_temperature(Evaluator(weights=weights).evaluate(images, advance, calibrate=True), weights)
    left_out = CorruptImages(output / UNREADABLE, plan.recipe.data.corrupt_limit).reasons()
    unreadable = {each["name"]: each["error"] for each in (evaluation.errors if evaluation else ())}
    unreadable |= {shorten(name, plan.root): reason for name, reason in left_out.items()}
    counts = _counts(split, classes, unreadable, plan.root)
    summary = RunSummary(plan, model.config, counts, unreadable, trained, cost)
    report = write_report(output, weights, summary, evaluation, images)
    return FinetuneResult(weights, report, evaluation, unreadable)


def _counts(
    split: Split, classes: tuple[str, ...], unreadable: dict[str, str], root: Path
) -> list[tuple[str, int, int]]:
    """(class, training images, validation images), of those that could be read."""
    numbers: list[list[int]] = []
    for part in (split.train, split.validation):
        found = [0] * len(classes)
        if isinstance(part, ImageDataset):
            for index, place in enumerate(part.indices):
                found[part.label(index)] += shorten(part.samples.where(place), root) not in unreadable
        numbers.append(found)
    return list(zip(classes, *numbers, strict=True))
