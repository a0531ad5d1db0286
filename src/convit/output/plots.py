"""The one style of every figure: its colors and type, and how it becomes a file or a part of a page.

Needs matplotlib, the extra `plot`. The colors are those of Okabe and Ito, which the color-blind can tell apart; yellow
is left out, since it is too light on white.
"""

from __future__ import annotations

import io
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from convit.output.files import figure_format, write_file
from convit.output.text import spelled_lines

DOTS_PER_INCH = 160
INK, SOFT, LINE = "#1c2430", "#55606e", "#dfe4ea"
BLUE, RED, GREEN, PINK, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
PAPER = "#fefefe"  # between bars; a white of its own, since white text on dark cells stays white
# seven colors and eight markers give 56 pairs
SERIES_COLORS = (BLUE, RED, GREEN, PINK, ORANGE, SKY, INK)
SERIES_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# the variables of the pages' style sheet, `base.html.j2`, which has a light and a dark value for each
PAGE_COLORS = {
    INK: "--ink",
    SOFT: "--soft",
    LINE: "--line",
    PAPER: "--card",
    BLUE: "--blue",
    RED: "--red",
    GREEN: "--green",
    PINK: "--pink",
    ORANGE: "--orange",
    SKY: "--sky",
}
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "svg.hashsalt": "convit",  # the same figure gives the same file
}


def styled(**changes: Any) -> AbstractContextManager[None]:
    """Draw in the one style inside the block; `changes` are settings of matplotlib, with "_" in place of dots."""
    return matplotlib.rc_context(STYLE | {name.replace("_", "."): value for name, value in changes.items()})


def series_look(index: int) -> dict[str, Any]:
    """Color and marker of the series of that number, from 0."""
    return {
        "color": SERIES_COLORS[index % len(SERIES_COLORS)],
        "marker": SERIES_MARKERS[index % len(SERIES_MARKERS)],
    }


def png_of(figure: Figure) -> bytes:
    """A figure as a PNG file on white; the same figure gives the same bytes."""
    return _saved(figure, "png")


def svg_of(figure: Figure) -> str:
    """A figure as an `<svg>` element for a page: text stays text, on no ground, in the page's own colors."""
    text = _saved(figure, "svg", {"svg.fonttype": "none", "font.family": "sans-serif"}, transparent=True).decode()
    text = text[text.index("<svg") :]
    for color, variable in PAGE_COLORS.items():
        text = text.replace(f": {color}", f": var({variable})")
    return text


def save_figure(figure: Figure, path: Path, *, overwrite: bool = False) -> None:
    """Write a figure whole or not at all; the same figure gives the same bytes.

    Raises:
        ValueError: the suffix is none of .png, .svg and .pdf.
        OSError: as `convit.output.files.write_file`.
    """
    write_file(path, _saved(figure, figure_format(path)), overwrite=overwrite)


def _saved(figure: Figure, kind: str, style: Any = None, **options: Any) -> bytes:
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE | (style or {})), warnings.catch_warnings():
        # names of classes and files may be in any script, or be none: what the font lacks is drawn as a box
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        for text in figure.findobj(Text):
            text.set_text(spelled_lines(text.get_text()))
        figure.savefig(file, format=kind, dpi=DOTS_PER_INCH, metadata=undated, **options)
    return file.getvalue()
