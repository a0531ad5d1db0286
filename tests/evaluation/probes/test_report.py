"""A whole run on made-up vectors: table, JSON, CSV and figure."""

import csv
import html
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from convit.evaluation.plots import draw_few_shot
from convit.evaluation.probes import Embedded, Probing, Task, probe
from convit.evaluation.probes.report import COLUMNS, notes, write_table
from convit.output.plots import png_of

MakeEmbedded = Callable[..., Embedded]


@pytest.fixture
def probing(task: Task, embedded: MakeEmbedded) -> Probing:
    names = list(task.class_names)
    train = replace(
        embedded([0], names), vectors=task.train, labels=task.train_labels, unreadable={"x.jpg": "is empty"}
    )
    test = replace(embedded([0], names, data="b"), vectors=task.test, labels=task.test_labels)
    return probe(train, test, shots=(1, 5, 50), draws=2)


def test_everything_is_said(probing: Probing) -> None:
    assert [score.probe for score in probing.probes] == ["knn", "linear", "ridge"]
    assert (probing.train_images, probing.test_images, probing.classes) == (60, 160, 4)
    assert probing.tested_on == "trained on 60 images of a, tested on 160 of b"
    assert probing.shots_left_out == {50: "class 'ant' has 15 training images"}
    assert probing.unreadable == {"x.jpg": "is empty"}
    found = json.loads(probing.to_json())
    assert found["probes"][0]["tried"][0]["k"] == 1
    assert found["few_shot"][0]["draws"] == list(probing.few_shot[0].draws)


def test_images_of_one_name_in_both_sets_are_both_named(task: Task, embedded: MakeEmbedded) -> None:
    broken = {"x.jpg": "is empty"}
    train = replace(embedded([0, 1] * 9, ["ant", "bee"]), unreadable=broken)
    test = replace(embedded([0, 1], ["ant", "bee"], data="b"), unreadable=broken)
    assert list(probe(train, test, probes=["ridge"], shots=()).unreadable) == ["x.jpg", "x.jpg (test)"]


def test_the_table_and_the_csv_have_the_same_rows(probing: Probing) -> None:
    rows = list(csv.DictReader(io.StringIO(probing.to_csv())))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["probe"], row["per_class"]) for row in rows] == [
        ("knn", ""), ("linear", ""), ("ridge", ""), ("mean", "1"), ("mean", "5"), ("linear", "1"), ("linear", "5")
    ]  # fmt: skip
    assert float(rows[1]["top1"]) == probing.probes[1].top1
    text = io.StringIO()
    write_table(probing, text)
    shown = text.getvalue()
    for score in probing.probes:
        assert re.search(rf"{score.top1:.2f} +{score.top1_low:.2f} to {score.top1_high:.2f}", shown)
    assert f"± {probing.few_shot[0].top1_deviation:.2f}" in shown
    assert "50 per class is left out: class 'ant' has 15 training images." in shown
    assert "1 image could not be read and count in no metric." in shown
    assert probing._repr_html_() == f"<pre>{html.escape(shown)}</pre>"  # in a notebook


def test_a_run_is_the_same_again(task: Task, embedded: MakeEmbedded) -> None:
    whole = replace(embedded([0], list(task.class_names)), vectors=task.test, labels=task.test_labels)
    first, second = (probe(whole, shots=(2,), draws=2, seed=9) for _ in range(2))
    assert "tested on 32 held out, a fifth of each class" in first.tested_on
    for ours, theirs in zip((*first.probes, *first.few_shot), (*second.probes, *second.few_shot), strict=True):
        assert replace(ours, seconds=0.0) == replace(theirs, seconds=0.0)
    other = probe(whole, shots=(2,), draws=2, seed=10)
    assert [score.top1 for score in other.few_shot] != [score.top1 for score in first.few_shot]


def test_the_figure_shows_curves_and_bands(probing: Probing) -> None:
    figure = draw_few_shot(probing)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    drawn = {line.get_label(): line for line in axes.lines}
    assert set(drawn) >= {"logistic regression", "nearest class mean"}
    means = [score.top1 for score in probing.few_shot if score.probe == "mean"]
    np.testing.assert_allclose(drawn["nearest class mean"].get_ydata(), means)
    assert len(axes.collections) == 2
    picture = png_of(figure)
    assert Image.open(io.BytesIO(picture)).size[0] > 800
    assert picture == png_of(draw_few_shot(probing))


def test_no_curve_without_few_shots(probing: Probing) -> None:
    with pytest.raises(ValueError, match="no few-shot scores to draw"):
        draw_few_shot(replace(probing, few_shot=()))


def test_nothing_is_chosen_on_test_images(task: Task, embedded: MakeEmbedded) -> None:
    names = list(task.class_names)
    train = replace(embedded([0], names), vectors=task.train, labels=task.train_labels)
    test = replace(embedded([0], names, data="b"), vectors=task.test, labels=task.test_labels)
    other = replace(test, vectors=-test.vectors[::-1].copy())
    first, second = (probe(train, each, shots=(1, 5), draws=2) for each in (test, other))
    for ours, theirs in zip(first.probes, second.probes, strict=True):
        assert ours.top1 != theirs.top1
        assert ours.chosen == theirs.chosen
        assert [row["validation_top1"] for row in ours.tried] == [row["validation_top1"] for row in theirs.tried]
    assert [score.chosen for score in first.few_shot] == [score.chosen for score in second.few_shot]


@pytest.mark.parametrize("best", [0, 1, 2])
def test_no_probe_is_put_forward_because_it_is_best_on_test_images(probing: Probing, best: int) -> None:
    scores = [replace(score, top1=90.0 if number == best else 50.0) for number, score in enumerate(probing.probes)]
    changed = replace(probing, probes=tuple(scores))
    figures = ["90.00" if number == best else "50.00" for number in range(3)]
    assert f"k-NN {figures[0]} %, logistic {figures[1]} %, ridge {figures[2]} %; 60 training" in str(changed)
    across = [line for line in draw_few_shot(changed).axes[0].lines if "on all" in str(line.get_label())]
    assert [line.get_label() for line in across] == ["logistic regression on all 60 images"]
    assert list(across[0].get_ydata()) == [scores[1].top1] * 2


def test_a_figure_without_logistic_regression_on_all_images(probing: Probing) -> None:
    lines = draw_few_shot(replace(probing, probes=())).axes[0].lines
    assert [line.get_label() for line in lines] == ["logistic regression", "nearest class mean"]
    assert str(replace(probing, probes=())) == "made.up; 60 training and 160 test images"


def test_choices_that_need_a_word_are_named(probing: Probing) -> None:
    assert "Of 1 image per class none can be left out: its C was chosen with 5 per class." in notes(probing)
    one = replace(probing, few_shot=tuple(score for score in probing.few_shot if score.shots == 1))
    assert "Of 1 image per class none can be left out: its C is fixed." in notes(one)
    inside = {"knn": 1, "linear": 0.1, "ridge": 10.0}
    scores = tuple(replace(score, chosen=inside[score.probe]) for score in probing.probes)
    few = tuple(replace(score, chosen=score.chosen and 0.1) for score in probing.few_shot)
    assert not [note for note in notes(replace(probing, probes=scores, few_shot=few)) if "the end" in note]
    ends = {"knn": 200, "linear": 0.1, "ridge": 0.01}
    scores = tuple(replace(score, chosen=ends[score.probe]) for score in probing.probes)
    few = tuple(replace(score, chosen=score.chosen and 1e-4) for score in probing.few_shot)
    assert (
        "Chosen at the end of what is tried: k-NN k 200; ridge alpha 0.01; logistic C 0.0001 with 5 per class."
    ) in notes(replace(probing, probes=scores, few_shot=few))
