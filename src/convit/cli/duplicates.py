"""`convit duplicates`: images that are there twice, and labels that contradict each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convit.cli import messages, options
from convit.cli.errors import leave_if_unreadable
from convit.cli.progress import bar

if TYPE_CHECKING:
    from convit.search import Duplicate

COLUMNS = (
    *("kind", "first", "second", "first_label", "second_label", "labels_differ"),
    *("first_split", "second_split", "across_splits", "similarity", "difference"),
)
Source = Annotated[
    str | None, typer.Argument(metavar="FOLDER", help="A folder of images, or of WebDataset shards; or --db.")
]
Db = Annotated[Path | None, typer.Option("--db", metavar="DIR", help="An index, whose vectors spare the embedding.")]
Threshold = Annotated[float, typer.Option(metavar="COSINE", help="Least similarity of near-copies, -1 to 1.")]
Difference = Annotated[
    float, typer.Option(metavar="LEVELS", help="Most mean difference of their gray thumbnails, 0 to 255.")
]
Splits = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help="Only pairs across these: topmost folders (train/cat/1.jpg), or names of shards (train-000.tar).",
    ),
]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Also a page with the images, side by side.")]


def duplicates(
    folder: Source = None,
    db: Db = None,
    threshold: Threshold = 0.95,
    difference: Difference = 12.0,
    splits: Splits = None,
    output: options.RowsOutput = None,
    html: Html = None,
    model: options.Model = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.PlainPrecision = "auto",
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """List images that are there twice, and likely label errors: copies under different labels come first.

    Identical files are found by their hash; near-copies (recompressed, resized, slightly cropped) are alike to the
    model, and pixel by pixel. The exit code is 3 where some images could not be read.
    """
    from convit.output import check_output, choose_format, write_rows
    from convit.output.files import write_file

    if (folder is None) == (db is None):
        raise ValueError("name a folder of images or an index with --db, one of the two")
    _refuse_with_index(db, device != "auto", precision != "auto", batch_size is not None, workers is not None)
    if quiet:
        messages.quiet_output()
    format = choose_format(output, None, "rows")  # noqa: A001
    for file in (output, html):
        if file is not None:
            check_output(file, overwrite=overwrite)
    how = {"similarity": threshold, "difference": difference, "splits": _split_names(splits)}
    run = {"model": model, "weights": weights, "device": device, "precision": precision}
    run |= {"batch_size": batch_size, "workers": workers}
    found = _in_index(db, how, run) if db else _in_folder(str(folder), how, run, quiet)
    head = _summary(found, how)
    rows = [pair.as_row() for pair in found.pairs]
    write_rows(rows, COLUMNS, output, format, head=head, overwrite=overwrite)
    if html is not None:
        from convit.search import duplicates_page

        write_file(html, duplicates_page(found.pairs, head.splitlines()[-1], found.root), overwrite=overwrite)
    leave_if_unreadable(found.unreadable, quiet=quiet)


@dataclass(frozen=True)
class _Found:
    """What was found, where, and by which model."""

    pairs: "list[Duplicate]"
    place: str
    root: Path | None  # where the images are files, for links
    pictures: int
    model: str
    unreadable: dict[str, str]


def _refuse_with_index(db: Path | None, *given: bool) -> None:
    options = ("--device", "--precision", "--batch-size", "--workers")
    if db is not None and (named := [name for name, is_given in zip(options, given, strict=True) if is_given]):
        raise ValueError(f"{', '.join(named)} with --db has no effect, as nothing is embedded; leave it out")


def _in_index(db: Path, how: dict[str, Any], run: dict[str, Any]) -> _Found:
    from convit.search import Index

    index = Index.open(db, model=run["model"], weights=run["weights"])
    return _Found(index.duplicates(**how), index.root.name, index.root, len(index), index.model_name, {})


def _in_folder(folder: str, how: dict[str, Any], run: dict[str, Any], quiet: bool) -> _Found:
    from convit.data.locate import kind_of
    from convit.search.duplicates import check_criteria
    from convit.search.pictures import list_pictures

    pictures = list_pictures(folder)
    check_criteria(pictures, **how)
    from convit.inference import Embedder
    from convit.search import find_duplicates, read_collection

    embedder = Embedder(**run, normalize=True)
    with bar("images", len(pictures), shown=not quiet) as advance:
        collection = read_collection(folder, embedder, advance, pictures)
    pairs = find_duplicates(collection.pictures, collection.vectors, **how)
    place, root = Path(folder).resolve().name, Path(folder) if kind_of(folder).name == "folder" else None
    return _Found(pairs, place, root, len(collection.pictures), embedder.name, collection.unreadable)


def _split_names(splits: str | None) -> tuple[str, ...] | None:
    return None if splits is None else tuple(name.strip() for name in splits.split(","))


def _summary(found: _Found, how: dict[str, Any]) -> str:
    from convit.search.duplicates import CORRELATION

    copies = sum(pair.kind == "identical" for pair in found.pairs)
    differ = sum(pair.labels_differ for pair in found.pairs)
    across = sum(pair.across_splits for pair in found.pairs)
    pairs = "pair" if len(found.pairs) == 1 else "pairs"
    splits = f" across {' and '.join(how['splits'])}" if how["splits"] else ""
    return (
        f"# Duplicates in {found.place}\n\n{len(found.pairs)} {pairs} among {found.pictures:,} images{splits}: "
        f"{copies} of identical files, {len(found.pairs) - copies} of near-copies; {differ} under different labels, "
        f"{across} across splits. Near-copies: vectors of {found.model} with a cosine of at least "
        f"{how['similarity']:g}, and gray thumbnails (32 x 32) that differ by at most {how['difference']:g} of 255 "
        f"levels on average and whose correlation is at least {CORRELATION:g}."
    )
