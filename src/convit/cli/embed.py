"""`convit embed`: images and folders of images as vectors."""

from typing import Annotated, Literal

import typer

from convit.cli import options
from convit.cli.images import carry_out, prepare
from convit.inference.options import check_kind

Format = Annotated[
    Literal["table", "json", "jsonl", "csv", "parquet", "npz"] | None,
    typer.Option(
        "--format",
        help="Output format.  [default: from the output's suffix; else a table on a terminal, jsonl in a pipe]",
    ),
]
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
    format: Format = None,  # noqa: A002  # the option's name
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
