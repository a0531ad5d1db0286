"""The probes themselves: neighbors, logistic and ridge regression on all training images, and curves of a few.

Scikit-learn computes; chosen is what does best on training images that are left out. Neighbors vote as in DINO (Caron
et al. 2021, arXiv 2104.14294), Appendix F.1, after Wu et al. 2018 (arXiv 1805.01978): cosine similarity, votes weighted
by exp(similarity / 0.07); differs: k is chosen, on training images alone. Of a few images there are two probes: the
nearest class mean (cosine similarity to the mean of a class's vectors of length 1; Snell et al. 2017, arXiv 1703.05175,
and Wang et al. 2019, arXiv 1911.04623), and logistic regression.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from convit.evaluation.metrics import top
from convit.evaluation.probes.report import ALPHAS, NEIGHBORS, STRENGTHS, ProbeScore
from convit.evaluation.probes.task import Task, few_of_each, share_of_each, stratified_folds
from convit.evaluation.scoring import ranks_of

TEMPERATURE = 0.07
MOST_QUERIES = 10_000  # training images that are left out in turn to choose k
FOLDS = 5
MOST_VALIDATED = 20_000  # training images among which C is chosen
PATIENCE = 2
MOST_STEPS = 200
UNCHOSEN_STRENGTH = 0.01  # C where no class has a second image to choose it by
_log = logging.getLogger(__name__)
Ranks = Int64[np.ndarray, " test"]


class Choice(NamedTuple):
    """The C that did best on images left out, and those tried as (C, top-1 in percent), in this order."""

    strength: float
    tried: tuple[tuple[float, float], ...]


def probe_nearest(task: Task, *, seed: int = 0) -> ProbeScore:
    """Choose k on the training images, each left out in turn, and test it.

    Of more than 10,000 training images 10,000 are left out in turn, drawn by the seed; all of them vote.
    """
    from sklearn.neighbors import KNeighborsClassifier

    start, count = perf_counter(), len(task.train)
    tried = [k for k in NEIGHBORS if k < count] or [1]
    model = KNeighborsClassifier(metric="cosine").fit(task.train, task.train_labels)
    left_out = np.sort(np.random.default_rng(seed).permutation(count)[:MOST_QUERIES])
    near, places = model.kneighbors(task.train[left_out], tried[-1] + 1)
    others = places != left_out[:, None]
    others[others.all(axis=1), -1] = False  # of images that are all alike it may not be among its own nearest
    near, places = near[others].reshape(len(near), -1), places[others].reshape(len(near), -1)
    alone = _vote(near, task.train_labels[places], task.train_labels[left_out], tried, task.classes)
    held = {k: top(ranks) for k, ranks in alone.items()}
    chosen = max(tried, key=lambda k: held[k])  # the first, and smallest, of equals
    near, places = model.kneighbors(task.test, tried[-1])
    tested = _vote(near, task.train_labels[places], task.test_labels, tried, task.classes)
    return ProbeScore.of(
        [tested[chosen]],
        start,
        seed=seed,
        probe="knn",
        setting="k",
        chosen=chosen,
        chosen_by=f"leaving out each of {len(left_out):,} of the {count:,} training images in turn",
        tried=tuple(
            {"k": k, "validation_top1": held[k], "test_top1": top(tested[k]), "test_top5": top(tested[k], 5)}
            for k in tried
        ),
    )


def probe_logistic(task: Task, *, seed: int = 0) -> ProbeScore:
    """Choose C by cross-validation on training images, fit it to all of them, and test it.

    C is a prior's variance and does not depend on the number of images; where there are more than 20,000, it is chosen
    on so many of them, the same share of each class.

    Raises:
        ValueError: a class has only one training image.
    """
    start = perf_counter()
    check_classes(task)
    rows = share_of_each(task.train_labels, MOST_VALIDATED, 2, seed)
    choice = choose_strength(task.train[rows], task.train_labels[rows], seed=seed)
    return ProbeScore.of(
        [_linear_ranks(task, np.arange(len(task.train)), choice.strength)],
        start,
        seed=seed,
        probe="linear",
        setting="C",
        chosen=choice.strength,
        chosen_by=f"{FOLDS}-fold cross-validation on {len(rows):,} of the {len(task.train):,} training images",
        tried=tuple({"C": strength, "validation_top1": found} for strength, found in choice.tried),
    )


def check_classes(task: Task) -> None:
    """Refuse a class of which no image can be left out.

    Raises:
        ValueError: a class has only one training image.
    """
    counts = np.bincount(task.train_labels, minlength=task.classes)
    if counts.min() < 2:
        raise ValueError(
            f"class {task.class_names[int(counts.argmin())]!r} has 1 training image, but the linear probe's "
            "cross-validation needs 2 or more of each class; add images, or use --probe knn,ridge"
        )


def choose_strength(
    vectors: Float32[np.ndarray, "rows dim"],
    labels: Int64[np.ndarray, " rows"],
    *,
    seed: int | tuple[int, ...] = 0,
    folds: int = FOLDS,
    strengths: Sequence[float] = STRENGTHS,
) -> Choice:
    """Walk from strong to weak regularization until top-1 on images left out is below the best twice in a row.

    Every class has at least two images; each fold is left out once, and vectors are scaled by mean and standard
    deviation of what is fitted to. Each fit begins where the one before it ended. Chosen is the first of the best.
    """
    part_of = stratified_folds(labels, folds, seed)
    parts = [(part_of == fold, _logistic()) for fold in range(folds) if (part_of == fold).any()]
    tried: list[tuple[float, float]] = []
    best = 0
    for number, strength in enumerate(strengths):
        right = 0
        for held, model in parts:
            _fit(model, vectors[~held], labels[~held], strength)
            right += int((_scores(model, vectors[held]).argmax(axis=1) == labels[held]).sum())
        tried.append((strength, 100 * right / len(labels)))
        _log.debug("C %g: top-1 %.2f %% on images left out", *tried[-1])
        if tried[number][1] > tried[best][1]:
            best = number
        # what is merely no better may be a plateau: of the prior at the strong end, say
        fallen = number - best >= PATIENCE and all(found < tried[best][1] for _, found in tried[-PATIENCE:])
        if fallen or right == len(labels):
            break
    return Choice(tried[best][0], tuple(tried))


def fit_linear(
    vectors: Float32[np.ndarray, "rows dim"], labels: Int64[np.ndarray, " rows"], strength: float
) -> tuple[Float64[np.ndarray, "classes dim"], Float64[np.ndarray, " classes"]]:
    """Logistic regression as the weights and biases of a linear layer, which takes the vectors as they are.

    The strength is C; of the labels, from 0, each occurs.
    """
    model = _logistic()
    _fit(model, vectors, labels, strength)
    scaler, regression = model
    weights = regression.coef_ / scaler.scale_
    biases = regression.intercept_ - weights @ scaler.mean_
    if len(weights) == 1:  # scikit-learn gives one row for two classes: the second's score above the first's
        weights, biases = (np.concatenate([-each, each]) / 2 for each in (weights, biases))
    return weights, biases


def probe_ridge(task: Task, *, seed: int = 0) -> ProbeScore:
    """Regress one-hot classes; alpha is chosen by leaving out each training image in turn, in closed form.

    Vectors are standardized, with mean and standard deviation of all training images.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    start, labels = perf_counter(), task.train_labels
    held: list[float] = []

    def keep_top1(_: Any, predicted: np.ndarray, targets: np.ndarray) -> float:
        # some versions of scikit-learn hand both over in one row
        rows, wanted = (each.reshape(len(labels), -1) for each in (predicted, targets))
        held.append(top(ranks_of(rows, wanted.argmax(axis=1))))
        return held[-1]

    scaler = StandardScaler().fit(task.train)
    # not RidgeClassifierCV, which has a single target for two classes and chooses among them by another rule
    model = RidgeCV(alphas=ALPHAS, scoring=keep_top1)
    model.fit(scaler.transform(task.train), np.eye(task.classes)[labels])
    return ProbeScore.of(
        [ranks_of(model.predict(scaler.transform(task.test)), task.test_labels)],
        start,
        seed=seed,
        probe="ridge",
        setting="alpha",
        chosen=ALPHAS[int(np.argmax(held))],  # the first, and strongest, of equals, as scikit-learn takes it
        chosen_by=f"leaving out each of the {len(labels):,} training images in turn, in closed form",
        tried=tuple({"alpha": alpha, "validation_top1": found} for alpha, found in zip(ALPHAS, held, strict=True)),
    )


def probe_few_shots(
    task: Task, shots: Sequence[int], *, draws: int, seed: int = 0
) -> tuple[list[ProbeScore], dict[int, str]]:
    """Train on a few images of each class, several times, and test on all test images.

    Which images are drawn depends on the seed and on the training images' classes and order, and not on the vectors: it
    is the same for every model. A draw of a few is part of that draw of more. C of logistic regression is chosen by
    cross-validation within the first draw; for one image per class it is that of the next larger number. `shots` are
    numbers of images per class, ascending, each of which is drawn several times.

    Returns:
        The metrics, first of all class means; and images per class → why so many were left out.
    """
    counts = np.bincount(task.train_labels, minlength=task.classes)
    smallest = int(counts.argmin())
    left_out = {
        count: f"class {task.class_names[smallest]!r} has {counts[smallest]} training images"
        for count in shots
        if count > counts[smallest]
    }
    kept = [count for count in shots if count not in left_out]
    strengths = _choose_strengths(task, kept, seed)
    means: list[ProbeScore] = []
    linear: list[ProbeScore] = []
    for count in kept:
        drawn = [few_of_each(task.train_labels, count, (seed, number)) for number in range(draws)]
        start = perf_counter()
        means.append(ProbeScore.of([_mean_ranks(task, rows) for rows in drawn], start, probe="mean", shots=count))
        start, c = perf_counter(), strengths[count]
        ranks = [_linear_ranks(task, rows, c) for rows in drawn]
        linear.append(ProbeScore.of(ranks, start, probe="linear", shots=count, setting="C", chosen=c))
        _log.info("%d per class: top-1 %.2f %%, %.2f %% by class means", count, linear[-1].top1, means[-1].top1)
    return [*means, *linear], left_out


def _choose_strengths(task: Task, shots: Sequence[int], seed: int) -> dict[int, float]:
    """C for each number of images per class."""
    found: dict[int, float] = {}
    for count in shots:
        if count > 1:
            rows = few_of_each(task.train_labels, count, (seed, 0))
            # no more folds than images, or some class would be rarer than the others in what a fold is fitted to
            choice = choose_strength(task.train[rows], task.train_labels[rows], seed=seed, folds=min(FOLDS, count))
            found[count] = choice.strength
    return {1: next(iter(found.values()), UNCHOSEN_STRENGTH), **found}


def _vote(
    near: np.ndarray, voters: np.ndarray, right: np.ndarray, tried: Sequence[int], classes: int
) -> dict[int, Ranks]:
    """For each k the ranks of the right classes, by the neighbors' cosine distances and classes; no vote: the last."""
    found: dict[int, Ranks] = {}
    # relative to the nearest: no exponent overflows, and all votes of a query change by the same factor
    votes = np.exp((near[:, :1] - near) / TEMPERATURE)
    queries = np.arange(len(near))
    for k in tried:
        counted = np.zeros((len(near), classes))
        np.add.at(counted, (queries[:, None], voters[:, :k]), votes[:, :k])
        found[k] = np.where(counted[queries, right] == 0, classes, ranks_of(counted, right))
    return found


def _mean_ranks(task: Task, rows: Int64[np.ndarray, " drawn"]) -> Ranks:
    from sklearn.preprocessing import normalize

    sums = np.zeros((task.classes, task.train.shape[1]), dtype=np.float32)
    np.add.at(sums, task.train_labels[rows], normalize(task.train[rows]))
    # a sum points where the mean does; scores of a test vector at any length are in the same order
    return ranks_of(task.test @ normalize(sums).T, task.test_labels)


def _linear_ranks(task: Task, rows: Int64[np.ndarray, " drawn"], strength: float) -> Ranks:
    model = _logistic()
    _fit(model, task.train[rows], task.train_labels[rows], strength)
    return ranks_of(_scores(model, task.test), task.test_labels)


def _logistic() -> Any:
    """Logistic regression on standardized vectors, which begins its next fit where the one before it ended."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=MOST_STEPS, warm_start=True))


def _fit(model: Any, vectors: np.ndarray, labels: np.ndarray, strength: float) -> None:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # after so many steps it is close enough
        model.set_params(logisticregression__C=strength).fit(vectors, labels)


def _scores(model: Any, vectors: np.ndarray) -> np.ndarray:
    """A score per class; scikit-learn gives one column for two classes."""
    found = model.decision_function(vectors)
    return found if found.ndim == 2 else np.stack([-found, found], axis=1)
