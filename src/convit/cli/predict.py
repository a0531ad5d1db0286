"""`convit classify` and `convit embed`: one row for every image.

For both: find the images, check the output, run, write, count. The order matters to the user: whatever can be wrong
with paths, format or output is found before a model is imported, fetched or loaded.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from convit.cli import errors, options
from convit.inference.options import RunOptions, check_kind
from convit.weights.progress import bar

if TYPE_CHECKING:
    from convit.inference import Classifier, Embedder

Format = Annotated[Literal["table", "json", "jsonl", "csv", "parquet"] | None, options.FORMAT]
TopK = Annotated[int, typer.Option("--top-k", "-k", min=1, metavar="K", help="Number of classes per image.")]


def classify(
    paths: options.Paths,
    model: options.Model = None,
    weights: options.Weights = None,
    top_k: TopK = 5,
    output: options.Output = None,
    format: Format = None,  # noqa: A002  # the option's name
    recursive: options.Recursive = True,
    run: options.Run = options.DEFAULTS,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Classify images: the most likely classes of each, with their probabilities.

    Writes one row per image: its path, its classes and, if it could not be read, the error; the exit code is then 3.
    """
    job = prepare(
        paths,
        "classification",
        run,
        output=output,
        format=format,
        recursive=recursive,
        overwrite=overwrite,
        quiet=quiet,
    )
    from convit.inference import Classifier

    classifier = Classifier(model, weights=weights, top_k=top_k, options=job.run)
    carry_out(job, classifier, top_k=classifier.top_k, about={"model": classifier.name})


EmbeddingFormat = Annotated[Literal["table", "json", "jsonl", "csv", "parquet", "npz"] | None, options.FORMAT]
Kind = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="pooled: one vector per image; pre_logits: that vector as the head gets it; tokens: class token and "
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
    output: options.Output = None,
    format: EmbeddingFormat = None,  # noqa: A002  # the option's name
    recursive: options.Recursive = True,
    run: options.Run = options.DEFAULTS,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Compute embedding vectors of images, for search and clustering.

    Writes one row per image: its path, its vector and, if it could not be read, the error; the exit code is then 3.
    """
    check_kind(kind)
    job = prepare(
        paths, "embedding", run, output=output, format=format, recursive=recursive, overwrite=overwrite, quiet=quiet
    )
    from convit.inference import Embedder

    embedder = Embedder(model, weights=weights, kind=kind, normalize=normalize, options=job.run)
    about = {"model": embedder.name, "kind": kind, "normalize": normalize}
    carry_out(job, embedder, shape=embedder.shape, about=about)


Rows = Literal["classification", "embedding"]


@dataclass(frozen=True)
class Job:
    """A run whose paths and output have been checked.

    Attributes:
        files: The images, in the order of the results.
        output: The file to write, or None for standard output.
        format: How to write: table, json, jsonl, csv, parquet or npz.
        rows: Which kind of result is written.
        run: How the model is run; for int8, some of the images are what its ranges are chosen on.
        overwrite: Whether an existing output is replaced.
        quiet: Whether bar and summary are left out.
    """

    files: list[Path]
    output: Path | None
    format: str
    rows: Rows
    run: RunOptions
    overwrite: bool
    quiet: bool


def prepare(
    paths: list[Path],
    rows: Rows,
    run: RunOptions,
    *,
    output: Path | None,
    format: str | None,  # noqa: A002  # the option's name
    recursive: bool,
    overwrite: bool,
    quiet: bool,
) -> Job:
    """Find the images and check where the results go, without importing torch.

    Raises:
        FileNotFoundError: if a path, or the output's folder, does not exist.
        FileExistsError: if the output exists and `overwrite` is false.
        IsADirectoryError: if the output is a folder.
        PermissionError: if the output cannot be written.
        ValueError: if no image is found, or the format does not suit the rows or the output.
    """
    from convit.images import find_images
    from convit.output import check_output, choose_format

    chosen = choose_format(output, format, rows, to_terminal=sys.stdout.isatty())
    if output is not None:
        check_output(output, overwrite=overwrite)
    files = find_images(paths, recursive)
    if run.precision == "int8":
        run = replace(run, calibration=options.spread(files))
    return Job(files, output, chosen, rows, run, overwrite, quiet)


def carry_out(job: Job, predictor: "Classifier | Embedder", **layout: Any) -> None:
    """Run the predictor over the job's images and write one row for each, in order.

    Args:
        job: What `prepare` gave.
        predictor: Gives one result per image.
        **layout: What the writer must know of the rows: `top_k` or `shape`, and `about` for files that hold such notes.

    Raises:
        OSError: if the results cannot be written; nothing is left behind then.
        typer.Exit: with code 3, if some images could not be read; their rows say why.
    """
    from convit.output import open_writer

    rows_fill_the_terminal = job.output is None and job.format != "table" and sys.stdout.isatty()
    first_error = None
    # the bar is inside the writer: it has gone when a table is printed at the writer's end
    with (
        open_writer(job.output, job.format, job.rows, overwrite=job.overwrite, **layout) as writer,
        bar("images", len(job.files), shown=not (job.quiet or rows_fill_the_terminal)) as advance,
    ):
        for result in predictor.iterate(job.files):
            writer.write(result)
            first_error = first_error or result.error
            advance()
    if len(job.files) > 1 and not job.quiet:
        print(f"convit: {predictor.timings}", file=sys.stderr)
    if first_error is not None:
        _say_what_failed(first_error, writer.failed, len(job.files))
        raise typer.Exit(errors.SOME_UNREADABLE)


def _say_what_failed(first_error: str, failed: int, images: int) -> None:
    count = "" if images == 1 else f"{failed} of {images} images could not be read, see their rows; the first: "
    print(f"convit: error: {errors.one_line(count + first_error)}", file=sys.stderr)
