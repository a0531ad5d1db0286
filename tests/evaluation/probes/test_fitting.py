"""The probes, against loops that count by hand and fits that are made again."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from convit.evaluation.probes import Task
from convit.evaluation.probes.fitting import (
    FOLDS,
    TEMPERATURE,
    UNCHOSEN_STRENGTH,
    choose_strength,
    probe_few_shots,
    probe_logistic,
    probe_nearest,
    probe_ridge,
)
from convit.evaluation.probes.task import few_of_each, share_of_each, stratified_folds


def _votes(train: np.ndarray, labels: np.ndarray, query: np.ndarray, k: int, without: int | None = None) -> np.ndarray:
    lengths = np.linalg.norm(train.astype(float), axis=1) * np.linalg.norm(query.astype(float))
    similarity = train.astype(float) @ query.astype(float) / lengths
    if without is not None:
        similarity[without] = -np.inf
    votes = np.zeros(labels.max() + 1)
    for place in np.argsort(-similarity)[:k]:
        votes[labels[place]] += np.exp(similarity[place] / TEMPERATURE)
    return votes


def test_every_k_is_as_counted_by_hand(task: Task) -> None:
    score = probe_nearest(task)
    assert [row["k"] for row in score.tried] == [1, 5, 10, 20, 50]  # of 60 images none can have 100 neighbors
    for row in score.tried:
        k = int(row["k"])
        alone = [
            _votes(task.train, task.train_labels, query, k, place).argmax() for place, query in enumerate(task.train)
        ]
        assert row["validation_top1"] == pytest.approx(100 * np.mean(np.array(alone) == task.train_labels))
        tested = np.array([_votes(task.train, task.train_labels, query, k).argmax() for query in task.test])
        assert row["test_top1"] == pytest.approx(100 * np.mean(tested == task.test_labels))


def test_k_is_chosen_on_training_images(task: Task) -> None:
    score = probe_nearest(task)
    best = max(row["validation_top1"] for row in score.tried)
    assert score.chosen == min(row["k"] for row in score.tried if row["validation_top1"] == best)
    chosen = next(row for row in score.tried if row["k"] == score.chosen)
    assert (score.top1, score.top5) == (chosen["test_top1"], chosen["test_top5"])
    assert score.top1_low < score.top1 < score.top1_high
    assert "60 of the 60 training images" in score.chosen_by


def test_a_class_without_a_vote_is_not_among_the_first_five() -> None:
    """Six classes at right angles, one test vector of each between two of them: with k=1 one class alone is heard."""
    train = np.eye(6, dtype=np.float32)
    test = (0.9 * np.eye(6) + 1.0 * np.roll(np.eye(6), 1, axis=1)).astype(np.float32)
    task = Task(train, np.arange(6), test, np.arange(6), tuple("abcdef"))
    rows = {row["k"]: row for row in probe_nearest(task).tried}
    assert (rows[1]["test_top1"], rows[1]["test_top5"]) == (0.0, 0.0)
    assert (rows[5]["test_top1"], rows[5]["test_top5"]) == (0.0, 100.0)


def test_a_vector_of_zeros_or_many_that_are_alike_break_nothing(task: Task) -> None:
    task.train[3] = 0
    assert 50 < probe_nearest(task).top1 <= 100
    task.train[:] = 1
    assert 0 <= probe_nearest(task).top1 <= 100


def test_the_strength_is_the_best_of_left_out_images(task: Task) -> None:
    choice = choose_strength(task.train, task.train_labels, strengths=(0.001, 0.1))
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
    choice = choose_strength(noisy, task.train_labels)
    best = max(found for _, found in choice.tried)
    assert len(choice.tried) < 10
    assert all(found < best for _, found in choice.tried[-2:])


def test_a_plateau_at_the_strong_end_is_walked_over() -> None:
    """Where one class is much larger, strong regularization gives that class alone, whatever the strength."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [90, 10])
    vectors = (rng.normal(size=(100, 4)) + 6 * labels[:, None]).astype(np.float32)
    choice = choose_strength(vectors, labels, strengths=(1e-7, 1e-6, 1e-5, 1e-4, 1.0))
    assert [found for _, found in choice.tried[:4]] == [90.0] * 4
    assert choice.strength == 1.0


def test_logistic_regression_says_what_it_chose_and_is_the_same_again(task: Task) -> None:
    score = probe_logistic(task, seed=4)
    assert score.probe == "linear"
    assert score.chosen in [row["C"] for row in score.tried]
    assert score.top1_low <= score.top1 <= score.top1_high
    assert score.top1 > 70
    assert score.top5 == 100.0  # of four classes
    assert score.chosen_by == "5-fold cross-validation on 60 of the 60 training images"
    again = probe_logistic(task, seed=4)
    assert (score.tried, score.top1, score.chosen) == (again.tried, again.top1, again.chosen)


def test_a_class_of_one_image_is_refused(task: Task) -> None:
    kept = np.flatnonzero(task.train_labels != 2)
    rows = np.append(kept, np.flatnonzero(task.train_labels == 2)[:1])
    small = Task(task.train[rows], task.train_labels[rows], task.test, task.test_labels, task.class_names)
    with pytest.raises(ValueError, match=r"class 'cat' has 1 training image, .* use --probe knn,ridge"):
        probe_logistic(small)


@pytest.mark.parametrize("features", [12, 90])
@pytest.mark.parametrize("classes", [2, 4])
def test_ridge_leaves_out_as_if_fitted_without(task: Task, features: int, classes: int) -> None:
    """Also with more features than images, and with two classes."""
    extra = np.random.default_rng(0).normal(size=(len(task.train), features - task.train.shape[1]))
    vectors = np.concatenate([task.train, extra], axis=1).astype(np.float32)
    kept_rows = task.train_labels < classes
    vectors, labels = vectors[kept_rows], task.train_labels[kept_rows]
    score = probe_ridge(Task(vectors, labels, vectors, labels, task.class_names[:classes]))
    rows, targets = StandardScaler().fit_transform(vectors.astype(float)), np.eye(classes)[labels]
    for row in score.tried:
        right = 0
        for place in range(len(rows)):
            kept = np.arange(len(rows)) != place
            fitted = Ridge(alpha=row["alpha"]).fit(rows[kept], targets[kept])
            right += int(fitted.predict(rows[place : place + 1])[0].argmax() == labels[place])
        # one image whose first two classes are all but equal may go either way
        assert row["validation_top1"] == pytest.approx(100 * right / len(rows), abs=100 / len(rows) + 1e-9)
    whole = Ridge(alpha=score.chosen).fit(rows, targets)
    assert score.top1 == pytest.approx(100 * np.mean(whole.predict(rows).argmax(1) == labels))


def test_ridge_takes_the_best_alpha(task: Task) -> None:
    score = probe_ridge(task)
    best = max(row["validation_top1"] for row in score.tried)
    assert score.chosen == max(row["alpha"] for row in score.tried if row["validation_top1"] == best)
    assert score.top1_low <= score.top1 <= score.top1_high
    assert score.top1 > 70


def test_a_feature_twice_and_one_that_is_constant_break_nothing(task: Task) -> None:
    train, test = (np.concatenate([each, each, each[:, :1] * 0 + 7], axis=1) for each in (task.train, task.test))
    odd = Task(train, task.train_labels, test, task.test_labels, task.class_names)
    for run in (probe_ridge, probe_logistic):
        assert run(odd).top1 == pytest.approx(run(task).top1, abs=5)


def test_the_mean_of_few_is_as_by_hand(task: Task) -> None:
    scores, _ = probe_few_shots(task, [5], draws=2, seed=7)
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
    scores, left_out = probe_few_shots(task, [1, 10, 50], draws=3)
    assert [(score.probe, score.shots) for score in scores] == [
        ("mean", 1), ("mean", 10), ("linear", 1), ("linear", 10)
    ]  # fmt: skip
    assert scores[1].top1 > scores[0].top1
    assert scores[3].top1 > scores[2].top1
    assert left_out == {50: "class 'ant' has 15 training images"}
    assert scores[2].chosen == scores[3].chosen  # nothing can be left out of one image


def test_one_image_alone_and_one_draw(task: Task) -> None:
    scores, _ = probe_few_shots(task, [1], draws=1)
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
