"""All probes of one model on one task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import perf_counter

from convit.evaluation.probes.embedded import Embedded
from convit.evaluation.probes.fitting import check_classes, probe_few_shots, probe_logistic, probe_nearest, probe_ridge
from convit.evaluation.probes.report import TITLES, ProbeScore, Probing
from convit.evaluation.probes.task import Task, make_task
from convit.output.files import check_packages
from convit.output.text import data_name, made_with

_PROBES: dict[str, Callable[..., ProbeScore]] = {"knn": probe_nearest, "linear": probe_logistic, "ridge": probe_ridge}
PROBES = tuple(_PROBES)
SHOTS = (1, 2, 5, 10, 50)
_log = logging.getLogger(__name__)


def check_probes(probes: Sequence[str], shots: Sequence[int], draws: int) -> None:
    """Refuse what no run could do, before anything is embedded.

    Raises:
        ValueError: an unknown probe, a number below 1, or nothing to do.
        ImportError: SciPy or scikit-learn is not installed, which the extra `evaluate` brings.
    """
    check_packages("a probe", "scipy", "sklearn", extra="evaluate")
    for name in probes:
        if name not in _PROBES:
            raise ValueError(f"there is no probe {name!r}; choose among {', '.join(PROBES)}")
    for what, number in (*(("a number of images per class", count) for count in shots), ("draws", draws)):
        if number < 1:
            raise ValueError(f"{what} is {number}, but must be at least 1")
    if not probes and not shots:
        raise ValueError("neither a probe nor a number of images per class is asked for; name one of them")


def probe(
    train: Embedded,
    test: Embedded | None = None,
    *,
    probes: Sequence[str] = PROBES,
    shots: Sequence[int] = SHOTS,
    draws: int = 5,
    seed: int = 0,
) -> Probing:
    """Train probes on embeddings, and test them.

    Args:
        train: the training images.
        test: the test images; None to hold a fifth of each class of `train` out.
        probes: of "knn", "linear" and "ridge".
        shots: numbers of images per class for few-shot curves; empty for none.
        draws: how often each is drawn.
        seed: of what is held out, folds, draws and resamples. The same seed gives the same metrics.

    Raises:
        ValueError: an option is out of range, or the images do not make a task, as `make_task` says.
        ImportError: SciPy or scikit-learn is not installed, which the extra `evaluate` brings.

    For example::

        name = "convit_nano_patch4_32.cifar10"
        embedder = convit.Embedder(name)
        sets = open_sets("flowers")
        train = embed_labeled(sets.train, embedder, identify(embedder, name))
        print(probe(train, shots=(1, 5)).to_csv())
    """
    check_probes(probes, shots, draws)
    start = perf_counter()
    task = make_task(train, test, seed)
    if "linear" in probes:
        check_classes(task)
    scores: list[ProbeScore] = []
    for name in dict.fromkeys(probes):
        score = _PROBES[name](task, seed=seed)
        told = (score.top1, score.setting, score.chosen, score.seconds)
        _log.info("%s: top-1 %.2f %% with %s = %g, %.1f s", TITLES[name], *told)
        scores.append(score)
    few, left_out = probe_few_shots(task, sorted(set(shots)), draws=draws, seed=seed) if shots else ([], {})
    made = train.identity
    return Probing(
        model=made["model"],
        fingerprint=made["fingerprint"],
        kind=made["kind"],
        dim=task.train.shape[1],
        preprocessing=made["preprocessing"],
        precision=made["precision"],
        train=made["data"],
        test=(test or train).identity["data"],
        tested_on=_say_what_is_tested(train, test, task),
        train_images=len(task.train),
        test_images=len(task.test),
        classes=task.classes,
        class_names=task.class_names,
        probes=tuple(scores),
        few_shot=tuple(few),
        shots_left_out=left_out,
        unreadable=_all_unreadable(train, test),
        seed=seed,
        seconds=perf_counter() - start,
        **made_with("convit", "torch", "numpy", "scikit-learn"),
    )


def _say_what_is_tested(train: Embedded, test: Embedded | None, task: Task) -> str:
    source = data_name(train.identity["data"])
    some = "" if task.train_of is None else f" (a sample of {task.train_of:,})"
    on = f"trained on {len(task.train):,} images{some} of {source}, tested on {len(task.test):,}"
    if test is not None:
        return f"{on} of {data_name(test.identity['data'])}"
    untested = task.classes - len(set(task.test_labels.tolist()))
    few = f", but none of {untested} classes, which are too small" if untested else ""
    return f"{on} held out, a fifth of each class{few}"


def _all_unreadable(train: Embedded, test: Embedded | None) -> dict[str, str]:
    """Those of both sets, in which two images may have the same name."""
    tested = {} if test is None else test.unreadable
    return train.unreadable | {
        f"{name} (test)" if name in train.unreadable else name: why for name, why in tested.items()
    }
