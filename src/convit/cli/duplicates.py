"""`convit duplicates`: images that are there twice, and labels that contradict each other."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convit.cli import errors, options
from convit.weights.progress import bar

if TYPE_CHECKING:
    from convit.search import Duplicate

COLUMNS = (
    *("kind", "first", "second", "first_label", "second_label", "labels_differ"),
    *("first_split", "second_split", "across_splits", "similarity", "difference"),
)
Source = Annotated[
    str | None, typer.Argument(metavar="FOLDER", help="Folder or list of images, WebDataset shards; or use --db.")
]
Db = Annotated[
    Path | None,
    typer.Option("--db", metavar="DIR", help="Use the vectors of this index instead of embedding the images."),
]
Threshold = Annotated[float, typer.Option(metavar="COSINE", help="Minimum similarity of near-copies, -1 to 1.")]
Difference = Annotated[
    float, typer.Option(metavar="LEVELS", help="Maximum mean difference of their gray thumbnails, 0 to 255.")
]
Splits = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help="Only pairs across these splits: top-level folders (train/cat/1.jpg) or shard prefixes (train-000.tar).",
    ),
]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page with the images side by side.")]


def duplicates(
    folder: Source = None,
    db: Db = None,
    threshold: Threshold = 0.95,
    difference: Difference = 12.0,
    splits: Splits = None,
    target: options.Rows = options.STDOUT,
    html: Html = None,
    lists: options.Lists = options.NO_LISTS,
    model: options.Model = None,
    weights: options.Weights = None,
    run: options.EmbeddingRun = options.DEFAULTS,
) -> None:
    """Find duplicate images and likely label errors; copies with different labels come first.

    Identical files are found by their hash; near-copies (recompressed, resized, slightly cropped) by the model's
    embeddings and a pixel comparison. The exit code is 3 if some images could not be read.
    """
    from convit.output.files import check_output, write_file

    if (folder is None) == (db is None):
        raise ValueError("name a folder of images or an index with --db, one of the two")
    if db is not None and lists != options.NO_LISTS:
        raise ValueError("--images and --allow-outside say nothing of an index; leave them out")
    if db is not None and (given := run.changes):
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{named} with --db has no effect, as nothing is embedded; leave it out")
    if html is not None:
        check_output(html, overwrite=target.overwrite)
    if db is not None:
        from convit.search.store import check_place

        check_place(db, create=False)
    errors.say_reading(folder)
    named = None if splits is None else tuple(name.strip() for name in splits.split(","))
    how = {"similarity": threshold, "difference": difference, "splits": named}
    if db is not None:
        found = _in_index(db, how, model=model, weights=weights)
    else:
        found = _in_folder(lists.of(str(folder)), how, model=model, weights=weights, options=run)
    counts = _counts(found, how)
    errors.say(counts)
    summary = f"{counts}. {_near_copies(found, how)}"
    target.write_rows([pair.as_row() for pair in found.pairs], COLUMNS, f"# Duplicates in {found.place}\n\n{summary}")
    if html is not None:
        from convit.search import duplicates_page

        page = duplicates_page(found.pairs, summary, found.root, folder=html.parent)
        write_file(html, page, overwrite=target.overwrite)
    errors.leave_if_unreadable(found.unreadable, found.images)


@dataclass(frozen=True)
class _Found:
    """What was found, where, and by which model."""

    pairs: "list[Duplicate]"
    place: str
    root: Path | None  # where the images are files, for links
    images: int
    model: str
    unreadable: dict[str, str]


def _in_index(db: Path, how: dict[str, Any], **made_by: Any) -> _Found:
    from convit.search import Index

    index = Index.open(db, **made_by)
    return _Found(index.duplicates(**how), index.place.name, index.root, len(index), index.model_name, {})


def _in_folder(folder: str, how: dict[str, Any], **made_by: Any) -> _Found:
    from convit.data.locate import kind_of
    from convit.images.listing import describe_left_out
    from convit.images.lists import split_list
    from convit.search import Criteria, embed_images, find_duplicates, list_images

    left_out = Counter[str]()
    images = list_images(folder, left_out)
    Criteria(**how).check_splits(images)
    if line := describe_left_out(left_out):
        errors.say(line)
    from convit.inference import Embedder

    embedder = Embedder(**made_by, normalize=True)
    with bar("images", len(images)) as advance:
        embedded = embed_images(images, embedder, advance)
    pairs = find_duplicates(embedded.images, embedded.vectors, **how)
    place = Path(split_list(folder)[0]).resolve().name
    root = Path(folder) if kind_of(folder).name == "folder" else None
    return _Found(pairs, place, root, len(embedded.images), embedder.name, embedded.unreadable)


def _counts(found: _Found, how: dict[str, Any]) -> str:
    copies = sum(pair.kind == "identical" for pair in found.pairs)
    differ = sum(pair.labels_differ for pair in found.pairs)
    across = sum(pair.across_splits for pair in found.pairs)
    pairs = "pair" if len(found.pairs) == 1 else "pairs"
    splits = f" across {' and '.join(how['splits'])}" if how["splits"] else ""
    return (
        f"{len(found.pairs)} {pairs} among {found.images:,} images{splits}: {copies} of identical files, "
        f"{len(found.pairs) - copies} of near-copies; {differ} under different labels, {across} across splits"
    )


def _near_copies(found: _Found, how: dict[str, Any]) -> str:
    from convit.search import Criteria

    return (
        f"Near-copies: vectors of {found.model} with a cosine of at least {how['similarity']:g}, and gray thumbnails "
        f"(32 x 32) that differ by at most {how['difference']:g} of 255 levels on average and whose correlation is at "
        f"least {Criteria.correlation:g}."
    )
