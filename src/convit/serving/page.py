"""The page at `/` and the description at `/docs`: static, without a foreign script, under a strict policy."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from convit.output.pages import fill_template
from convit.serving.service import Service

_FOLDER = Path(__file__).parent
_POLICY = (
    "default-src 'none'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def render_page(service: Service) -> str:
    """The page on which images are tried: everything in one file."""
    models = [
        {"id": name, "classes": len(model.labels), "explains": model.weights is not None}
        for name, model in service.models.items()
    ]
    can_explain = any(model["explains"] for model in models)
    settings = {
        "models": models,
        "has_index": service.index is not None,
        "bytes": service.options.body_bytes,
        "colors": _colors() if can_explain else [],
    }
    return fill_template(
        _FOLDER / "page.html.j2",
        models=models,
        has_index=service.index is not None,
        needs_key=bool(service.options.keys),
        can_explain=can_explain,
        settings=settings,
        script=(_FOLDER / "page.js").read_text("utf-8"),
    )


def render_docs(description: Mapping[str, Any]) -> str:
    """The API reference as a page, from the OpenAPI 3.1 description."""
    return fill_template(_FOLDER / "docs.html.j2", paths=description["paths"], version=description["info"]["version"])


def headers_of(page: str) -> dict[str, str]:
    """The headers that let a page of HTML run the scripts and styles inside it, and nothing else."""
    directives = [_POLICY]
    for element in ("script", "style"):
        found = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
        hashes = " ".join(f"'sha256-{base64.b64encode(sha256(each.encode()).digest()).decode()}'" for each in found)
        directives += [f"{element}-src {hashes}"] if hashes else []
    return {"Content-Security-Policy": "; ".join(directives), "X-Frame-Options": "DENY"}


def _colors() -> list[list[int]]:
    """256 colors from nothing to a map's peak: those of `convit.analysis.drawing`, which needs torch."""
    import matplotlib

    shades = matplotlib.colormaps["inferno"](np.arange(256))[:, :3]
    return (shades * 255).round().astype(int).tolist()
