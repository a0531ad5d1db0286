"""HTML pages that need nothing else: templates filled in, and images inside them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

_KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg"}


def fill_template(template: Path | Sequence[Path], **values: Any) -> str:
    """A Jinja template, filled in; what is put into it is escaped.

    Args:
        template: the file, which may extend `base.html.j2`, the style sheet and frame of every page; or several: the
            file first, then those that it extends.
        **values: what it calls for by name; a name that is missing is an error.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    files = [template] if isinstance(template, Path) else template
    environment = Environment(
        loader=FileSystemLoader([*(file.parent for file in files), Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(files[0].name).render(**values)


def data_url(picture: bytes) -> str:
    """A PNG or JPEG file as the text that an `img` element takes in the place of an address."""
    kind = next(kind for start, kind in _KINDS.items() if picture.startswith(start))
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


def png_file(pixels: UInt8[np.ndarray, "height width *channels"], *, optimize: bool = False) -> bytes:
    """Gray or RGB levels as a PNG file; `optimize` takes longer for fewer bytes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=optimize)
    return file.getvalue()


def thumbnail(image: Image.Image, side: int, *, small: int = 0) -> bytes:
    """An image as a small file for a page.

    Args:
        image: the image; it stays as it is.
        side: most pixels of the longer side.
        small: images whose longer side has up to so many pixels become a PNG, since JPEG would spoil the few that
            they have; others a JPEG.
    """
    lossless = max(image.size) <= small
    reduced = image.copy()
    reduced.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    reduced.save(file, "PNG" if lossless else "JPEG", quality=85)
    return file.getvalue()
