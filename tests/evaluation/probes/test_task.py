"""Classes of two sets, lined up."""

from collections.abc import Callable

import numpy as np
import pytest

from convit.evaluation.probes import Embedded, make_task, probe

MakeEmbedded = Callable[..., Embedded]


def test_classes_are_matched_by_name(embedded: MakeEmbedded) -> None:
    train = embedded([0, 1, 2, 0, 1, 2], ["ant", "bee", "cat"])
    test = embedded([0, 1, 1], ["bee", "cat"], data="b")
    task = make_task(train, test)
    assert task.class_names == ("ant", "bee", "cat")
    assert task.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert task.test_labels.tolist() == [1, 2, 2]


def test_classes_are_matched_by_wordnet_id_before_name(embedded: MakeEmbedded) -> None:
    train = embedded([0, 1], ["crane", "maillot"], wnids=True)
    test = embedded([1, 0], ["maillot", "crane"], data="b", wnids=True)
    assert make_task(train, test).test_labels.tolist() == [0, 1]


def test_numbers_are_matched_as_they_are(embedded: MakeEmbedded) -> None:
    task = make_task(embedded([3, 7, 3, 7]), embedded([7, 3], data="b"))
    assert (task.class_names, task.test_labels.tolist()) == (("3", "7"), [1, 0])


def test_a_fifth_of_each_class_is_held_out(embedded: MakeEmbedded) -> None:
    task = make_task(embedded([0] * 50 + [1] * 25, ["ant", "bee"]), None, seed=3)
    assert np.bincount(task.test_labels).tolist() == [10, 5]
    assert np.bincount(task.train_labels).tolist() == [40, 20]
    shared = (task.train[:, None] == task.test[None]).all(-1)
    assert not shared.any()


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (([0, 0], ["ant"]), None, "all training images are of one class, 'ant'; a probe needs at least two"),
        (([0, 0, 1], ["ant", "bee"]), None, "class 'bee' has 1 image, so that none can be held out"),
        (([0, 1], ["ant", "bee"]), ([0], ["ant"]), "training and test images are the same; name others"),
        (([0, 1], ["ant", "bee"]), ([0], None), "the training images name their classes and the test images number"),
        (([0, 1], ["ant", "ant"]), ([0], ["ant"]), "two classes are called 'ant'"),
        (([0, 1], None), ([5], None), "1 of the 1 classes of the test images are in no training image: '5'"),
        (([], ["ant"]), None, "no training image could be read"),
    ],
)
def test_what_makes_no_task(embedded: MakeEmbedded, train: tuple, test: tuple | None, message: str) -> None:
    same = "the same" in message
    second = None if test is None else embedded(*test, data="a" if same else "b")
    with pytest.raises(ValueError, match=message):
        make_task(embedded(*train), second)


def test_unknown_classes_of_the_test_images_are_named(embedded: MakeEmbedded) -> None:
    train = embedded([0, 1, 0, 1], ["ant", "bee"])
    test = embedded([0, 1, 2, 3, 4], ["ant", "cat", "dog", "elk", "fox"], data="b")
    with pytest.raises(ValueError, match=r"4 of the 5 classes .* 'cat', 'dog', 'elk', \.\.\.; training knows 'ant'"):
        make_task(train, test)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probes": ["svm"]}, "there is no probe 'svm'; choose among knn, linear, ridge"),
        ({"shots": [0]}, "a number of images per class is 0"),
        ({"draws": 0}, "draws is 0"),
        ({"probes": [], "shots": []}, "neither a probe nor a number"),
    ],
)
def test_options_out_of_range(embedded: MakeEmbedded, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        probe(embedded([0, 1, 0, 1]), **options)
