"""`convit train` trains a model from a recipe; `convit plot` draws what training runs left."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convit.cli import errors, options

if TYPE_CHECKING:
    from convit.training.run_folder import TrainingRun

PACKAGES = ("lightning", "pydantic", "yaml", "fsspec")  # of the extra `train`

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file; see recipes/ for examples.")]
Data = Annotated[str, typer.Option(metavar="DIR|URL", help="Base folder or URL of the recipe's data paths.")]
RunFolder = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="Folder of the run.  [default: runs/NAME, after the input]"),
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume from the run's last checkpoint.")]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a recipe setting, such as data.workers=4; can be repeated."
    ),
]


def train(
    recipe: RecipeFile,
    data: Data = ".",
    output: RunFolder = None,
    resume: Resume = False,
    changes: Changes = None,
) -> None:
    """Train a model from a recipe; writes checkpoints, logs and weights.safetensors to the run's folder."""
    from convit.output.files import check_packages

    check_packages("training", *PACKAGES, extra="train")
    from convit.data.locate import check_there
    from convit.training.places import choose_checkpoint, default_folder, may_have_begun
    from convit.training.recipe_io import read_recipe

    chosen = read_recipe(recipe, changes or [])  # before torch is imported
    if not may_have_begun():
        choose_checkpoint(output or default_folder(chosen), resume=resume)
    sources = [source for source in (chosen.data.train, chosen.data.validation) if source is not None]
    for source in sources:
        check_there(source, data)
    errors.say_reading(*sources)
    from convit.training.run import is_first_process
    from convit.training.run import train as train_by

    run = train_by(chosen, data, output, resume=resume, quiet=errors.is_quiet())
    if is_first_process():
        _sum_up(run)
        errors.leave_if_skipped(len(run.skipped), run.images, run.folder / "corrupt.jsonl")


def _sum_up(run: TrainingRun) -> None:
    from convit.training.epoch_log import duration

    best, seconds = run.best, sum(line.get("seconds") or 0.0 for line in run.history)
    top1 = best.get("val_top1")
    lines = [] if top1 is None else [f"top-1    {top1:.2f} % of the validation images, in epoch {best['epoch']}"]
    lines += [f"time     {duration(seconds)}", f"weights  {run.weights}"]
    if best:  # else the weights are another library's
        lines += [f"use it   convit classify new/ --weights {shlex.quote(str(run.weights))}"]
    known = {"top1": top1, "epoch": best.get("epoch"), "seconds": seconds}
    options.print_result("\n".join(lines), {"weights": run.weights, **known})


Runs = Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders from `convit train`.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Output file: .png, .svg or .pdf.  [default: plot.png in the folder of a single run, replaced]",
    ),
]


def plot(runs: Runs, output: Output = None, overwrite: options.Overwrite = False) -> None:
    """Draw loss, top-1, learning rate, gates and non-locality of a training run over its epochs.

    Several runs are overlaid, without gates and non-locality. Prints the path of the figure.
    """
    from convit.output.files import check_output, check_packages, figure_format

    check_packages("a figure", "matplotlib", extra="plot")
    from convit.training.places import find_log

    if output is None and len({run.resolve() for run in runs}) > 1:
        raise ValueError("several runs need a place for their figure; name it, such as --output runs.png")
    target = output or runs[0] / "plot.png"
    figure_format(target)
    if output is not None:
        check_output(output, overwrite=overwrite)
    for run in runs:
        find_log(run)
    from convit.output.plots import save_figure
    from convit.training.plots import draw_runs

    save_figure(draw_runs(runs), target, overwrite=overwrite or output is None)
    options.print_result(str(target), {"path": target})
