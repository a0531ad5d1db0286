"""Images that a file lists: a CSV of images and labels, as on Kaggle, or one path per line."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from urllib.parse import parse_qs, quote

from convit.images.formats import IMAGE_SUFFIXES
from convit.images.names import is_remote, local_name, not_found, shown, text_path, url_path, was_url
from convit.images.opening import read_bytes

LIST_SUFFIXES = (".csv", ".tsv", ".txt")
# what the columns are called, the likeliest first, without case, blanks, dots, dashes and underscores
_IMAGE = (
    *("image", "images", "img", "imagename", "imagepath", "imagefile", "imagefilename", "imageid", "imgname"),
    *("imgpath", "imgid", "filename", "filepath", "file", "path", "fname", "idcode", "id", "name"),
)
LABEL_NAMES = (
    *("label", "labels", "finelabel", "classname", "class", "cls", "labelname", "classlabel", "category", "target"),
    *("classid", "labelid", "species"),
)
_OUTSIDE = "allow-outside"
_SAID = re.compile(rf"\?((?:(?:images|{_OUTSIDE})=[^&]*(?:&|$))+)$")


@dataclass(frozen=True)
class ImageList:
    """What a list names.

    Attributes:
        file: the list.
        folder: what the names start from.
        names: path of each image.
        labels: the label of each, as it is written; None if the list has none.
    """

    file: Path
    folder: Path
    names: list[str]
    labels: list[str] | None

    def distinct(self, *, one_label: bool = True) -> ImageList:
        """The list with an image that is named again, with the same label, only where it is first.

        Raises:
            ValueError: an image has two labels; without `one_label`, it then stays once for each.
        """
        found: dict[tuple[str, str | None], tuple[str, str | None]] = {}
        labels = dict[str, str | None]()
        for name, label in zip(self.names, self.labels or [None] * len(self.names), strict=True):
            place = os.path.normpath(name)
            if one_label and (known := labels.setdefault(place, label)) != label:
                raise ValueError(
                    f"{self.file} calls {name} {known!r} and also {label!r}, but an image has one label; keep one of "
                    "the lines"
                )
            found.setdefault((place, label), (name, label))
        names = [name for name, _ in found.values()]
        written = self.labels and [label for _, label in found.values() if label is not None]
        return replace(self, names=names, labels=written)


def is_list(source: str | os.PathLike[str]) -> bool:
    """Whether a source is a list of images, by its suffix; a folder is none, whatever it is called.

    >>> is_list("labels.csv"), is_list("labels.csv?images=photos"), is_list("photos")
    (True, True, False)
    """
    file = url_path(os.fspath(source)) if is_remote(source) else split_list(source)[0]
    return file.lower().endswith(LIST_SUFFIXES) and not os.path.isdir(file)  # noqa: PTH112  # of a name of any length


def split_list(source: str | os.PathLike[str]) -> tuple[str, str]:
    """The file of a list, and what `list_source` has said of it; any other "?" is part of a name.

    >>> split_list("Where?/labels.csv?images=photos"), split_list("Where?/labels.csv")
    (('Where?/labels.csv', 'images=photos'), ('Where?/labels.csv', ''))
    """
    file = os.fspath(source)
    said = _SAID.search(file)
    return (file, "") if said is None else (file[: said.start()], said[1])


def list_source(
    source: str | os.PathLike[str], images: str | os.PathLike[str] | None = None, *, allow_outside: bool = False
) -> str:
    """A list of images as a source that says where its paths start and whether they may leave that folder.

    Other sources stay as they are, but for `file:///` URLs: these become the paths that they mean.

    Raises:
        ValueError: there is something to say, and `source` is not a list, or is one at a URL.

    >>> list_source("labels.csv", "my/photos", allow_outside=True)
    'labels.csv?images=my%2Fphotos&allow-outside=yes'
    """
    source = local_name(os.fspath(source))
    said = [] if images is None else [f"images={quote(os.fspath(images), safe='')}"]
    said += [f"{_OUTSIDE}=yes"] if allow_outside else []
    if said and not is_list(source):
        raise ValueError(
            f"{source} is not a list of images ({', '.join(LIST_SUFFIXES)}), so --images and "
            "--allow-outside say nothing of it; leave them out"
        )
    if said and is_remote(source):
        raise ValueError(
            f"{shown(source)} is a list at a URL, whose paths start from its folder; leave out --images and "
            "--allow-outside"
        )
    return source + ("?" + "&".join(said) if said else "")


def read_list(source: str | os.PathLike[str], root: str | os.PathLike[str] = "") -> ImageList:
    """Read a list of images.

    A .txt file has one path per line. A .csv or .tsv file has columns, found by their names ("image" and "label", or
    what they are called on Kaggle: "image_id", "filename", "id"; "class", "category", "breed"), or else by what stands
    in them. Names without a suffix are those of files with one. Paths are relative to the list, or to the folder that
    `list_source` says, and stay inside it. A relative source starts from `root`, and so does that folder.

    Raises:
        FileNotFoundError: there is no such list, or none of its images.
        ValueError: it has no image column, a line is incomplete, or a path leads outside.
    """
    file, said = split_list(source)
    path, options = Path(root, file), parse_qs(said)
    if not path.is_file():
        raise not_found(path, f"there is no list {path}; check the path")
    folder = Path(root, options["images"][0]) if "images" in options else path.parent
    names, labels = parse_list(read_bytes(path), path)
    names = [os.fspath(text_path(name)) for name in names]
    if _OUTSIDE not in options:
        for name in names:
            check_inside(name, path)
    names = list(_with_suffixes(folder, names))
    if not any((folder / name).exists() for name in names):
        remedy = "download them first" if was_url(names[0]) else "say with --images where they are"
        raise FileNotFoundError(
            f"none of the {len(names)} images of {path} is in {folder} (the first is {names[0]}); {remedy}"
        )
    return ImageList(path, folder, names, labels)


def read_table(text: str, suffix: str) -> list[tuple[int, list[str]]]:
    """Number and cells of each line of a .csv or .tsv file that is not empty.

    Cells are stripped of surrounding whitespace, and may contain line breaks inside quotes; a .csv may have semicolons
    instead of commas.

    Raises:
        csv.Error: a quote is not closed.
    """
    first = text.partition("\n")[0]
    delimiter = "\t" if suffix == ".tsv" else ";" if ";" in first and "," not in first else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]


def parse_list(content: bytes, path: PurePath) -> tuple[list[str], list[str] | None]:
    """The images in the content of a list of this name, as they are written there, and their labels if it has any.

    Raises:
        ValueError: as `read_list`.
    """
    # bytes that are not UTF-8 stay what they are, as in the names of files; PowerShell and Excel write UTF-16
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if is_wide else "utf-8-sig", "replace" if is_wide else "surrogateescape")
    if path.suffix.lower() == ".txt":
        names, labels = [line.strip() for line in text.split("\n") if line.strip()], None
    else:
        names, labels = _columns(text, path)
    if not names:
        raise ValueError(f"{path} names no image; give a list of images")
    return names, labels


def check_inside(name: str, source: object) -> None:
    """Refuse the path of an image that leads out of the folder that it starts from.

    Raises:
        ValueError: it is absolute, leads above its start, or is not a path.
    """
    if "\0" in name:
        raise ValueError(f"{source} names {name!r}, which is not a path; correct it")
    if PurePath(name).is_absolute() or PurePath(os.path.normpath(name)).parts[:1] == (os.pardir,):
        raise ValueError(
            f"{source} names {name}, outside of the images' folder; move it there, say with --images where the images "
            "are, or allow it with --allow-outside"
        )


def _columns(text: str, path: PurePath) -> tuple[list[str], list[str] | None]:
    """The images, and their labels where there is a column of them."""
    try:
        rows = read_table(text, path.suffix.lower())
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read as a table ({error}); correct it") from error
    if not rows:
        return [], None
    titles = rows[0][1]
    has_titles = not any(map(_names_image, rows[0][1]))
    image = choose_column(titles, _IMAGE) if has_titles else None
    if image is None and rows[has_titles:]:
        image = next((place for place, cell in enumerate(rows[has_titles][1]) if _names_image(cell)), None)
    if image is None:
        raise ValueError(f"{path} has no column of images among {', '.join(rows[0][1])}; name one 'image'")
    others = [place for place in range(len(titles)) if place != image]
    label = choose_column(["" if place == image else title for place, title in enumerate(titles)], LABEL_NAMES)
    if label is None and len(others) == 1:
        label = others[0]
    for number, row in rows[has_titles:]:
        if len(row) != len(titles) or not row[image] or (label is not None and not row[label]):
            raise ValueError(f"line {number} of {path} has not all of the {len(titles)} columns; correct it")
    found = [row for _, row in rows[has_titles:]]
    return [row[image] for row in found], None if label is None else [row[label] for row in found]


def choose_column(titles: Sequence[str], likely: Sequence[str]) -> int | None:
    """The column with the likeliest title; case, blanks, dots, dashes and underscores are ignored.

    >>> choose_column(["Class ID", "Class"], LABEL_NAMES)
    1
    """
    plain = ["".join(sign for sign in title.lower() if sign not in " ._-") for title in titles]
    return next((plain.index(name) for name in likely if name in plain), None)


def _names_image(cell: str) -> bool:
    return PurePath(cell).suffix.lower() in IMAGE_SUFFIXES


def _with_suffixes(folder: Path, names: Sequence[str]) -> Iterator[str]:
    suffixes = list(IMAGE_SUFFIXES)
    for name in names:
        if not _names_image(name):
            found = next((suffix for suffix in suffixes if (folder / f"{name}{suffix}").is_file()), "")
            suffixes.sort(key=lambda suffix: suffix != found)  # the next one has the same, most likely
            name += found
        yield name
