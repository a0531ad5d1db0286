"""`convit index` keeps the vectors of a folder up to date; `convit search` finds the images most like one."""

import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from convit.cli import options
from convit.cli.errors import leave_if_unreadable
from convit.output.console import print_result
from convit.weights.progress import bar

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
        counts = {name: getattr(done, name) for name in ("new", "changed", "removed", "unchanged")}
        print_result(None, {"db": db, "images": len(opened), **counts})
    leave_if_unreadable(done.unreadable, quiet=quiet)


COLUMNS = ("rank", "path", "score", "label", "width", "height")
Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="Image to search for.")]
ExistingDb = Annotated[Path, typer.Option("--db", metavar="DIR", help="Folder of the index, from convit index.")]
Where = Annotated[
    str | None,
    typer.Option(
        metavar="SQL",
        help="Only images that match this condition on path, label, width, height, size: "
        "\"label = 'cat' AND width > 640\"",
    ),
]
K = Annotated[int, typer.Option("-k", min=1, metavar="N", help="Number of images to find.")]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page with the images.")]


def search(
    image: Image,
    db: ExistingDb,
    where: Where = None,
    k: K = 10,
    output: options.RowsOutput = None,
    html: Html = None,
    model: options.Model = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.PlainPrecision = "auto",
    approximate_from: ApproximateFrom = 200_000,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the images in an index that are most similar to a given one.

    The model that built the index is used; it need not be named. Scores are cosine similarities, 1 for identical.
    """
    from convit.output import check_output, choose_format, write_rows
    from convit.output.files import write_file

    format = choose_format(output, None, "rows")  # noqa: A001
    for file in (output, html):
        if file is not None:
            check_output(file, overwrite=overwrite)
    from convit.search import Index, search_page

    opened = Index.open(
        db, model=model, weights=weights, approximate_from=approximate_from, device=device, precision=precision
    )
    hits = opened.search(image, k, where=where)
    rows = [{**asdict(hit), "score": round(hit.score, 6)} for hit in hits]
    head = f"# Images like {image.name}"
    write_rows(rows, COLUMNS, output, format, head=head, overwrite=overwrite)
    if html is not None:
        condition = f", of those where {where}" if where else ""
        about = f"The {len(hits)} most similar of {len(opened):,}{condition}, by vectors of {opened.model_name}."
        write_file(html, search_page(hits, image, opened.root, about), overwrite=overwrite)
