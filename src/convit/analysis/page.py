"""An explanation as one HTML page that needs nothing else: every layer and head to choose from.

Needs matplotlib and jinja2, the extras `plot` and `train`.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convit.analysis.drawing import (
    OPACITY,
    colored,
    draw_explanation,
    gray,
    layer_title,
    query_name,
)
from convit.analysis.explaining import Explanation
from convit.evaluation.page import percent
from convit.output.pages import data_url, fill_template
from convit.output.plots import png_of

TEMPLATE = Path(__file__).with_name("explain.html.j2")
SHOWN_SIDE = 300  # pixels on the page


def render_page(explanation: Explanation) -> str:
    """The page's text: it loads nothing, from the network or from beside it.

    Args:
        explanation: what `explain` gave, with every layer and head that shall be chosen from.
    """
    views = [_view(explanation, place) for place in range(len(explanation.layers))]
    height, width = explanation.pixels.shape[:2]
    return fill_template(
        TEMPLATE,
        name=explanation.name.rsplit("/", 1)[-1],
        model=explanation.model,
        predictions=[(each.label, percent(each.score)) for each in explanation.predictions],
        query=query_name(explanation),
        frame=_frame(explanation),
        overview=data_url(png_of(draw_explanation(explanation, with_layers=False))),
        gray=data_url(_png((gray(explanation.pixels) * 255).astype(np.uint8))),
        opacity=OPACITY,
        shown_height=round(SHOWN_SIDE * height / max(height, width)),
        shown_width=round(SHOWN_SIDE * width / max(height, width)),
        heads=explanation.heads,
        views=views,
        # a "<" inside a script element could end it
        views_json=json.dumps(views).replace("<", "\\u003c"),
    )


def _view(explanation: Explanation, place: int) -> dict[str, Any]:
    view = explanation.layers[place]
    heads = [
        {
            "gate": None if view.gate is None else f"{view.gate[head]:.2f}",
            "maps": [
                {
                    "kind": kind if view.gate is not None else "ordinary attention",
                    "peak": percent(maps[head].max()),
                    "url": data_url(_png(colored(maps[head]))),
                }
                for kind, maps in view.maps.items()
            ],
        }
        for head in range(len(explanation.heads))
    ]
    return {"number": view.number, "title": layer_title(explanation, view), "heads": heads}


def _frame(explanation: Explanation) -> dict[str, float] | None:
    """The query's patch in percent of the image."""
    if explanation.query is None:
        return None
    (row, column), (rows, columns) = explanation.query, explanation.grid
    return {"top": 100 * row / rows, "left": 100 * column / columns, "height": 100 / rows, "width": 100 / columns}


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return file.getvalue()
