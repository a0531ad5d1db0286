"""Ridge regression in closed form, against scikit-learn's and against leaving images out for true."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from convit.evaluation.probes import Task
from convit.evaluation.probes.linear import Scaling
from convit.evaluation.probes.ridge import ALPHAS, fit_ridge, left_out_top1, probe_ridge

CPU = torch.device("cpu")


def _scaled(task: Task) -> tuple[torch.Tensor, np.ndarray]:
    return Scaling.of(task.train).apply(task.train, CPU), np.eye(task.classes)[task.train_labels]


@pytest.mark.parametrize("alpha", [0.01, 10.0, 1e4])
def test_the_fit_is_scikit_learns(task: Task, alpha: float) -> None:
    scaled, targets = _scaled(task)
    ours = fit_ridge(scaled, torch.from_numpy(task.train_labels), task.classes, alpha)
    theirs = Ridge(alpha=alpha).fit(scaled.double().numpy(), targets)
    torch.testing.assert_close(ours.weight, torch.from_numpy(theirs.coef_), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours.bias, torch.from_numpy(theirs.intercept_), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("features", [12, 90])
def test_left_out_is_as_if_fitted_without(task: Task, features: int) -> None:
    """Also with more features than images."""
    scaled, targets = _scaled(task)
    extra = torch.randn(len(scaled), features - scaled.shape[1])
    scaled = torch.cat([scaled, extra - extra.mean(0)], dim=1)
    found = left_out_top1(scaled, torch.from_numpy(task.train_labels), task.classes)
    rows = scaled.double().numpy()
    for alpha in ALPHAS:
        right = 0
        for place in range(len(rows)):
            kept = np.arange(len(rows)) != place
            fitted = Ridge(alpha=alpha).fit(rows[kept], targets[kept])
            right += int(fitted.predict(rows[place : place + 1])[0].argmax() == task.train_labels[place])
        # one image whose first two classes are all but equal may go either way
        assert found[alpha] == pytest.approx(100 * right / len(rows), abs=100 / len(rows) + 1e-9)


def test_the_probe_takes_the_best_alpha(task: Task) -> None:
    score = probe_ridge(task, device=CPU)
    best = max(row["validation_top1"] for row in score.tried)
    assert score.chosen == max(row["alpha"] for row in score.tried if row["validation_top1"] == best)
    assert score.top1_low <= score.top1 <= score.top1_high
    assert score.top1 > 70


def test_a_feature_twice_breaks_nothing(task: Task) -> None:
    twice = np.concatenate([task.train, task.train], axis=1)
    tested = np.concatenate([task.test, task.test], axis=1)
    score = probe_ridge(Task(twice, task.train_labels, tested, task.test_labels, task.class_names), device=CPU)
    assert score.top1 == pytest.approx(probe_ridge(task, device=CPU).top1, abs=5)
