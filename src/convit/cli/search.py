"""`convit index` keeps the vectors of images up to date; `convit search` finds the images most like one."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from convit.cli import errors, options
from convit.images.names import given_path
from convit.weights.progress import bar

COMMIT_EVERY = 256
_APPROXIMATE = "searches are approximate from now on, by a vector index"
Source = Annotated[str | None, typer.Argument(metavar="FOLDER", help="Folder or list of images; or use --from.")]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="DIR|URL", help="Read vectors that convit embed wrote; no image is embedded."),
]
Db = Annotated[Path, typer.Option("--db", metavar="DIR", help="Folder of the index; created if needed.")]
CommitEvery = Annotated[
    int, typer.Option(min=1, metavar="N", help="Save progress every N images, or every five seconds.")
]
ApproximateFrom = Annotated[
    int, typer.Option(min=1, metavar="N", help="Index size from which searches without --where are approximate.")
]

IndexEngine = Annotated[
    Literal["local", "ray"],
    typer.Option("--engine", help="Only local: an index is built on one machine; ray shows how to embed on Ray first."),
]


def index(
    db: Db,
    folder: Source = None,
    vectors: From = None,
    lists: options.Lists = options.NO_LISTS,
    model: options.Model = None,
    weights: options.Weights = None,
    run: options.EmbeddingRun = options.DEFAULTS,
    commit_every: CommitEvery = COMMIT_EVERY,
    approximate_from: ApproximateFrom = 200_000,
    engine: IndexEngine = "local",
) -> None:
    """Build or update a search index of a folder or a list of images.

    Embeds new and changed images and removes deleted ones; with --from, reads new vectors of a job instead. An
    interrupted run continues where it stopped. The exit code is 3 if some images could not be read.
    """
    if engine == "ray":
        source = folder or "FOLDER"
        raise ValueError(
            f"an index is built on one machine; let Ray embed: convit embed {source} -o VECTORS/ --engine ray, then "
            f"convit index --from VECTORS/ --db {db}"
        )
    if (folder is None) == (vectors is None):
        raise ValueError("name a folder of images or the vectors of a job with --from, one of the two")
    opening: dict[str, Any] = {"model": model, "weights": weights, "approximate_from": approximate_from}
    if vectors is not None:
        if lists != options.NO_LISTS or run != options.DEFAULTS or commit_every != COMMIT_EVERY:
            raise ValueError("options of reading and embedding images have no effect with --from; leave them out")
        _index_vectors(vectors, db, opening)
        return
    opening |= run.changes
    _index_images(str(folder), lists.of(str(folder)), db, opening, commit_every)


def _index_images(folder: str, source: str, db: Path, opening: dict[str, Any], commit_every: int) -> None:
    """What `convit index` does with a folder, or with a list, whose `source` also says where its paths start."""
    from convit.images.lists import is_list, read_list
    from convit.images.names import not_found, remedy_for

    if is_list(source):
        read_list(source)  # a mistake in it is found before the model is loaded
    elif not Path(source).exists():
        raise not_found(Path(source), f"{source}: no such folder; {remedy_for(source)}")
    from convit.search.store import check_place

    check_place(db, create=True)
    errors.say_reading(folder)
    from convit.images.listing import describe_left_out
    from convit.search import Index

    opened = Index.open(db, create=True, **opening)
    with _progress("images") as steps:
        done = opened.update(source, commit_every=commit_every, **steps)
    errors.say(
        f"{len(opened):,} images in {db}: {done.new:,} new, {done.changed:,} changed, {done.removed:,} removed, "
        f"{done.unchanged:,} as before"
    )
    if line := describe_left_out(done.left_out):
        errors.say(line)
    if done.is_approximate:
        errors.say(_APPROXIMATE)
    counts = {name: getattr(done, name) for name in ("new", "changed", "removed", "unchanged")}
    options.print_result(None, {"db": db, "images": len(opened), **counts})
    errors.leave_if_unreadable(done.unreadable, len(opened))


def _index_vectors(place: str, db: Path, opening: dict[str, Any]) -> None:
    """What `convit index --from` does."""
    from convit.search.store import check_place

    check_place(db, create=True)
    from convit.scale.jobs import read_vectors

    errors.say_reading(place)
    vectors = read_vectors(place)
    from convit.search import Index

    opened = Index.open(db, create=True, **opening)
    with _progress("shards") as steps:
        done = opened.add_vectors(vectors, **steps)
    absent = f"; shards without results so far: {done.absent:,}" if done.absent else ""
    errors.say(
        f"{len(opened):,} images in {db}: {done.images:,} new in {done.shards:,} shards, {done.before:,} shards as "
        f"before, {done.removed:,} images removed{absent}"
    )
    if done.is_approximate:
        errors.say(_APPROXIMATE)
    counts = {name: getattr(done, name) for name in ("shards", "before", "absent", "removed", "unreadable")}
    options.print_result(None, {"db": db, "images": len(opened), "new": done.images, **counts})
    errors.leave_if_skipped(done.unreadable, None, vectors.place, done.first_error)


@contextmanager
def _progress(unit: str) -> Generator[dict[str, Any]]:
    """A bar that appears once it is known how much there is to do, as `expect` and `advance` of an index."""
    with ExitStack() as shown:
        advance = None

        def expect(count: int) -> None:
            nonlocal advance
            advance = shown.enter_context(bar(unit, count))

        yield {"expect": expect, "advance": lambda: advance() if advance else None}


COLUMNS = ("rank", "path", "score", "label", "width", "height")
Image = Annotated[Path, typer.Argument(metavar="IMAGE", parser=given_path, help="Image to search for.")]
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
    model: options.IndexModel = None,
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
    from convit.search.store import check_place

    check_place(db, create=False)
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
