"""Contact sheets: one HTML page with the images in it, which needs no network and no other file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convit.images.formats import ImageError
from convit.images.names import text_path
from convit.images.opening import ImageSource, open_image, source_name
from convit.output.pages import data_url, fill_template, thumbnail
from convit.search.duplicates import Duplicate
from convit.search.listing import ListedImage
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
    """
    name = Path(source_name(query)).name
    shown = [
        asdict(hit) | _shown(file, hit.path, f"{hit.label or 'image'} {hit.rank}", file)
        for hit, file in ((hit, root / text_path(hit.path)) for hit in hits)
    ]
    asked = _shown(query, name, "the query", Path(query) if isinstance(query, str | Path) else None)
    return _render(title=f"Images like {name}", about=about, query=asked, hits=shown, column=210)


def duplicates_page(pairs: Sequence[Duplicate], about: str, root: Path | None = None) -> str:
    """A page that shows pairs of images side by side, the first 500 of them.

    Args:
        pairs: what `find_duplicates` gave.
        about: one sentence under the title.
        root: the folder that the images' names start from, for links; None where they lie in shards.

    Returns:
        The page as HTML.
    """
    shown = [
        {
            "sides": [_side(each, root) for each in (pair.first, pair.second)],
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


def _side(listed: ListedImage, root: Path | None) -> dict[str, Any]:
    try:
        content = listed.read()
    except (ImageError, OSError):
        content = b""
    alt = f"{listed.label or 'image'}: {listed.name}"
    shown = _shown(content, listed.name, alt, None if root is None else root / text_path(listed.name))
    return shown | {"label": listed.label, "split": listed.split}


def _shown(source: ImageSource, name: str, alt: str, file: Path | None) -> dict[str, Any]:
    """A small JPEG as a data URI, None where the image cannot be read any more; and a link to its file."""
    try:
        url = data_url(thumbnail(open_image(source, at_least=2 * _THUMBNAIL), _THUMBNAIL))
    except ImageError:
        url = None
    return {"name": name, "alt": alt, "link": None if file is None else file.resolve().as_uri(), "image": url}


def _render(**values: Any) -> str:
    return fill_template(TEMPLATE, **{"query": None, "hits": [], "pairs": [], "left_out": 0} | values)
