"""`convit classify`: the most likely classes of images and folders of images."""

from dataclasses import replace
from typing import Annotated, Literal

import typer

from convit.cli import options
from convit.cli.images import carry_out, prepare
from convit.inference.options import RunOptions

Format = Annotated[
    Literal["table", "json", "jsonl", "csv", "parquet"] | None,
    typer.Option(
        "--format", help="How to write.  [default: the output's suffix; else a table on a terminal, jsonl in a pipe]"
    ),
]
TopK = Annotated[int, typer.Option("--top-k", "-k", min=1, metavar="K", help="How many classes per image.")]


def classify(
    paths: options.Paths,
    model: options.Model = None,
    weights: options.Weights = None,
    top_k: TopK = 5,
    output: options.Output = None,
    format: Format = None,  # noqa: A002  # the option's name
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    img_size: options.ImgSize = None,
    recursive: options.Recursive = True,
    exif: options.Exif = True,
    fast_decode: options.FastDecode = False,
    decode: options.Decode = "cpu",
    compile: options.Compile = False,  # noqa: A002
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Label images: the most likely classes of each, with their probabilities.

    One row per image: its path, the classes, and an error where it could not be read. The exit code is 3 then.
    """
    run = RunOptions(
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
        apply_exif=exif,
        img_size=options.parse_size(img_size),
        fast_decode=fast_decode,
        decode=decode,
        compile=compile,
    )
    job = prepare(
        paths, "classification", output=output, format=format, recursive=recursive, overwrite=overwrite, quiet=quiet
    )
    from convit.inference import Classifier

    if precision == "int8":
        run = replace(run, calibration=options.spread(job.files))
    classifier = Classifier(model, weights=weights, top_k=top_k, options=run)
    carry_out(job, classifier, top_k=classifier.top_k, about={"model": classifier.name})
