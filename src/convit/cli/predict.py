"""`convit classify` and `convit embed`: one row for every image.

The order matters to the user: whatever can be wrong with paths, format or output is found before a model is imported,
fetched or loaded.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from convit.cli import errors, job_options, options
from convit.inference.options import RunOptions, check_kind
from convit.output.files import FORMATS_OF
from convit.weights.progress import bar

if TYPE_CHECKING:
    from convit.inference import Classifier, Embedder

TopK = Annotated[int, typer.Option("--top-k", "-k", min=1, metavar="K", help="Number of classes per image.")]


def classify(
    paths: options.Paths,
    model: options.Model = None,
    weights: options.Weights = None,
    top_k: TopK = 5,
    target: Annotated[options.Target, options.results(*FORMATS_OF["classification"], folders=True)] = options.STDOUT,
    recursive: options.Recursive = True,
    lists: options.Lists = options.NO_LISTS,
    run: options.EvaluationRun = options.DEFAULTS,
    job: job_options.JobRun = job_options.NO_JOB,
) -> None:
    """Classify images: the most likely classes of each, with their probabilities.

    Writes one row per image: its path, its classes and, if it could not be read, the error; the exit code is then 3.
    """
    if target.folder is not None or job != job_options.NO_JOB:
        from convit.cli.jobs import Job, run_job

        sources = [lists.of(path) for path in paths]
        run_job(Job("classify", model, weights, run, {"top_k": top_k}), sources, target, job, recursive=recursive)
        return
    files, run, left_out = _find(paths, run, lists, recursive=recursive)
    from convit.inference.classifier import Classifier

    classifier = Classifier(model, weights=weights, top_k=top_k, options=run)
    about = {"model": classifier.name}
    _write(files, classifier, target, "classification", left_out, top_k=classifier.top_k, about=about)


Kind = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="pooled: one vector per image; pre_logits: that vector as it enters the head; tokens: class token and "
        "patches; patches: patch tokens only; layer:7: the patch tokens after block 7.",
    ),
]
Normalize = Annotated[bool, typer.Option("--normalize", help="Scale every vector to length 1.")]


def embed(
    paths: options.Paths,
    model: options.Model = None,
    weights: options.Weights = None,
    kind: Kind = "pooled",
    normalize: Normalize = False,
    target: Annotated[options.Target, options.results(*FORMATS_OF["embedding"], folders=True)] = options.STDOUT,
    recursive: options.Recursive = True,
    lists: options.Lists = options.NO_LISTS,
    run: options.EvaluationRun = options.DEFAULTS,
    job: job_options.JobRun = job_options.NO_JOB,
) -> None:
    """Compute embedding vectors of images, for search and clustering.

    Writes one row per image: its path, its vector and, if it could not be read, the error; the exit code is then 3.
    """
    check_kind(kind)
    if target.folder is not None or job != job_options.NO_JOB:
        from convit.cli.jobs import Job, run_job

        sources, settings = [lists.of(path) for path in paths], {"kind": kind, "normalize": normalize}
        run_job(Job("embed", model, weights, run, settings), sources, target, job, recursive=recursive)
        return
    files, run, left_out = _find(paths, run, lists, recursive=recursive)
    from convit.inference.embedder import Embedder

    embedder = Embedder(model, weights=weights, kind=kind, normalize=normalize, options=run)
    about = {"model": embedder.name, "kind": kind, "normalize": normalize}
    _write(files, embedder, target, "embedding", left_out, shape=embedder.shape, about=about)


def _find(
    paths: list[str], run: RunOptions, lists: options.ListOptions, *, recursive: bool
) -> tuple[list[Path], RunOptions, str]:
    """The images, in the order of the results, the run (for int8, with some of the images), and what was left out."""
    from convit.images.listing import describe_left_out, evenly_spaced, find_images

    errors.say_reading(*paths)
    left_out = Counter[str]()
    files = find_images([lists.of(path) for path in paths], recursive, left_out=left_out)
    if run.precision == "int8":
        run = replace(
            run, calibration=[files[place] for place in evenly_spaced(options.CALIBRATION_IMAGES, len(files))]
        )
    return files, run, describe_left_out(left_out)


def _write(
    files: list[Path],
    predictor: "Classifier | Embedder",
    target: options.Target,
    rows: Literal["classification", "embedding"],
    left_out: str,
    **layout: Any,
) -> None:
    """Run the predictor over the images and write one row for each; `layout` is what the writer must know of them."""
    from convit.output.writer import open_writer

    first_error = None
    # the bar is inside the writer: it has gone when a table is printed at the writer's end
    with (
        open_writer(
            target.output,
            target.format,
            rows,
            overwrite=target.overwrite,
            spreadsheet_safe=target.spreadsheet_safe,
            **layout,
        ) as writer,
        bar("images", len(files), shown=not target.on_terminal or target.format == "table") as advance,
    ):
        for result in predictor.iterate(files):
            writer.write(result)
            first_error = first_error or result.error
            advance()
    summary = [str(predictor.timings)] * (len(files) > 1) + [left_out] * bool(left_out)
    if summary:
        errors.say("; ".join(summary))
    errors.leave_if_skipped(writer.failed, len(files), target.output or "their rows", first_error or "")
