"""`convit classify`: the most likely classes of images and folders of images."""

from typing import Annotated, Literal

import typer

from convit.cli import options
from convit.cli.images import carry_out, prepare

Format = Annotated[
    Literal["table", "json", "jsonl", "csv", "parquet"] | None,
    typer.Option(
        "--format",
        help="Output format.  [default: from the output's suffix; else a table on a terminal, jsonl in a pipe]",
    ),
]
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
