"""`convit index` keeps the vectors of images up to date; `convit search` finds the images most like one."""

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from convit.cli import errors, options
from convit.weights.progress import bar

Source = Annotated[str, typer.Argument(metavar="FOLDER", help="Folder or list of images.")]
Db = Annotated[Path, typer.Option("--db", metavar="DIR", help="Folder of the index; created if needed.")]
CommitEvery = Annotated[
    int, typer.Option(min=1, metavar="N", help="Save progress every N images, or every five seconds.")
]
ApproximateFrom = Annotated[
    int, typer.Option(min=1, metavar="N", help="Index size from which searches without --where are approximate.")
]


def index(
    folder: Source,
    db: Db,
    lists: options.Lists = options.NO_LISTS,
    model: options.Model = None,
    weights: options.Weights = None,
    run: options.EmbeddingRun = options.DEFAULTS,
    commit_every: CommitEvery = 256,
    approximate_from: ApproximateFrom = 200_000,
) -> None:
    """Build or update a search index of a folder or a list of images.

    Embeds new and changed images and removes deleted ones. An interrupted run continues where it stopped. The exit code
    is 3 if some images could not be read.
    """
    source = lists.of(folder)
    from convit.images.lists import is_list, read_list

    if is_list(source):
        read_list(source)  # a mistake in it is found before the model is loaded
    elif not Path(source).exists():
        raise FileNotFoundError(f"{source}: there is no such folder; check the path")
    from convit.search.store import check_place

    check_place(db, create=True)
    errors.say_reading(folder)
    from convit.images.listing import describe_left_out
    from convit.search import Index

    opened = Index.open(
        db,
        create=True,
        model=model,
        weights=weights,
        approximate_from=approximate_from,
        **{name: getattr(run, name) for name in options.EMBEDDING},
    )
    with ExitStack() as shown:
        advance = None

        def expect(images: int) -> None:
            nonlocal advance
            advance = shown.enter_context(bar("images", images))

        def step() -> None:
            if advance is not None:
                advance()

        done = opened.update(source, commit_every=commit_every, expect=expect, advance=step)
    errors.say(
        f"{len(opened):,} images in {db}: {done.new:,} new, {done.changed:,} changed, {done.removed:,} removed, "
        f"{done.unchanged:,} as before"
    )
    if line := describe_left_out(done.left_out):
        errors.say(line)
    if done.is_approximate:
        errors.say("searches are approximate from now on, by a vector index")
    counts = {name: getattr(done, name) for name in ("new", "changed", "removed", "unchanged")}
    options.print_result(None, {"db": db, "images": len(opened), **counts})
    errors.leave_if_unreadable(done.unreadable, len(opened))


COLUMNS = ("rank", "path", "score", "label", "width", "height")
Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="Image to search for.")]
ExistingDb = Annotated[Path, typer.Option("--db", metavar="DIR", help="Folder of the index, from convit index.")]
Where = Annotated[
    str | None,
    typer.Option(
        metavar="CONDITION",
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
    target: options.Rows = options.STDOUT,
    html: Html = None,
    model: options.Model = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.PlainPrecision = "auto",
    approximate_from: ApproximateFrom = 200_000,
) -> None:
    """Find the images in an index that are most similar to a given one.

    The model that built the index is used; it need not be named. Scores are cosine similarities, 1 for identical.
    """
    from convit.output.files import check_output, write_file

    if html is not None:
        check_output(html, overwrite=target.overwrite)
    from convit.images import open_image
    from convit.images.names import given_path
    from convit.search.store import check_place

    check_place(db, create=False)
    image = given_path(image)
    open_image(image)  # a mistake in it is found before the model is loaded
    from convit.search import Index, search_page

    opened = Index.open(
        db, model=model, weights=weights, approximate_from=approximate_from, device=device, precision=precision
    )
    hits = opened.search(image, k, where=where)
    rows = [{**asdict(hit), "score": round(hit.score, 6)} for hit in hits]
    target.write_rows(rows, COLUMNS, f"# Images like {image.name}")
    if html is not None:
        condition = f", of those where {where}" if where else ""
        about = f"The {len(hits)} most similar of {len(opened):,}{condition}, by vectors of {opened.model_name}."
        write_file(html, search_page(hits, image, opened.root, about, folder=html.parent), overwrite=target.overwrite)
