"""Fine-tuning from beginning to end: train by the plan, evaluate on the validation images, write the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from convit.data.classes import are_ids
from convit.data.corrupt import CorruptImages
from convit.data.datasets import ImageDataset
from convit.data.folders import LabeledFiles
from convit.data.samples import Part, Samples
from convit.evaluation import Evaluation, Evaluator
from convit.evaluation.report import keep_temperature
from convit.finetuning.baseline import Baseline, fit_baseline, read_baseline
from convit.finetuning.cost import Cost, advise, measure
from convit.finetuning.options import FinetuneOptions, check_places, default_folder
from convit.finetuning.plan import PLAN_FILE, Plan, plan_finetune, resume_plan
from convit.finetuning.rates import choose_by_trying
from convit.finetuning.report import RunSummary, write_report
from convit.finetuning.settings import StartingWeights, find_starting_weights
from convit.optimization.precision import pick_device
from convit.optimization.timing import thread_count
from convit.output.files import check_packages
from convit.training.places import RECIPE, goes_on, last_checkpoint
from convit.training.run import is_first_process, run_recipe, speaker
from convit.training.run_folder import UNREADABLE, WEIGHTS, TrainingRun
from convit.training.splits import Split
from convit.weights import WEIGHT_SETS, fetch_weights, load_model
from convit.weights.labels import numbered_classes
from convit.weights.progress import bar


class FinetuneRun(TrainingRun):
    """What fine-tuning left.

    Attributes:
        name: of the images.
        evaluation: of the weights on the validation images; None if the recipe was changed to have none.
        test: evaluation on the data's own test part, which nothing was selected on; None if there is none.
        baseline: of logistic regression on the validation images, before training; None if there was none.
        advice: what to try next; empty if there is nothing to say.
        unreadable: name and problem of every image that could not be read.
    """

    def __init__(self, folder: Path, summary: RunSummary) -> None:
        super().__init__(folder)
        self.name = summary.plan.recipe.data.name
        self.evaluation, self.test, self.baseline = summary.evaluation, summary.test, summary.baseline
        self.unreadable, self.advice = summary.unreadable, summary.advice


def images_to_score(samples: Samples, places: Sequence[int], root: Path) -> Samples:
    """Some images of a run's data as `convit evaluate` takes them: encoded, named within `root`."""
    images = Part(samples, places)
    images.names = [shorten(images.where(place), root) for place in range(len(images))]
    if not are_ids(samples.class_names or ()):
        images.classes = None  # the labels are the model's own, whatever the data call their classes
    return images


def shorten(name: str, root: Path) -> str:
    """An image's name within the folder of the run's data."""
    return name.removeprefix(f"{root}/")


def fetch_start(model: str | None) -> StartingWeights:
    """Find and fetch the weights to begin with, so that an absent network is said before the images are measured.

    Raises:
        Whatever `convit.weights.fetch_weights` raises.
    """
    start = find_starting_weights(model)
    if start.weights in WEIGHT_SETS:
        fetch_weights(WEIGHT_SETS[start.weights])
    return start


def prepare(
    images: str | Path, options: FinetuneOptions, say: Callable[[str], None], start: StartingWeights | None = None
) -> tuple[Plan, Cost]:
    """Look at images, plan, and measure what the run will cost; `say` hears what is found, `start` is what was fetched.

    Raises:
        Whatever `plan_finetune` raises.
    """
    say("reading the images…")
    plan = plan_finetune(images, options, start=start)
    say(f"found {plan.images.layout}: {len(plan.images.samples):,} images")
    for warning in plan.warnings:
        say(f"warning: {warning}")
    return measure(plan, pick_device())


def say_cost(plan: Plan, cost: Cost, say: Callable[[str], None]) -> None:
    """Say what a run will take, and of long ones which ways are cheaper."""
    say(f"fine-tuning {plan.recipe.model.start}, {plan.recipe.run.batch_size} images per step; {cost}")
    if (cheaper := advise(plan, cost)) is not None:
        say(cheaper)


def finetune(
    images: str | Path,
    output: str | Path | None = None,
    *,
    options: FinetuneOptions | None = None,
    resume: bool = False,
    quiet: bool = False,
    **changes: Any,
) -> FinetuneRun | None:
    """Fine-tune a classifier on images, as `convit finetune` does, and write `report.html` beside the weights.

    Logistic regression on the embeddings of the weights to begin with is the baseline; with a frozen backbone the head
    starts from it.

    Args:
        images: a folder with a sub-folder per class, or another form that `convit.data.open_samples` takes.
        output: the run's folder; None for runs/NAME, after the images.
        options: what is asked for; the rest is chosen by looking at the images.
        resume: goes on from the last checkpoint.
        quiet: says nothing on standard error.
        changes: fields of `FinetuneOptions` to take instead of those in `options`: model, epochs, lr, freeze, …

    Returns:
        The run: its `history`, `model`, `classifier`, `report` and `evaluation`. None in processes but the first.

    Raises:
        FileExistsError: the folder holds a run already, and `resume` is off.
        ImportError: a package of the extra `evaluate` is not installed, which the report needs.
        TypeError: there is no such option.
        ValueError, OSError: the images, weights or settings do not fit, as `plan_finetune` and `run_recipe` say.

    For example::

        run = convit.finetune("photos/", model="convit_small.fb_in1k", epochs=10)
        run.classifier("new.jpg")
    """
    check_packages("the report of a fine-tuning run", "scipy", "sklearn", "matplotlib", "jinja2", extra="evaluate")
    wanted, say = replace(options or FinetuneOptions(), **changes), speaker(quiet=quiet)
    folder = Path(output or default_folder(images))
    first, start = is_first_process(), None
    resume = goes_on(folder, resume=resume)
    if first and not resume:
        check_places(images, folder)
        start = fetch_start(wanted.model)
    cost, baseline, head = None, None, None
    if resume:
        plan = resume_plan(images, folder, wanted)
    else:
        plan, cost = prepare(images, wanted, say, start)
    frozen = "backbone" in plan.recipe.model.freeze
    with thread_count(plan.recipe.run.threads):
        if last_checkpoint(folder) is not None:
            baseline = read_baseline(folder)
        elif (first or frozen) and (found := fit_baseline(plan, quiet=quiet)) is not None:
            baseline, head = found
            say(f"baseline: {baseline}")
            if cost is not None:
                cost = replace(cost, training=cost.training - baseline.unreadable)
        if not frozen:
            head = None
        if cost is not None:
            say_cost(plan, cost, say)
            plan = choose_by_trying(plan, head, pick_device())
    if first:
        plan.save(folder, baseline=baseline and asdict(baseline))
    begun = time.monotonic()
    try:
        opened = plan.images.opened()
        run_recipe(plan.recipe, plan.images.root, folder, resume=resume, quiet=quiet, opened=opened, head=head)
    finally:
        if first and not (folder / RECIPE).is_file():  # it did not begin
            (folder / PLAN_FILE).unlink(missing_ok=True)
            with suppress(OSError):  # other files are there
                folder.rmdir()
    return _evaluate(plan, folder, cost, baseline, time.monotonic() - begun, quiet=quiet) if first else None


def _evaluate(
    plan: Plan, folder: Path, cost: Cost | None, baseline: Baseline | None, seconds: float, *, quiet: bool
) -> FinetuneRun:
    """Measure the weights on the validation images, then once on the test part, and write the report."""
    weights, root = folder / WEIGHTS, plan.images.root
    model = load_model(weights)
    split = plan.split(model)
    classes = split.classes or numbered_classes(model.num_classes)
    images, evaluation = None, None
    if isinstance(split.validation, ImageDataset):
        images = images_to_score(split.validation.samples, split.validation.indices, root)
        with bar("validation", len(images), shown=not quiet) as advance:
            # upright, as they were trained on
            evaluation = keep_temperature(Evaluator(weights=weights).evaluate(images, advance, calibrate=True), weights)
    test = _test(plan, weights, quiet=quiet)
    for warning in (copied := list(_copied(split, plan.images.test))):
        speaker(quiet=quiet)(f"warning: {warning}")
    plan = replace(plan, warnings=(*plan.warnings, *copied))
    left_out = CorruptImages(folder / UNREADABLE, plan.recipe.data.corrupt_limit, root=root).reasons()
    unreadable = {each["name"]: each["error"] for found in (evaluation, test) if found for each in found.errors}
    unreadable |= left_out
    counts = _counts(split, classes, unreadable, root)
    summary = RunSummary(plan, model.config, counts, unreadable, seconds, cost, baseline, evaluation, test)
    write_report(folder, summary, images)
    return FinetuneRun(folder, summary)


def _test(plan: Plan, weights: Path, *, quiet: bool) -> Evaluation | None:
    """Score the data's own test part; None if there is none, or no image of it can be read."""
    if plan.images.test is None:
        return None
    images = images_to_score(plan.images.test, range(len(plan.images.test)), plan.images.root)
    try:
        with bar("test", len(images), shown=not quiet) as advance:
            return Evaluator(weights=weights).evaluate(images, advance)
    except ValueError as error:  # the run is worth its report nevertheless
        speaker(quiet=quiet)(f"warning: the test part is not scored: {error}")
        return None


def _copied(split: Split, test: Samples | None) -> Iterator[str]:
    """Say which parts hold the very files that were trained on, where images are files of their own."""
    parts = {"validation": split.validation, "test": test and ImageDataset(test)}
    scored = {name: part for name, part in parts.items() if isinstance(part, ImageDataset)}
    sizes = {_size(part.samples, place) for part in scored.values() for place in part.indices}
    # a copy has the size of what it was copied from: no other training image is read for it
    trained = set(_digests(split.train, sizes)) if isinstance(split.train, ImageDataset) else ()
    for name, part in scored.items():
        found = _digests(part, sizes)
        if copies := sum(each in trained for each in found):
            yield (
                f"{copies:,} of {len(found):,} {name} images are copies of training images, byte for byte, so that the "
                "accuracy on them is flattered; `convit duplicates` names them"
            )


def _size(samples: Samples, place: int) -> int | None:
    """Bytes of an image's file; None where it has no file of its own."""
    return samples.stat(place)[0] if isinstance(samples, LabeledFiles) else None


def _digests(part: ImageDataset, sizes: Collection[int | None]) -> list[bytes]:
    """The sha256 of each image that can be read and whose file has one of these sizes."""
    samples = part.samples
    if samples.digests is None:
        return []
    return samples.digests.at((place for place in part.indices if _size(samples, place) in sizes), samples.content)


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
