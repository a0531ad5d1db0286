"""Intervals, calibration and confusion: against scipy, scikit-learn, torchmetrics and sums done by hand."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import confusion_matrix

from convit.evaluation import Scores
from convit.evaluation.metrics import (
    accuracies,
    bootstrap,
    by_class,
    calibration_bins,
    calibration_error,
    confusion,
    fit_temperature,
    limits_of,
)
from convit.evaluation.probes.report import ProbeScore
from convit.evaluation.report import class_name, per_class
from convit.inference.classifier import read_labels
from convit.weights import create_model
from tests.evaluation.made import made_evaluation


def _scores(labels: list[int], predicted: list[int], confidences: list[float] | None = None) -> Scores:
    count = len(labels)
    ranks = [0 if right == taken else 1 + right for right, taken in zip(labels, predicted, strict=True)]
    return Scores(
        places=np.arange(count),
        names=tuple(f"{number}.jpg" for number in range(count)),
        labels=np.array(labels),
        predicted=np.array(predicted),
        ranks=np.array(ranks),
        losses=np.linspace(0.1, 2.0, count),
        confidences=np.array(confidences if confidences is not None else [0.5] * count),
    )


def test_intervals_are_scipys() -> None:
    values = np.random.default_rng(3).exponential(size=400)
    ours = bootstrap({"loss": values}, resamples=4000)["loss"]
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=5).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert bootstrap({"loss": values}) == bootstrap({"loss": values}), "the same scores give the same interval"


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    draws = generator.random((200, 300)) < 0.7
    intervals = [bootstrap({"top1": draw}, resamples=300)["top1"] for draw in draws]
    held = sum(low <= 0.7 <= high for low, high in intervals)
    assert 180 <= held <= 199  # 95 % of 200 is 190


def test_a_share_of_all_or_nothing_is_not_certain() -> None:
    for right in (np.ones(20, dtype=bool), np.zeros(20, dtype=bool)):
        low, high = stats.binomtest(int(right.sum()), 20).proportion_ci(method="wilson")
        assert limits_of(right) == pytest.approx((100 * low, 100 * high))
    assert limits_of(np.array([True, False])) is None


def test_a_probe_has_the_interval_of_an_evaluation() -> None:
    for predicted in ([1] * 30, [0] * 30, [1] * 20 + [0] * 10):
        scores = _scores([1] * 30, predicted)
        probe = ProbeScore.of([scores.ranks], 0.0, probe="knn")
        assert (probe.top1_low, probe.top1_high) == accuracies(scores)["intervals"]["top1"]


def test_calibration_against_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("torchmetrics.classification")
    torch.manual_seed(0)
    probabilities, labels = (torch.randn(500, 4) * 2).softmax(1), torch.randint(4, (500,))
    taken = probabilities.max(1)
    scores = _scores(labels.tolist(), taken.indices.tolist(), taken.values.tolist())
    bins = calibration_bins(scores.right(), scores.confidences)
    expected = metrics.MulticlassCalibrationError(4, n_bins=15, norm="l1")(probabilities, labels)
    assert calibration_error(bins) == pytest.approx(100 * expected.item(), abs=1e-3)
    assert sum(each["count"] for each in bins) == 500


def test_bins_hold_their_upper_end() -> None:
    bins = calibration_bins(np.array([True, True, False]), np.array([0.2, 0.21, 1.0]), bins=5)
    assert [each["count"] for each in bins] == [1, 1, 0, 0, 1]
    assert bins[0] == {"lower": 0.0, "upper": 0.2, "count": 1, "confidence": 0.2, "accuracy": 1.0}
    assert (bins[2]["confidence"], bins[2]["accuracy"]) == (0.0, 0.0)
    # gaps of 0.8, 0.79 and 1, each of one image
    assert calibration_error(bins) == pytest.approx(100 * (0.8 + 0.79 + 1.0) / 3)


def test_confusion_is_scikit_learns() -> None:
    generator = np.random.default_rng(1)
    labels, predicted = generator.integers(6, size=300).tolist(), generator.integers(6, size=300).tolist()
    table = np.zeros((6, 6), dtype=int)
    found = confusion(_scores(labels, predicted))
    for right, taken, count in found:
        table[right, taken] = count
    assert (table == confusion_matrix(labels, predicted)).all()
    assert list(found) == sorted(found)


def test_by_class() -> None:
    scores = _scores([0, 0, 0, 0, 7, 7], [0, 7, 7, 3, 7, 7])
    rows = by_class(scores, confusion(scores), names="abcdefgh")
    assert rows == (
        {"class": 0, "name": "a", "count": 4, "top1": 25.0, "top5": 100.0, "mistaken_for": 7},
        {"class": 7, "name": "h", "count": 2, "top1": 100.0, "top5": 100.0, "mistaken_for": None},
    )


def test_classes_without_names_are_called_as_the_classifier_calls_them() -> None:
    scores = _scores([0, 0, 0, 0, 7, 7], [0, 7, 7, 3, 7, 7])
    evaluation, called = (
        made_evaluation(scores, names=None),
        read_labels(create_model("convit_nano_patch4_32", num_classes=8)),
    )
    assert [row["name"] for row in evaluation.per_class] == [called[0], called[7]]
    assert [class_name(evaluation, number) for number in range(8)] == list(called)
    assert [row[1] for row in per_class(evaluation)[1]] == ["class 0", "class 7"]


def test_a_temperature_is_found_again_and_needs_something_to_learn_from() -> None:
    draw = np.random.default_rng(0)
    calm = draw.normal(size=(4000, 5)) * 2
    labels = np.array([draw.choice(5, p=row) for row in softmax(calm, axis=1)])
    found = fit_temperature((calm * 3).astype(np.float32), labels)  # surer than it is right, three times
    assert found is not None
    assert found["temperature"] == pytest.approx(3, rel=0.06)
    assert found["ece_after"] < 3 < found["ece_before"]
    assert found["loss_after"] < found["loss_before"]
    assert fit_temperature(calm[:40].astype(np.float32), labels[:40]) is None  # too few images
    assert fit_temperature(calm.astype(np.float32), calm.argmax(axis=1)) is None  # no mistake
