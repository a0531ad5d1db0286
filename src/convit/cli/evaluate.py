"""`convit evaluate`: accuracy and loss of a model on labelled images."""

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from convit.cli import errors, options
from convit.cli.progress import bar

if TYPE_CHECKING:
    from convit.evaluation import Evaluation, LabelledImages

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A folder with a sub-folder per class; or WebDataset shards: a file, a pattern such as "
        "'val-{000..004}.tar.gz', or a folder of them.",
        show_default=False,
    ),
]
Format = Annotated[
    Literal["table", "json"] | None,
    typer.Option(
        "--format",
        help="How to write.  [default: the output's suffix; else a table on a terminal, json in a pipe]",
        show_default=False,
    ),
]
Exif = Annotated[
    bool,
    typer.Option(
        "--exif/--no-exif",
        help="Turn photographs the way their EXIF orientation says; published accuracies are without.",
    ),
]


def evaluate(
    data: Data,
    model: options.Model = None,
    weights: options.Weights = None,
    output: options.Output = None,
    format: Format = None,  # noqa: A002  # the option's name
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    img_size: options.ImgSize = None,
    exif: Exif = False,
    compile: options.Compile = False,  # noqa: A002
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure top-1, top-5 and loss on a labelled data set.

    Sub-folders, or a classes.json beside shards, are matched with the model's classes by name, by WordNet id or by
    number; shards without one hold the model's own class numbers. Images that cannot be read are named, left out of
    the figures, and make the exit code 3.
    """
    size = options.parse_size(img_size)
    chosen = _choose_format(output, format)
    if output is not None:
        from convit.inference import check_output

        check_output(output, overwrite=overwrite)
    if quiet:
        from convit.cli.messages import hush

        hush()
    from convit.evaluation import open_labelled

    images = open_labelled(data)

    from convit.evaluation import Evaluator

    evaluator = Evaluator(
        model,
        weights=weights,
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
        apply_exif=exif,
        img_size=size,
        compile=compile,
        calibration=_spread(images) if precision == "int8" else None,
    )
    with bar("images", images.count, shown=not quiet) as advance:
        evaluation = evaluator.evaluate(images, advance)
    _write(evaluation, output, chosen, overwrite=overwrite)
    if output is not None and not quiet:
        print(f"convit: {errors.one_line(str(evaluation))}", file=sys.stderr)
    if evaluation.errors:
        _say_what_failed(evaluation)
        raise typer.Exit(errors.SOME_UNREADABLE)


def _spread(images: "LabelledImages") -> list[Any]:
    """The contents of some images from all over the data, without their labels."""
    step = max(1, images.count // options.CALIBRATION_IMAGES)
    return [image.content for image in islice(images, 0, step * options.CALIBRATION_IMAGES, step)]


def _choose_format(output: Path | None, wanted: str | None) -> str:
    if wanted is not None:
        return wanted
    if output is None:
        return "table" if sys.stdout.isatty() else "json"
    chosen = {".json": "json", ".txt": "table"}.get(output.suffix.lower())
    if chosen is None:
        raise ValueError(f"{output} ends in neither .json nor .txt; rename it, or say --format json or --format table")
    return chosen


def _write(evaluation: "Evaluation", output: Path | None, chosen: str, *, overwrite: bool) -> None:
    from io import StringIO

    from convit.evaluation import write_table

    if output is None and chosen == "table":
        write_table(evaluation, sys.stdout)
        return
    text = StringIO(evaluation.to_json() if chosen == "json" else "")
    if chosen == "table":
        write_table(evaluation, text)
    if output is None:
        typer.echo(text.getvalue(), nl=False)
        return
    from convit.inference.output.files import whole_file

    with whole_file(output, overwrite=overwrite) as file:
        file.write(text.getvalue().encode())


def _say_what_failed(evaluation: "Evaluation") -> None:
    images = evaluation.count + evaluation.unreadable
    message = (
        f"{evaluation.unreadable} of {images} images could not be read and count in no figure; "
        f"the first: {evaluation.errors[0]['error']}"
    )
    print(f"convit: error: {errors.one_line(message)}", file=sys.stderr)
