"""`convit index`: a folder's vectors, kept up to date."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from convit.cli import options
from convit.cli.errors import leave_if_unreadable
from convit.cli.progress import bar

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of images.")]
Db = Annotated[Path, typer.Option("--db", metavar="DIR", help="Folder of the index; created if needed.")]
CommitEvery = Annotated[
    int, typer.Option(min=1, metavar="N", help="Save progress every N images, or every five seconds.")
]
ApproximateFrom = Annotated[
    int, typer.Option(min=1, metavar="N", help="Index size from which searches without --where are approximate.")
]


def index(
    folder: Folder,
    db: Db,
    model: options.Model = None,
    weights: options.Weights = None,
    run: options.EmbeddingRun = options.DEFAULTS,
    commit_every: CommitEvery = 256,
    approximate_from: ApproximateFrom = 200_000,
    quiet: options.Quiet = False,
) -> None:
    """Build or update a search index of a folder.

    Embeds new and changed images and removes deleted ones. An interrupted run continues where it stopped. The exit code
    is 3 if some images could not be read.
    """
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: there is no such folder; check the path")
    from convit.search import Index

    opened = Index.open(
        db,
        create=True,
        model=model,
        weights=weights,
        approximate_from=approximate_from,
        device=run.device,
        precision=run.precision,
        batch_size=run.batch_size,
        workers=run.workers,
    )
    with ExitStack() as shown:
        advance = None

        def expect(images: int) -> None:
            nonlocal advance
            advance = shown.enter_context(bar("images", images, shown=not quiet))

        def step() -> None:
            if advance is not None:
                advance()

        done = opened.update(folder, commit_every=commit_every, expect=expect, advance=step)
    if not quiet:
        print(
            f"convit: {len(opened):,} images in {db}: {done.new:,} new, {done.changed:,} changed, {done.removed:,} "
            f"removed, {done.unchanged:,} as before",
            file=sys.stderr,
        )
        if done.is_approximate:
            print("convit: searches are approximate from now on, by a vector index", file=sys.stderr)
    leave_if_unreadable(done.unreadable, quiet=quiet)
