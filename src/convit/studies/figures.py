"""A study as a figure: lines over the amount of data, or a point per model; ranges of the seeds as bars.

Needs matplotlib, the extra `plot`.
"""

from __future__ import annotations

import textwrap
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from convit.studies.scores import Scores, Spread
from convit.studies.study import Study
from convit.training.panels import RUN_COLORS, RUN_MARKERS
from convit.training.plots import STYLE

WIDTH, HEIGHT = 5.6, 3.8  # inches
ROW_HEIGHT = 0.34
TITLE_LETTERS = 84
SIDESTEP = 1.015  # lines of a figure stand this factor apart, so that their bars do not hide each other


def draw(study: Study, scores: Scores) -> Figure:
    """Draw the study's results.

    Args:
        study: what was planned.
        scores: of the runs that are done, at least one.

    Returns:
        The figure; `convit.training.plots.save_figure` writes it.
    """
    with matplotlib.rc_context(STYLE):
        height = HEIGHT if study.axis is not None else 1.3 + ROW_HEIGHT * len(study.rows) * len(study.columns) ** 0.5
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        if study.axis is not None:
            _draw_lines(axes, study, scores)
        else:
            _draw_points(axes, study, scores)
        figure.suptitle(
            textwrap.fill(study.headline(scores), TITLE_LETTERS),
            x=0.01,
            horizontalalignment="left",
            fontsize=9,
            parse_math=False,
        )
    return figure


def _draw_lines(axes: Axes, study: Study, scores: Scores) -> None:
    middle = (len(study.rows) - 1) / 2
    for index, row in enumerate(study.rows):
        cells = [(column.position, scores.cell(row, column.label)) for column in study.columns]
        known = [(place * SIDESTEP ** (index - middle), cell) for place, cell in cells if cell is not None]
        if known:
            places, spreads = [place for place, _ in known], [cell for _, cell in known]
            line = axes.errorbar(
                places, [cell.mean for cell in spreads], yerr=_bars(spreads), **_look(index), capsize=3
            )
            line.set_label(row)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([column.position for column in study.columns]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([column.label for column in study.columns], parse_math=False)
    axes.set_xlabel(study.axis or "")
    axes.set_ylabel("top-1 on test images (%)")
    axes.legend(loc="best")


def _draw_points(axes: Axes, study: Study, scores: Scores) -> None:
    """A line of the figure per row, from the top; columns side by side with colors of their own."""
    step = 0.5 / len(study.columns)
    for index, column in enumerate(study.columns):
        shift = step * (index - (len(study.columns) - 1) / 2)
        cells = [(number + shift, scores.cell(row, column.label)) for number, row in enumerate(study.rows)]
        known = [(place, cell) for place, cell in cells if cell is not None]
        if known:
            places, spreads = [place for place, _ in known], [cell for _, cell in known]
            look: dict[str, Any] = {**_look(index), "linestyle": "none"}
            line = axes.errorbar([cell.mean for cell in spreads], places, xerr=_bars(spreads), **look, capsize=3)
            line.set_label(column.label)
    axes.set_yticks(range(len(study.rows)), labels=study.rows, parse_math=False)
    axes.set_ylim(len(study.rows) - 0.5, -0.5)
    axes.set_xlabel("top-1 on test images (%)")
    if len(study.columns) > 1:
        axes.legend(loc="best")
    elif study.columns:
        axes.set_title(f"Trained on {study.columns[0].label} of the images", fontsize=9, color="0.3")


def _bars(spreads: list[Spread]) -> list[list[float]]:
    return [[cell.mean - cell.low for cell in spreads], [cell.high - cell.mean for cell in spreads]]


def _look(index: int) -> dict[str, Any]:
    return {"color": RUN_COLORS[index % len(RUN_COLORS)], "marker": RUN_MARKERS[index % len(RUN_MARKERS)]}
