"""Logistic regression, against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from convit.evaluation.probes import Task, logistic
from convit.evaluation.probes.linear import Scaling
from convit.evaluation.probes.logistic import FOLDS, choose_strength, fit_logistic, probe_logistic
from convit.evaluation.probes.sampling import stratified_folds

CPU = torch.device("cpu")


@pytest.mark.parametrize("strength", [0.001, 0.1, 10.0])
def test_the_fit_is_scikit_learns(task: Task, strength: float) -> None:
    scaled = Scaling.of(task.train).apply(task.train, CPU)
    ours = fit_logistic(scaled, torch.from_numpy(task.train_labels), task.classes, strength)
    theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=5000).fit(scaled.double().numpy(), task.train_labels)
    weight, bias = torch.from_numpy(theirs.coef_), torch.from_numpy(theirs.intercept_)
    torch.testing.assert_close(ours.weight.double(), weight, atol=2e-2, rtol=1e-2)
    # the bias is determined up to a number that all classes share
    ours_bias = ours.bias.double()
    torch.testing.assert_close(ours_bias - ours_bias.mean(), bias - bias.mean(), atol=2e-2, rtol=1e-2)
    # both stop close to the bottom
    reached = [_objective(task, scaled, *each, strength) for each in ((ours.weight, ours.bias), (weight, bias))]
    assert reached[0] == pytest.approx(reached[1], rel=1e-4)


def _objective(task: Task, scaled: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, strength: float) -> float:
    scores = scaled.double() @ weight.double().T + bias.double()
    loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(task.train_labels), reduction="sum")
    return float(loss + weight.double().square().sum() / (2 * strength))


def test_rows_taken_a_part_at_a_time_give_the_same_fit(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    scaled = Scaling.of(task.train).apply(task.train, CPU)
    labels = torch.from_numpy(task.train_labels)
    whole = fit_logistic(scaled, labels, task.classes, 0.1)
    monkeypatch.setattr(logistic, "_MOST_SCORES", 7 * task.classes)
    parts = fit_logistic(scaled, labels, task.classes, 0.1)
    torch.testing.assert_close(parts.weight, whole.weight, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(parts.bias, whole.bias, atol=1e-4, rtol=1e-3)


def test_scaling_is_of_mean_0_and_deviation_1() -> None:
    vectors = np.random.default_rng(0).normal(5, 3, size=(9000, 3)).astype(np.float32)  # more than one chunk
    vectors[:, 2] = 7
    scaled = Scaling.of(vectors).apply(vectors, CPU)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled[:, :2].std(0, correction=0), torch.ones(2), atol=1e-5, rtol=0)
    assert (scaled[:, 2] == 0).all()


def test_the_strength_is_the_best_of_left_out_images(task: Task) -> None:
    choice = choose_strength(task.train, task.train_labels, task.classes, device=CPU, strengths=(0.001, 0.1))
    folds = stratified_folds(task.train_labels, FOLDS, 0)
    for strength, found in choice.tried:
        right = 0
        for fold in range(FOLDS):
            kept, held = task.train[folds != fold].astype(float), task.train[folds == fold].astype(float)
            mean, spread = kept.mean(0), kept.std(0)
            fitted = LogisticRegression(C=strength, tol=1e-8, max_iter=5000)
            fitted.fit((kept - mean) / spread, task.train_labels[folds != fold])
            right += int((fitted.predict((held - mean) / spread) == task.train_labels[folds == fold]).sum())
        assert found == pytest.approx(100 * right / len(task.train))
    assert choice.strength == max(choice.tried, key=lambda row: row[1])[0]


def test_the_walk_ends_where_it_gets_worse(task: Task) -> None:
    rng = np.random.default_rng(3)
    noisy = np.concatenate([task.train, 4 * rng.normal(size=(len(task.train), 60))], axis=1).astype(np.float32)
    choice = choose_strength(noisy, task.train_labels, task.classes, device=CPU)
    best = max(found for _, found in choice.tried)
    assert len(choice.tried) < 10
    assert all(found < best for _, found in choice.tried[-2:])


def test_a_plateau_at_the_strong_end_is_walked_over() -> None:
    """Where one class is much larger, strong regularization gives that class alone, whatever the strength."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [90, 10])
    vectors = (rng.normal(size=(100, 4)) + 6 * labels[:, None]).astype(np.float32)
    choice = choose_strength(vectors, labels, 2, device=CPU, strengths=(1e-9, 1e-8, 1e-7, 1e-6, 1.0))
    assert [found for _, found in choice.tried[:4]] == [90.0] * 4
    assert choice.strength == 1.0


def test_the_probe_says_what_it_chose(task: Task) -> None:
    score = probe_logistic(task, device=CPU)
    assert score.probe == "linear"
    assert score.chosen in [row["C"] for row in score.tried]
    assert score.top1_low <= score.top1 <= score.top1_high
    assert score.top1 > 70
    assert score.top5 == 100.0  # of four classes
    assert score.chosen_by == "5-fold cross-validation on 60 of the 60 training images"


def test_the_same_seed_gives_the_same_figures(task: Task) -> None:
    first, second = (probe_logistic(task, device=CPU, seed=4) for _ in range(2))
    assert first.tried == second.tried
    assert (first.top1, first.chosen) == (second.top1, second.chosen)


def test_a_class_of_one_image_is_refused(task: Task) -> None:
    kept = np.flatnonzero(task.train_labels != 2)
    rows = np.append(kept, np.flatnonzero(task.train_labels == 2)[:1])
    small = Task(task.train[rows], task.train_labels[rows], task.test, task.test_labels, task.class_names)
    with pytest.raises(ValueError, match=r"class 'cat' has 1 training image, .* use --probe knn,ridge"):
        probe_logistic(small, device=CPU)
