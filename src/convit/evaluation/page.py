"""An evaluation as a folder to keep: a page that needs nothing else, its figures, and its tables.

Needs matplotlib and jinja2, the extra `evaluate`; they are imported when a report is checked or written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convit.data import Samples
from convit.evaluation.mistakes import Mistake, worst_mistakes
from convit.evaluation.report import (
    Evaluation,
    class_name,
    confused_pairs,
    confusion_csv,
    data_name,
    per_class_csv,
    predictions_csv,
)
from convit.output.files import check_folder, check_packages, write_file
from convit.output.pages import data_url, fill_template

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("page.html.j2")
# the page last: where it stands, the rest does
FILES = (
    "evaluation.json", "per_class.csv", "confusion.csv", "predictions.csv",
    "reliability.png", "confusion.png", "per_class.png", "index.html",
)  # fmt: skip
MOST_PAIRS, FEW_PAIRS = 30, 10  # of confused classes that the page lists, without and with a heat map
_MOST_ERRORS = 100


def check_report(folder: Path, *, overwrite: bool = False) -> None:
    """Find out whether a report can be written, without leaving a trace; call it before a model runs.

    Args:
        folder: where it shall stand.
        overwrite: whether the files of an earlier report may be replaced.

    Raises:
        ImportError: matplotlib or jinja2 is missing.
        FileExistsError: there is a report, and `overwrite` is false.
        NotADirectoryError: the folder, or one above it, is a file.
        PermissionError: it cannot be written.
        OSError: the disk is full, read-only or broken.
    """
    check_packages("a report", "matplotlib", "jinja2", extra="evaluate")
    check_folder(folder, FILES, overwrite=overwrite)


def write_report(evaluation: Evaluation, images: Samples, folder: Path, *, overwrite: bool = False) -> None:
    """Write an evaluation's report: page, figures and tables, each file whole or not at all.

    `index.html` loads nothing. Beside it stand `evaluation.json` (all metrics, and every image's scores),
    `per_class.csv`, `confusion.csv`, `predictions.csv`, `reliability.png`, `confusion.png` and `per_class.png`.

    Args:
        evaluation: with its scores.
        images: what was evaluated; the worst mistakes are read again.
        folder: where to; made where it is missing, with those above it.
        overwrite: whether the files of an earlier report may be replaced.

    Raises:
        ValueError: the evaluation has no scores of its images.
        ImportError, FileExistsError, NotADirectoryError, PermissionError, OSError: as `check_report`.
    """
    if evaluation.scores is None:
        raise ValueError("the evaluation has no scores of its images, but a report shows them; evaluate again")
    check_report(folder, overwrite=overwrite)
    from convit.output.plots import png_of

    figures = draw_figures(evaluation)
    contents: dict[str, str | bytes] = {
        "evaluation.json": evaluation.to_json(with_images=True),
        "per_class.csv": per_class_csv(evaluation),
        "confusion.csv": confusion_csv(evaluation),
        "predictions.csv": predictions_csv(evaluation),
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


def headlines(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """(what, metric, what stands below it)."""
    interval = {
        name: f"95 %: {low:{form}} to {high:{form}}"
        for name, form in (("top1", ".2f"), ("top5", ".2f"), ("loss", ".3f"))
        for low, high in [evaluation.intervals[name]]
    }
    return [
        ("top-1", f"{evaluation.top1:.2f} %", interval["top1"]),
        ("top-5", f"{evaluation.top5:.2f} %", interval["top5"]),
        ("loss", f"{evaluation.loss:.3f}", interval["loss"]),
        ("mean class top-1", f"{evaluation.mean_class_top1:.2f} %", f"{len(evaluation.per_class):,} classes"),
        ("calibration error", f"{evaluation.ece:.2f} %", f"expected, in {len(evaluation.calibration)} bins"),
        ("images", f"{evaluation.count:,}", f"{evaluation.images_per_second:,.0f} a second"),
    ]


def _values(evaluation: Evaluation, images: Samples, figures: Mapping[str, Figure]) -> dict[str, Any]:
    """What the page calls for."""
    from convit.evaluation.plots import MOST_WITH_NUMBERS, TITLES, count_classes, fits_heat_map
    from convit.output.plots import svg_of

    assert evaluation.scores is not None
    has_map, data = fits_heat_map(evaluation), data_name(evaluation.data)
    exif = bool(evaluation.preprocessing.get("apply_exif", False))
    return {
        "title": f"{evaluation.model} on {data}",
        "headlines": headlines(evaluation),
        "facts": _facts(evaluation),
        "figures": {name: svg_of(figure) if name != "confusion" or has_map else "" for name, figure in figures.items()},
        "beside": count_classes(evaluation) <= MOST_WITH_NUMBERS,  # a small map, with room for the table at its side
        "map_width": 200 + 18 * count_classes(evaluation),  # pixels; on a phone the map is scrolled rather than shrunk
        "titles": {name: title(evaluation) for name, title in TITLES.items()},
        "pairs": _pairs(evaluation, FEW_PAIRS if has_map else MOST_PAIRS),
        "classes": _classes(evaluation),
        "mistakes": [
            _card(evaluation, mistake) for mistake in worst_mistakes(evaluation.scores, images, apply_exif=exif)
        ],
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
    counts: dict[tuple[int, int | None], int] = {
        (right, predicted): count for right, predicted, count in evaluation.confusion
    }
    return [
        {
            **row,
            "taken": "" if row["mistaken_for"] is None else class_name(evaluation, row["mistaken_for"]),
            "times": counts.get((row["class"], row["mistaken_for"]), 0),
        }
        for row in evaluation.per_class
    ]


def _card(evaluation: Evaluation, mistake: Mistake) -> dict[str, Any]:
    return {
        "name": mistake.name,
        "image": None if mistake.thumbnail is None else data_url(mistake.thumbnail),
        "small": mistake.is_small,
        "right": class_name(evaluation, mistake.label),
        "predicted": class_name(evaluation, mistake.predicted),
        "probability": percent(mistake.probability),
        "confidence": percent(mistake.confidence),
        "loss": mistake.loss,
        "place": mistake.rank + 1,
    }


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


def _facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What was measured on what: (name, value)."""
    settings = evaluation.preprocessing
    height, width = evaluation.img_size
    few = evaluation.competing < evaluation.classes
    chosen = f"{evaluation.competing:,} of the model's {evaluation.classes:,} to choose from"
    classes = chosen if few else f"{evaluation.classes:,} of the model"
    steps = [f"{name.replace('_', ' ')} {_as_text(value)}" for name, value in settings.items() if value is not None]
    architecture = f" ({evaluation.architecture})" if evaluation.architecture else ""
    return [
        ("model", f"{evaluation.model}{architecture}"),
        ("weights", _with_hash(evaluation.weights or "handed over in memory", evaluation.weights_sha256)),
        ("data", _with_hash(data_name(evaluation.data), evaluation.data_sha256)),
        ("classes", f"{evaluation.classes_in_data:,} in the data, {classes}"),
        ("input", f"{height} x {width} pixels" + (", averaged with its mirror image" if evaluation.tta else "")),
        ("preprocessing", "; ".join(steps)),
        ("run", f"{evaluation.precision} on {evaluation.device}, {evaluation.batch_size} images a batch"),
        ("time", f"{evaluation.seconds:,.1f} s, {evaluation.images_per_second:,.1f} images/s"),
        *([("processes", f"{evaluation.processes}, which shared the images")] if evaluation.processes > 1 else []),
        ("versions", ", ".join(f"{name} {number}" for name, number in evaluation.versions.items())),
        ("date", evaluation.date),
    ]


def _with_hash(name: str, sha256: str) -> str:
    return f"{name}, sha256 {sha256}" if sha256 else name


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(_as_text, value)) if isinstance(value, list | tuple) else str(value)
