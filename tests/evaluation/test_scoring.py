"""Ranks, losses and predictions against torch's."""

import numpy as np
import pytest
import torch

from convit.evaluation import Outcome, Scores, score_image
from convit.evaluation.scoring import ranks_of


def _score(logits: torch.Tensor, labels: torch.Tensor) -> Scores:
    pairs = zip(logits, labels.tolist(), strict=True)
    return Scores.of(enumerate(score_image("x", label, row.numpy()) for row, label in pairs))


def test_against_torch() -> None:
    logits, labels = torch.randn(200, 12) * 4, torch.randint(12, (200,))
    scores = _score(logits, labels)
    best = logits.topk(5).indices
    assert len(scores) == 200
    assert scores.right().sum() == int((best[:, 0] == labels).sum())
    assert scores.right(5).sum() == int((best == labels[:, None]).any(1).sum())
    expected = torch.nn.functional.cross_entropy(logits.double(), labels).item()
    assert scores.losses.mean() == pytest.approx(expected, rel=1e-12)
    highest = logits.double().softmax(1).max(1)
    assert scores.predicted.tolist() == highest.indices.tolist()
    assert scores.confidences == pytest.approx(highest.values.numpy(), rel=1e-12)


def test_large_logits_do_not_overflow() -> None:
    outcome = score_image("x", 0, np.array([-3e4, 3e4], dtype=np.float32))
    assert (outcome.rank, outcome.loss, outcome.predicted, outcome.confidence) == (1, 60000.0, 1, 1.0)


def test_a_model_that_says_nothing_is_right_once() -> None:
    same = np.zeros(10, dtype=np.float32)
    assert [score_image("x", label, same).rank for label in range(10)] == list(range(10))
    assert score_image("x", 3, same).predicted == 0


@pytest.mark.parametrize(("accepted", "label", "rank"), [((0, 2), 2, 1), ((1, 0), 1, 0), ((0,), 0, 2), ((2, 0), 2, 1)])
def test_of_several_labels_the_one_that_the_model_prefers_counts(
    accepted: tuple[int, ...], label: int, rank: int
) -> None:
    logits = np.array([0.0, 3.0, 2.0], dtype=np.float32)
    outcome = score_image("x", accepted, logits)
    assert (outcome.label, outcome.rank) == (label, rank)
    assert outcome == score_image("x", label, logits)


def test_failures_take_no_part() -> None:
    outcomes = [Outcome("b", 0, error="b: is empty"), Outcome("a", 0, 0, 0.5, 0, 0.6)]
    assert (Scores.of(enumerate(outcomes)).names, Scores.of(enumerate(outcomes)).places.tolist()) == (("a",), [1])


def test_columns_stand_in_the_datas_order() -> None:
    scores = Scores.of((place, Outcome(f"image {place}", place, place, 0.5, 0, 0.6)) for place in (2, 0, 1))
    assert scores.names == ("image 0", "image 1", "image 2")
    assert scores.places.tolist() == scores.labels.tolist() == scores.ranks.tolist() == [0, 1, 2]


def test_a_score_that_is_not_a_number_is_never_right() -> None:
    scores = np.array([[np.nan] * 3, [np.nan, 0.5, 0.1]])
    assert ranks_of(scores, np.array([0, 1])).tolist() == [3, 0]
