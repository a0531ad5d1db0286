"""Classes of two sets, lined up."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from convit.data import ClassName, Samples
from convit.evaluation.probes import Embedded, make_task, probe

MakeEmbedded = Callable[..., Embedded]


def test_classes_are_matched_by_name(embedded: MakeEmbedded) -> None:
    train = embedded([0, 1, 2, 0, 1, 2], ["ant", "bee", "cat"])
    test = embedded([0, 1, 1], ["bee", "cat"], data="b")
    task = make_task(train, test)
    assert task.class_names == ("ant", "bee", "cat")
    assert task.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert task.test_labels.tolist() == [1, 2, 2]


def test_names_may_be_spelled_otherwise(embedded: MakeEmbedded) -> None:
    train = embedded([0, 1, 2, 3], ["01", "Caf\u00e9", "1_a", "2"])
    test = embedded([0, 1, 2, 3], ["002", "1 A", "cafe\u0301", "1"], data="b")
    assert make_task(train, test).test_labels.tolist() == [3, 2, 1, 0]


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
    with pytest.raises(ValueError, match=r"4 of the 5 classes .* 'cat', 'dog', 'elk' and 1 more; training knows 'ant'"):
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


def test_names_are_matched_as_evaluations_match_them(embedded: MakeEmbedded) -> None:
    train = embedded([0, 1], ["Egyptian_cat", "tiger cat"])
    test = embedded([0, 1], ["Tiger cat", "Egyptian cat"], data="b")
    assert make_task(train, test).test_labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("known", "shown"),
    [
        (["A", "a", "b_c", "7"], ["a", "007", "B C", "A"]),
        (["A", "b"], ["B", "a"]),
        (["A", "a", "b"], ["b", "A"]),
        (["cat", "dog"], ["Cat", "cat"]),
        (["Cat", "cat", "dog"], ["CAT", "dog"]),
    ],
)
def test_names_mean_what_they_mean_to_training(embedded: MakeEmbedded, known: list[str], shown: list[str]) -> None:
    data = Samples(range(len(shown)), shown, list(map(ClassName, shown)), "x")
    train, test = embedded(list(range(len(known))), known), embedded(list(range(len(shown))), shown, data="b")
    try:
        data.count_in(known)
    except ValueError:
        with pytest.raises(ValueError, match="in no training image"):
            make_task(train, test)
    else:
        assert make_task(train, test).test_labels.tolist() == list(data.labels)


def test_folders_called_by_wordnet_id_match_a_list_that_gives_ids(embedded: MakeEmbedded) -> None:
    train = embedded([0, 1, 1], ["ncat", "ndog"])
    test = embedded([0, 1], ["dog", "cat"], data="b", wnids=True)
    assert [each.wnid for each in test.classes or ()] == ["ndog", "ncat"]
    assert make_task(train, test).test_labels.tolist() == [1, 0]


def test_ids_on_both_sides_are_believed_and_not_the_names(embedded: MakeEmbedded) -> None:
    train = embedded([0, 1], ["crane", "ant"], wnids=True)
    test = embedded([0], ["crane"], data="b")
    other = replace(test, classes=[ClassName("crane", "nbird")])
    with pytest.raises(ValueError, match="in no training image: 'crane'"):
        make_task(train, other)


@pytest.mark.parametrize("seed", range(6))
def test_no_class_is_left_with_one_image_to_learn_from(embedded: MakeEmbedded, seed: int) -> None:
    images = embedded([0] * 2 + [1] * 2 + [2] * 3 + [3] * 9, ["ant", "bee", "cat", "dog"])
    task = make_task(images, None, seed)
    assert np.bincount(task.train_labels).min() >= 2
    assert len(task.train_labels) + len(task.test_labels) == 16
    found = probe(images, probes=["linear"], shots=(), seed=seed)
    untested = 4 - len(set(task.test_labels.tolist()))
    assert untested >= 2
    assert found.tested_on.endswith(f"a fifth of each class, but none of {untested} classes, which are too small")


def test_classes_too_small_to_hold_any_out(embedded: MakeEmbedded) -> None:
    with pytest.raises(ValueError, match="no class has enough images to hold some out: the largest has 2"):
        make_task(embedded([0, 0, 1, 1]), None)


def test_of_many_training_images_a_sample_is_taken_and_said(
    embedded: MakeEmbedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convit.evaluation.probes.task.MOST_TRAINED", 40)
    train = embedded([0] * 90 + [1] * 10, ["ant", "bee"])
    found = make_task(train, embedded([0, 1], ["ant", "bee"], data="b"), seed=3)
    assert np.bincount(found.train_labels).tolist() == [36, 4]
    assert found.train_of == 100
    same = make_task(train, embedded([0, 1], ["ant", "bee"], data="b"), seed=3)
    np.testing.assert_array_equal(found.train, same.train)
    other = make_task(train, embedded([0, 1], ["ant", "bee"], data="b"), seed=4)
    assert not np.array_equal(found.train, other.train)
    probing = probe(train, probes=["ridge"], shots=(), seed=3)
    assert probing.train_images == 40
    assert probing.tested_on.startswith("trained on 40 images (a sample of 80) of a, tested on 20")


def test_a_copy_under_another_name_is_the_same_data(embedded: MakeEmbedded) -> None:
    train = embedded([0, 1], ["ant", "bee"])
    data = {**train.identity["data"], "name": "a copy"}
    with pytest.raises(ValueError, match="training and test images are the same"):
        make_task(train, replace(train, identity={**train.identity, "data": data}))
    some = {**data, "evenly_spaced": 2}
    assert len(make_task(train, replace(train, identity={**train.identity, "data": some})).test) == 2
