"""`convit finetune`: a classifier for somebody's own images, from one command."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from convit.cli import errors, options
from convit.cli.train import PACKAGES, Changes, Resume, RunFolder
from convit.inference.options import parse_size

if TYPE_CHECKING:
    from convit.evaluation import Evaluation
    from convit.finetuning.baseline import Baseline
    from convit.finetuning.run import FinetuneRun

WORST = 5  # classes in the summary

Source = Annotated[
    str,
    typer.Argument(
        metavar="IMAGES",
        help="Folder with one subfolder per class, or with train/ and val/ of that form; or a .csv of images and "
        "labels, shards, Parquet files or "
        "hub:OWNER/NAME.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Weights to start from: a name from `convit models` or a weight file.  [default: convit_small.fb_in1k on "
        "a GPU, convit_tiny.fb_in1k on a CPU; without a network: convit_mini_patch8_64.tiny_imagenet]",
    ),
]
Epochs = Annotated[
    int | None, typer.Option(metavar="N", help="Number of epochs.  [default: from the number of images]")
]
BatchSize = Annotated[
    int | None, typer.Option(metavar="N", help="Images per step.  [default: from the number of images]")
]
Rate = Annotated[
    float | None,
    typer.Option("--lr", metavar="X", help="Peak learning rate of the head.  [default: from the batch size]"),
]
Seed = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Random seed; also selects the validation images.  [default: 0]"),
]
Freeze = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PART",
        help="What to freeze: 'backbone' for all but the head (much cheaper), or a prefix of parameter names, "
        "such as blocks.0.; can be repeated.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the recipe, its reasons and its cost, and exit.")]


def finetune(
    images: Source,
    model: Model = None,
    output: RunFolder = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: Rate = None,
    img_size: options.ImgSize = None,
    freeze: Freeze = None,
    seed: Seed = None,
    changes: Changes = None,
    dry_run: DryRun = False,
    resume: Resume = False,
    lists: options.Lists = options.NO_LISTS,
) -> None:
    """Fine-tune a classifier on a folder of images; writes weights.safetensors and report.html.

    Epochs, batch size, learning rate, augmentation and validation images are chosen from the data; the report explains
    how. Images that cannot be read are listed and skipped; the exit code is then 3.
    """
    size = parse_size(img_size)
    from convit.output.files import check_packages

    check_packages("training", *PACKAGES, extra="train")
    from convit.finetuning.options import FinetuneOptions, check_places, default_folder
    from convit.training.places import goes_on, may_have_begun

    wanted = FinetuneOptions(model, size, epochs, batch_size, lr, seed, tuple(freeze or ()), tuple(changes or ()))
    source, folder = lists.of(images), output or default_folder(images)
    resume = goes_on(folder, resume=resume)
    if not (resume or dry_run or may_have_begun()):
        check_places(source, folder)
    errors.say_reading(images)
    from convit.finetuning.run import finetune as tune
    from convit.finetuning.run import prepare, say_cost

    if dry_run:
        from convit.images.names import escaped

        said: list[str] = []
        plan, cost = prepare(source, wanted, said.append)
        say_cost(plan, cost, said.append)
        typer.echo("".join(f"# {escaped(line)}\n" for line in said[1:]) + plan.to_yaml(), nl=False)
        return
    tuned = tune(source, folder, options=wanted, resume=resume, quiet=errors.is_quiet())
    if tuned is None:
        return
    if not errors.is_quiet():
        _sum_up(tuned)
        if tuned.advice:
            errors.say(tuned.advice)
    tested = tuned.test.count + tuned.test.unreadable if tuned.test else 0
    errors.leave_if_skipped(len(tuned.unreadable), (tuned.images or 0) + tested, tuned.report or tuned.folder)


def _sum_up(tuned: FinetuneRun) -> None:
    found, baseline = tuned.evaluation, tuned.baseline
    from convit.output.console import is_terminal, make_table, print_parts

    if found is not None and is_terminal(sys.stdout):
        print_parts(sys.stdout, make_table((tuned.name, ""), _rows(found, tuned.test, baseline), unfolded={0}))
    metrics = found and {"top1": found.top1, "interval": found.intervals["top1"], "count": found.count}
    others = {"test_top1": tuned.test and tuned.test.top1, "baseline_top1": baseline and baseline.top1}
    # below the table, where nothing folds them: they are there to be copied
    lines = f"report   {tuned.report}\nweights  {tuned.weights}\n"
    lines += f"use it   convit classify new/ --weights {shlex.quote(str(tuned.weights))}"
    options.print_result(lines, {"report": tuned.report, "weights": tuned.weights, **(metrics or {}), **others})


def _rows(evaluation: Evaluation, test: Evaluation | None, baseline: Baseline | None) -> list[tuple[str, str]]:
    """What the summary says of the validation images, and of the test part."""
    from convit.evaluation.report import class_name, confused_pairs
    from convit.finetuning.report import told_top1

    counts = {row["class"]: row["count"] for row in evaluation.per_class}
    worst = sorted(evaluation.per_class, key=lambda row: row["top1"])[:WORST]
    classes = [f"{row['name']}  {row['top1']:.1f} % of {row['count']:,}" for row in worst]
    mistaken = [
        f"{class_name(evaluation, right)} taken for {class_name(evaluation, taken)}  {number:,} of {counts[right]:,}"
        for right, taken, number in confused_pairs(evaluation, 3)
    ]
    label = "classes" if len(counts) <= WORST else "worst classes"
    return [
        ("top-1", f"{evaluation.top1:.1f} % ({told_top1(evaluation, 'validation')})"),
        *((("test top-1", f"{test.top1:.1f} % ({told_top1(test)})"),) if test else ()),
        *((("baseline", f"{baseline.top1:.1f} % (logistic regression on the embeddings)"),) if baseline else ()),
        ("mean over classes", f"{evaluation.mean_class_top1:.1f} %"),
        *((label if number == 0 else "", row) for number, row in enumerate(classes)),
        *(("mistaken" if number == 0 else "", row) for number, row in enumerate(mistaken)),
    ]
