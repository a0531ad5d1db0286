"""Figures of evaluations: what is drawn is what was found, for few classes and many, and nothing is cut off."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from convit.evaluation.plots import draw_confusion, draw_per_class, draw_reliability, fits_heat_map
from convit.evaluation.scoring import Scores
from convit.output.plots import png_of, svg_of
from tests.evaluation.made import SIX, made_evaluation, made_scores

MANY = tuple(f"class of a rather long name number {number}" for number in range(100))
ODD = ("$x_1$", "_hidden", "<script>alert(1)</script>", "猫", "line\nbreak", "clock")


def _texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def _right(count: int = 4) -> Scores:
    """Scores without a mistake."""
    labels = np.arange(count)
    return Scores(labels, tuple(map(str, labels)), labels, labels, 0 * labels, np.full(count, 0.1), np.full(count, 0.9))


def test_reliability_shows_each_bin() -> None:
    evaluation = made_evaluation(made_scores(images=200))
    above, below = draw_reliability(evaluation).axes
    filled = [each for each in evaluation.calibration if each["count"]]
    (right,) = above.containers
    assert [bar.get_height() for bar in right] == pytest.approx([100 * each["accuracy"] for each in filled])
    assert [bar.get_x() for bar in right] == pytest.approx([100 * each["lower"] for each in filled])
    lines = [line[0][1] for line in above.collections[0].get_segments()]
    assert lines == pytest.approx([100 * each["confidence"] for each in filled])
    assert sum(bar.get_height() for bar in below.containers[0]) == 200
    sure = 100 * evaluation.scores.confidences.mean()
    assert above.get_title(loc="left") == (
        f"Mean confidence {sure:.1f} %, accuracy {evaluation.top1:.1f} % (ECE {evaluation.ece:.1f} %)"
    )


def test_confusion_of_few_classes_is_a_heat_map_of_shares() -> None:
    evaluation = made_evaluation(made_scores())
    assert fits_heat_map(evaluation)
    axes = draw_confusion(evaluation).axes[0]
    shares = np.asarray(axes.images[0].get_array())
    assert shares.shape == (6, 6)
    assert shares.sum(axis=1) == pytest.approx([100] * 6)
    assert np.diag(shares) == pytest.approx([row["top1"] for row in evaluation.per_class])
    assert [label.get_text() for label in axes.get_yticklabels()] == list(SIX)
    assert axes.get_ylabel() == "true class"


def test_confusion_of_many_classes_lists_the_pairs_confused_most_often() -> None:
    evaluation = made_evaluation(made_scores(100, 4000), MANY)
    assert not fits_heat_map(evaluation)
    figure = draw_confusion(evaluation)
    drawn = [bar.get_width() for bar in figure.axes[0].containers[0]]
    wrong = sorted((count for right, taken, count in evaluation.confusion if right != taken), reverse=True)
    assert drawn == wrong[:20]
    assert figure._suptitle.get_text().startswith("Most often class of a ra… is taken for class of a ra…: ")


def test_each_class_is_drawn_from_the_lowest_to_the_highest() -> None:
    few = made_evaluation(made_scores())
    rows = sorted(few.per_class, key=lambda row: row["top1"])
    axes = draw_per_class(few).axes[0]
    assert [bar.get_width() for bar in axes.containers[0]] == [row["top1"] for row in rows]
    assert {label.get_text() for label in axes.get_yticklabels()} == set(SIX)
    many = made_evaluation(made_scores(100, 4000), MANY)
    curve = draw_per_class(many).axes[0].lines[0].get_ydata()
    assert list(curve) == sorted(row["top1"] for row in many.per_class)


def test_without_a_mistake() -> None:
    for count in (4, 60):
        evaluation = made_evaluation(_right(count), None)
        assert "No image is taken for another class" in _texts(draw_confusion(evaluation))
        assert png_of(draw_confusion(evaluation)).startswith(b"\x89PNG")


def test_a_letter_that_the_font_lacks_is_no_warning() -> None:
    evaluation = made_evaluation(made_scores(), ODD)
    assert png_of(draw_per_class(evaluation)).startswith(b"\x89PNG")  # warnings are errors here


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("names", [SIX, ODD, tuple(f"a class of a very long name indeed, {n}" for n in range(6)), MANY])
def test_nothing_is_cut_off_and_names_are_no_formulas(names: tuple[str, ...]) -> None:
    evaluation = made_evaluation(made_scores(len(names), 60 * len(names)), names)
    for draw in (draw_reliability, draw_confusion, draw_per_class):
        figure = draw(evaluation)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
        boxes += [figure._suptitle.get_window_extent(renderer)] if figure._suptitle else []
        for box in boxes:
            assert figure.bbox.x0 - 1 <= box.x0 < box.x1 <= figure.bbox.x1 + 1
            assert figure.bbox.y0 - 1 <= box.y0 < box.y1 <= figure.bbox.y1 + 1


def test_a_figure_for_the_page_takes_the_pages_colors_and_keeps_names_harmless() -> None:
    evaluation = made_evaluation(made_scores(), ODD)
    for draw in (draw_reliability, draw_confusion, draw_per_class):
        text = svg_of(draw(evaluation))
        assert text.startswith("<svg")
        assert "var(--ink)" in text
        assert "#1c2430" not in text
        assert "<script" not in text
        ElementTree.fromstring(text)
        assert svg_of(draw(evaluation)) == text
    assert "&lt;script&gt;" in text


def test_the_same_evaluation_gives_the_same_file() -> None:
    evaluation = made_evaluation(made_scores())
    assert png_of(draw_confusion(evaluation)) == png_of(draw_confusion(evaluation))
