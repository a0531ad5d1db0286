"""Curves of a few images per class, and who is drawn."""

import numpy as np
import pytest
import torch

from convit.evaluation.probes import Task
from convit.evaluation.probes.few_shot import UNCHOSEN_STRENGTH, probe_few_shots
from convit.evaluation.probes.sampling import few_of_each, share_of_each, stratified_folds

CPU = torch.device("cpu")


def test_the_mean_of_few_is_as_by_hand(task: Task) -> None:
    scores, _ = probe_few_shots(task, [5], draws=2, device=CPU, seed=7)
    for number, found in enumerate(scores[0].draws):
        rows = few_of_each(task.train_labels, 5, (7, number))
        vectors = task.train[rows] / np.linalg.norm(task.train[rows], axis=1, keepdims=True)
        means = np.stack([vectors[task.train_labels[rows] == label].mean(0) for label in range(task.classes)])
        cosines = task.test @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
        assert found == pytest.approx(100 * np.mean(cosines.argmax(1) == task.test_labels))
    assert scores[0].probe == "mean"
    assert scores[0].top1 == pytest.approx(np.mean(scores[0].draws))
    assert scores[0].top1_deviation == pytest.approx(np.std(scores[0].draws, ddof=1))


def test_more_images_are_better_and_too_many_are_left_out(task: Task) -> None:
    scores, left_out = probe_few_shots(task, [1, 10, 50], draws=3, device=CPU)
    assert [(score.probe, score.shots) for score in scores] == [
        ("mean", 1), ("mean", 10), ("linear", 1), ("linear", 10)
    ]  # fmt: skip
    assert scores[1].top1 > scores[0].top1
    assert scores[3].top1 > scores[2].top1
    assert left_out == {50: "class 'ant' has 15 training images"}
    assert scores[2].chosen == scores[3].chosen  # nothing can be left out of one image


def test_one_image_alone_and_one_draw(task: Task) -> None:
    scores, _ = probe_few_shots(task, [1], draws=1, device=CPU)
    assert [score.top1_deviation for score in scores] == [None, None]
    assert (scores[0].chosen, scores[1].chosen) == (None, UNCHOSEN_STRENGTH)


def test_the_same_images_are_drawn_whatever_the_vectors(task: Task) -> None:
    rows = few_of_each(task.train_labels, 3, (0, 1))
    assert np.bincount(task.train_labels[rows]).tolist() == [3, 3, 3, 3]
    assert (np.diff(rows) > 0).all()
    assert set(rows) <= set(few_of_each(task.train_labels, 8, (0, 1)))
    assert set(rows) != set(few_of_each(task.train_labels, 3, (0, 2)))


def test_folds_spread_every_class() -> None:
    labels = np.repeat([0, 1, 2], [2, 13, 40])
    folds = stratified_folds(labels, 5, 0)
    for label, count in ((0, 2), (1, 13), (2, 40)):
        sizes = np.bincount(folds[labels == label], minlength=5)
        assert sizes.sum() == count
        assert sizes.max() - sizes.min() <= 1


def test_a_share_keeps_some_of_small_classes() -> None:
    labels = np.repeat([0, 1], [1000, 3])
    rows = share_of_each(labels, 100, 2, 0)
    assert np.bincount(labels[rows]).tolist() == [99, 2]
    assert share_of_each(labels, 2000, 2, 0).tolist() == list(range(1003))
