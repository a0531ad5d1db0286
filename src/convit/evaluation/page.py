"""An evaluation as a folder to keep: a page that needs nothing else, its figures, and its tables.

Needs matplotlib and jinja2, the extra `evaluate`; they are imported when a report is checked or written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convit.data import Samples
from convit.evaluation.report import TABLES, Evaluation, class_name, confused_pairs, facts, headlines
from convit.images.formats import ImageError
from convit.images.opening import ImageSource, open_image
from convit.output.files import check_packages, write_file
from convit.output.folders import check_folder
from convit.output.pages import data_url, fill_template, thumbnail
from convit.output.text import csv_text, data_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("page.html.j2")
# the page last: where it stands, the rest does
FILES = ("evaluation.json", *TABLES, "reliability.png", "confusion.png", "per_class.png", "index.html")
MOST_PAIRS, FEW_PAIRS = 30, 10  # of confused classes that the page lists, without and with a heat map
MOST_MISTAKES = 24
_MOST_ERRORS = 100
_SIDE = 160  # pixels of a thumbnail's longer side
_SMALL = 64  # up to here an image stays as it is: JPEG would spoil the few pixels that it has


def check_report(folder: Path, *, overwrite: bool = False) -> None:
    """Find out whether `write_report` can write a report, without leaving a trace; call it before a model runs.

    Raises:
        ImportError: matplotlib or jinja2 is missing.
        FileExistsError: there is a report, and `overwrite` is false.
        OSError: the folder, or one above it, is a file or cannot be written.
    """
    check_packages("a report", "matplotlib", "jinja2", extra="evaluate")
    check_folder(folder, FILES, overwrite=overwrite)


def write_report(
    evaluation: Evaluation,
    images: Samples,
    folder: Path,
    *,
    overwrite: bool = False,
    spreadsheet_safe: bool = False,
) -> None:
    """Write an evaluation's report: page, figures and tables, each file whole or not at all.

    `index.html` loads nothing. Beside it stand `evaluation.json` (all metrics, and every image's scores),
    `per_class.csv`, `confusion.csv`, `predictions.csv`, `reliability.png`, `confusion.png` and `per_class.png`.

    Args:
        evaluation: with its scores.
        images: what was evaluated; the worst mistakes are read again.
        folder: where to; made where it is missing, with those above it.
        overwrite: whether the files of an earlier report may be replaced.
        spreadsheet_safe: for the tables, see `convit.output.text.csv_line`.

    Raises:
        ValueError: the evaluation has no scores of its images.
        ImportError, FileExistsError, OSError: as `check_report`.
    """
    if evaluation.scores is None:
        raise ValueError("the evaluation has no scores of its images, but a report shows them; evaluate again")
    check_report(folder, overwrite=overwrite)
    from convit.output.plots import png_of

    figures = draw_figures(evaluation)
    contents: dict[str, str | bytes] = {
        "evaluation.json": evaluation.to_json(with_images=True),
        **{name: csv_text(*lines(evaluation), spreadsheet_safe=spreadsheet_safe) for name, lines in TABLES.items()},
        **{f"{name}.png": png_of(figure) for name, figure in figures.items()},
        "index.html": render_page(evaluation, images, figures),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        write_file(folder / name, contents[name], overwrite=overwrite)


def draw_figures(evaluation: Evaluation) -> dict[str, Figure]:
    """The plots of a report: "reliability", "confusion" and "per_class"."""
    from convit.evaluation.plots import draw_confusion, draw_per_class, draw_reliability

    return {
        "reliability": draw_reliability(evaluation),
        "confusion": draw_confusion(evaluation),
        "per_class": draw_per_class(evaluation),
    }


def render_page(
    evaluation: Evaluation | None,
    images: Samples | None,
    figures: Mapping[str, Figure],
    *,
    template: Path = TEMPLATE,
    **more: Any,
) -> str:
    """The page's text: it loads nothing, from the network or from beside it.

    Args:
        evaluation: with its scores; None for a page that has sections of its own alone.
        images: what was evaluated; the worst mistakes are read again.
        figures: what `draw_figures` gave; a confusion that is not a heat map is a table on the page instead.
        template: the page, or one that extends it with sections of its own.
        **more: what such a template calls for; "title" and "headlines" take the place of the page's.
    """
    values = {} if evaluation is None or images is None else _values(evaluation, images, figures)
    return fill_template([template, TEMPLATE], **{"evaluation": evaluation, **values, **more})


def _values(evaluation: Evaluation, images: Samples, figures: Mapping[str, Figure]) -> dict[str, Any]:
    """What the page calls for."""
    from convit.evaluation.plots import MOST_WITH_NUMBERS, TITLES, count_classes, fits_heat_map
    from convit.output.plots import svg_of

    has_map, data = fits_heat_map(evaluation), data_name(evaluation.data)
    return {
        "title": f"{evaluation.model} on {data}",
        "headlines": headlines(evaluation),
        "facts": facts(evaluation),
        "figures": {name: svg_of(figure) if name != "confusion" or has_map else "" for name, figure in figures.items()},
        "beside": count_classes(evaluation) <= MOST_WITH_NUMBERS,  # a small map, with room for the table at its side
        "map_width": 200 + 18 * count_classes(evaluation),  # pixels; on a phone the map is scrolled rather than shrunk
        "titles": {name: title(evaluation) for name, title in TITLES.items()},
        "pairs": _pairs(evaluation, FEW_PAIRS if has_map else MOST_PAIRS),
        "classes": _classes(evaluation),
        "mistakes": worst_mistakes(evaluation, images),
        "wrong": evaluation.count - evaluation.correct_top1,
        "errors": evaluation.errors[:_MOST_ERRORS],
    }


def _pairs(evaluation: Evaluation, most: int) -> list[dict[str, Any]]:
    images = {row["class"]: row["count"] for row in evaluation.per_class}
    return [
        {
            "right": class_name(evaluation, right),
            "predicted": class_name(evaluation, predicted),
            "count": count,
            "share": 100 * count / images[right],
        }
        for right, predicted, count in confused_pairs(evaluation, most)
    ]


def _classes(evaluation: Evaluation) -> list[dict[str, Any]]:
    counts: dict[tuple[int, Any], int] = {(right, taken): count for right, taken, count in evaluation.confusion}
    return [
        {
            **row,
            "taken": "" if row["mistaken_for"] is None else class_name(evaluation, row["mistaken_for"]),
            "times": counts.get((row["class"], row["mistaken_for"]), 0),
        }
        for row in evaluation.per_class
    ]


def worst_mistakes(evaluation: Evaluation, images: Samples) -> list[dict[str, Any]]:
    """What the page shows of the wrong images of highest loss, turned as the model saw them.

    At most 24, the highest loss first; of equal ones the first in the data. No other image is read if that can be;
    "image" is None if one can no longer be read.
    """
    scores = evaluation.scores
    assert scores is not None
    wrong = np.flatnonzero(~scores.right())
    chosen = wrong[np.argsort(-scores.losses[wrong], kind="stable")][:MOST_MISTAKES]
    places = np.sort(scores.places[chosen]).tolist()
    exif = bool(evaluation.preprocessing.get("apply_exif", False))
    shown = {place: _thumbnail(image.content, exif) for place, image in zip(places, images.take(places), strict=True)}
    return [
        {
            **shown[int(scores.places[row])],
            "name": scores.names[row],
            "right": class_name(evaluation, int(scores.labels[row])),
            "predicted": class_name(evaluation, int(scores.predicted[row])),
            "probability": percent(math.exp(-float(scores.losses[row]))),
            "confidence": percent(float(scores.confidences[row])),
            "loss": float(scores.losses[row]),
            "place": int(scores.ranks[row]) + 1,
        }
        for row in chosen.tolist()
    ]


def _thumbnail(source: ImageSource, apply_exif: bool) -> dict[str, Any]:
    """An image as the page shows it; one that is "small" has so few pixels that each of them is to be seen."""
    try:
        image = open_image(source, apply_exif=apply_exif, at_least=2 * _SIDE)
    except ImageError:
        return {"image": None, "small": False}
    return {"image": data_url(thumbnail(image, _SIDE, small=_SMALL)), "small": max(image.size) <= _SMALL}


def percent(share: float) -> str:
    """A share of 0 to 1 in percent, so that what is nearly nothing or nearly all is not called so.

    >>> percent(0.734), percent(0.0421), percent(0.00001), percent(0.99999)
    ('73 %', '4.2 %', 'under 0.1 %', 'over 99.9 %')
    """
    if 0 < share < 0.001:
        return "under 0.1 %"
    if 0.999 < share < 1:
        return "over 99.9 %"
    return f"{100 * share:.0f} %" if 0.1 <= share < 0.99 or share in (0, 1) else f"{100 * share:.1f} %"
