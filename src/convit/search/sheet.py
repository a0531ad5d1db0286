"""Contact sheets: one HTML page with the images in it, which needs no network and no other file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import numpy as np
from PIL import Image

from convit.images.formats import ImageError
from convit.images.names import escaped, text_path
from convit.images.opening import ImageSource, opened, read_bytes, source_name
from convit.output.pages import data_url, fill_template, thumbnail
from convit.search.duplicates import Duplicate
from convit.search.listing import ListedImage
from convit.search.nearest import Hit

TEMPLATE = Path(__file__).with_name("sheet.html.j2")
MOST_PAIRS = 500
_THUMBNAIL = 256  # longer side, pixels: the page shows at most 180, screens often have more


def search_page(hits: Sequence[Hit], query: ImageSource, root: Path, about: str, *, folder: str | Path = Path()) -> str:
    """A page that shows what was searched for and what was found.

    Args:
        hits: what `Index.search` gave.
        query: the image that was searched for.
        root: the indexed folder.
        about: one sentence under the title.
        folder: where the page will lie: each image stands in it as a small JPEG and is a relative link to its file.
    """
    name = Path(source_name(query)).name
    shown = [
        asdict(hit) | _shown(file, hit.path, f"{hit.label or 'image'} {hit.rank}", _link(file, folder))
        for hit, file in ((hit, root / text_path(hit.path)) for hit in hits)
    ]
    asked = _shown(query, name, "the query", _link(query, folder) if isinstance(query, str | Path) else None)
    return _render(title=f"Images like {escaped(name)}", about=about, query=asked, hits=shown, column=210)


def duplicates_page(
    pairs: Sequence[Duplicate], about: str, root: Path | None = None, *, folder: str | Path = Path()
) -> str:
    """A page that shows pairs of images side by side, the first 500 of them.

    Args:
        pairs: what `find_duplicates` gave.
        about: one sentence under the title.
        root: the folder that the images' names start from, for links; None if they lie in shards.
        folder: where the page will lie; its links are relative to it.
    """
    shown = [
        {
            "sides": [_side(each, root, folder) for each in (pair.first, pair.second)],
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


def _side(listed: ListedImage, root: Path | None, folder: str | Path) -> dict[str, Any]:
    try:
        content = listed.read()
    except (ImageError, OSError):
        content = b""
    alt = f"{listed.label or 'image'}: {listed.name}"
    link = None if root is None else _link(root / text_path(listed.name), folder)
    return _shown(content, listed.name, alt, link) | {"label": listed.label, "split": listed.split}


def _shown(source: ImageSource, name: str, alt: str, link: str | None) -> dict[str, Any]:
    """A small JPEG as a data URI, None if the image cannot be read any more; and what its file is."""
    shown: dict[str, Any] = {"name": name, "alt": alt, "link": link, "image": None, "size": None, "bytes": None}
    try:
        content = source if isinstance(source, Image.Image | np.ndarray) else read_bytes(source)
        shown["bytes"] = len(content) if isinstance(content, bytes) else None
        with opened(content, at_least=2 * _THUMBNAIL) as (image, (width, height)):
            shown |= {"image": data_url(thumbnail(image, _THUMBNAIL)), "size": f"{width} × {height}"}
    except ImageError:
        pass
    return shown


def _link(file: str | Path, folder: str | Path) -> str:
    """Where a file lies, seen from the page's folder: the two may be moved, and the page tells no more of the disk."""
    there, here = Path(file).resolve(), Path(folder).resolve()
    if there.anchor != here.anchor:  # another drive
        return there.as_uri()
    return quote_from_bytes(os.fsencode(Path(os.path.relpath(there, here)).as_posix()))


def _render(**values: Any) -> str:
    return fill_template(TEMPLATE, **{"query": None, "hits": [], "pairs": [], "left_out": 0} | values)
