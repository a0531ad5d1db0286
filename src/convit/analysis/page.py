"""An explanation as one HTML page that needs nothing else: every layer and head to choose from.

Needs matplotlib and jinja2, the extra `plot`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convit.analysis.drawing import OPACITY, colored, draw_explanation, gray, query_name
from convit.analysis.explaining import Explanation, LayerView
from convit.evaluation.page import percent
from convit.output.pages import data_url, fill_template, png_file
from convit.output.plots import png_of

TEMPLATE = Path(__file__).with_name("explain.html.j2")
SHOWN_SIDE = 300  # pixels on the page
_png = partial(png_file, optimize=True)


def render_page(explanation: Explanation) -> str:
    """The text of a page to choose from the layers and heads of what `explain` gave with `with_matrices`.

    It loads nothing, from the network or from beside it.
    """
    views = [_view(explanation, view) for view in explanation.layers]
    height, width = explanation.pixels.shape[:2]
    (rows, columns), query = explanation.grid, explanation.query
    shown = {
        "views": views,
        "grid": [rows, columns],
        "query": None if query is None else query[0] * columns + query[1],
        "colors": colored(np.arange(256, dtype=np.float32)[None] / 255)[0].tolist(),
    }
    return fill_template(
        TEMPLATE,
        name=explanation.name.rsplit("/", 1)[-1],
        model=explanation.model,
        predictions=[(each.label, percent(each.score)) for each in explanation.predictions],
        reasons=[data_url(_png(colored(each))) for each in explanation.class_maps],
        query=query_name(explanation),
        overview=data_url(png_of(draw_explanation(explanation, with_layers=False))),
        gray=data_url(_png((gray(explanation.pixels) * 255).astype(np.uint8))),
        opacity=OPACITY,
        shown_height=round(SHOWN_SIDE * height / max(height, width)),
        shown_width=round(SHOWN_SIDE * width / max(height, width)),
        heads=explanation.heads,
        views=views,
        can_choose=query is not None,
        shown=shown,
    )


def _view(explanation: Explanation, view: LayerView) -> dict[str, Any]:
    """A layer's heads: of each map the peak of every query, and an image with a query's shares of its peak per row."""
    heads: list[dict[str, Any]] = []
    for head in range(len(explanation.heads)):
        maps: list[dict[str, Any]] = []
        for kind, matrices in view.matrices.items():
            peaks = matrices[head].max(axis=1)
            levels = 255 * matrices[head] / np.maximum(peaks, np.finfo(np.float32).tiny)[:, None]
            maps.append(
                {
                    "kind": kind if view.gate is not None else "ordinary attention",
                    "peaks": [float(f"{peak:.4g}") for peak in peaks],
                    "url": data_url(_png(levels.round().astype(np.uint8))),
                }
            )
        heads.append({"gate": None if view.gate is None else f"{view.gate[head]:.2f}", "maps": maps})
    kind = "gated" if view.gate is not None else "ordinary attention"
    left_out = ", the class token left out" if view.gate is None and explanation.query is not None else ""
    return {"number": view.number, "title": f"Layer {view.number}, {kind}{left_out}", "heads": heads}
