"""Contact sheets: one HTML page with the images in it, which needs no network and no other file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convit.images.formats import ImageError
from convit.images.opening import ImageSource, open_image, source_name
from convit.output.pages import data_url, fill_template, thumbnail
from convit.search.duplicates import Duplicate, Picture
from convit.search.nearest import Hit

TEMPLATE = Path(__file__).with_name("sheet.html.j2")
MOST_PAIRS = 500
_THUMBNAIL = 256  # longer side, pixels: the page shows at most 180, screens often have more


def search_page(hits: Sequence[Hit], query: ImageSource, root: Path, about: str) -> str:
    """A page that shows what was searched for and what was found.

    Args:
        hits: what `Index.search` gave.
        query: the image that was searched for.
        root: the indexed folder.
        about: one sentence under the title.

    Returns:
        The page as HTML; every image stands in it as a small JPEG and is a link to its file.

    Raises:
        ModuleNotFoundError: jinja2 is not installed.
    """
    name = source_name(query)
    link = Path(name).resolve().as_uri() if isinstance(query, str | Path) else None
    shown = [
        {
            **_shown(root / hit.path, hit.path, f"{hit.label or 'picture'} {hit.rank}"),
            "rank": hit.rank,
            "score": hit.score,
            "label": hit.label,
            "width": hit.width,
            "height": hit.height,
        }
        for hit in hits
    ]
    asked = {"name": Path(name).name, "alt": "the query", "link": link, "image": _thumbnail(query)}
    return _render(title=f"Images like {Path(name).name}", about=about, query=asked, hits=shown, column=210)


def duplicates_page(pairs: Sequence[Duplicate], about: str, root: Path | None = None) -> str:
    """A page that shows pairs of images side by side, the first 500 of them.

    Args:
        pairs: what `find_duplicates` gave.
        about: one sentence under the title.
        root: the folder that the images' names start from, for links; None where they lie in shards.

    Returns:
        The page as HTML.

    Raises:
        ModuleNotFoundError: jinja2 is not installed.
    """
    shown = [
        {
            "sides": [_side(picture, root) for picture in (pair.first, pair.second)],
            "kind": "identical files" if pair.kind == "identical" else "nearly the same",
            "differ": pair.labels_differ,
            "across": pair.across_splits,
            "similarity": pair.similarity,
            "difference": pair.difference,
        }
        for pair in pairs[:MOST_PAIRS]
    ]
    left_out = max(0, len(pairs) - MOST_PAIRS)
    return _render(title="Duplicates", about=about, pairs=shown, left_out=left_out, column=360)


def _side(picture: Picture, root: Path | None) -> dict[str, Any]:
    link = None if root is None else (root / picture.name).resolve().as_uri()
    try:
        image = _thumbnail(picture.read())
    except (ImageError, OSError):
        image = None
    alt = f"{picture.label or 'picture'}: {picture.name}"
    return {
        "name": picture.name,
        "alt": alt,
        "link": link,
        "image": image,
        "label": picture.label,
        "split": picture.split,
    }


def _shown(file: Path, name: str, alt: str) -> dict[str, Any]:
    return {"name": name, "alt": alt, "link": file.resolve().as_uri(), "image": _thumbnail(file)}


def _thumbnail(source: ImageSource) -> str | None:
    """A small JPEG as a data URI; None where the image cannot be read any more."""
    try:
        image = open_image(source, at_least=2 * _THUMBNAIL)
    except ImageError:
        return None
    return data_url(thumbnail(image, _THUMBNAIL))


def _render(**values: Any) -> str:
    return fill_template(TEMPLATE, **{"query": None, "hits": [], "pairs": [], "left_out": 0} | values)
