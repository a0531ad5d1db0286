"""`convit embed`: images and folders of images as vectors."""

from dataclasses import replace
from typing import Annotated, Literal

import typer

from convit.cli import options
from convit.cli.images import carry_out, prepare
from convit.inference.options import RunOptions, check_kind

Format = Annotated[
    Literal["table", "json", "jsonl", "csv", "parquet", "npz"] | None,
    typer.Option(
        "--format", help="How to write.  [default: the output's suffix; else a table on a terminal, jsonl in a pipe]"
    ),
]
Kind = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="pooled: one vector per image; pre_logits: the same as the head sees it; tokens: class token and patches; "
        "patches: patches alone; layer:7: the tokens after block 7.",
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
    """Turn images into vectors, for search and clustering.

    One row per image: its path, the vector, and an error where it could not be read. The exit code is 3 then.
    """
    check_kind(kind)
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
        paths, "embedding", output=output, format=format, recursive=recursive, overwrite=overwrite, quiet=quiet
    )
    from convit.inference import Embedder

    if precision == "int8":
        run = replace(run, calibration=options.spread(job.files))
    embedder = Embedder(model, weights=weights, kind=kind, normalize=normalize, options=run)
    about = {"model": embedder.name, "kind": kind, "normalize": normalize}
    carry_out(job, embedder, shape=embedder.shape, about=about)
