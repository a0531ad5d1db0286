"""Ranks and losses against torch's."""

import numpy as np
import pytest
import torch

from convit.evaluation import Outcome, Tally, score_image


def test_against_torch() -> None:
    logits, labels = torch.randn(200, 12) * 4, torch.randint(12, (200,))
    tally = Tally()
    for row, label in zip(logits, labels.tolist(), strict=True):
        tally.add(score_image("x", label, row.numpy()))
    best = logits.topk(5).indices
    assert tally.count == 200
    assert tally.top1 == int((best[:, 0] == labels).sum())
    assert tally.top5 == int((best == labels[:, None]).any(1).sum())
    expected = torch.nn.functional.cross_entropy(logits.double(), labels).item()
    assert tally.loss_sum / 200 == pytest.approx(expected, rel=1e-12)


def test_large_logits_do_not_overflow() -> None:
    outcome = score_image("x", 0, np.array([-3e4, 3e4], dtype=np.float32))
    assert (outcome.rank, outcome.loss) == (1, 60000.0)


def test_a_model_that_says_nothing_is_right_once() -> None:
    same = np.zeros(10, dtype=np.float32)
    assert [score_image("x", label, same).rank for label in range(10)] == list(range(10))


def test_failures_take_no_part() -> None:
    tally = Tally()
    tally.add(Outcome("a", 0, rank=0, loss=0.5))
    tally.add(Outcome("b", 0, error="b: is empty"))
    assert (tally.count, tally.top1, tally.loss_sum) == (1, 1, 0.5)
    assert [each.name for each in tally.failed] == ["b"]
