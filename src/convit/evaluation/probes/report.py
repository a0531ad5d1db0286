"""What a run of probes leaves: metrics, and all that is needed to measure them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Self, TextIO

import numpy as np
from jaxtyping import Int64

from convit.evaluation.metrics import bootstrap, limits_of, top
from convit.output.console import as_html, make_table, print_parts
from convit.output.text import csv_text, json_text

# the values among which each probe chooses
NEIGHBORS = (1, 5, 10, 20, 50, 100, 200)
STRENGTHS = tuple(10.0**power for power in range(-4, 3))  # C, from strong regularization to weak
ALPHAS = tuple(10.0**power for power in range(6, -3, -1))  # from strong regularization to weak
# a choice at one of these may have a better value beyond it; one neighbor is the fewest that there can be
ENDS: Mapping[str, frozenset[float]] = {
    "k": frozenset(NEIGHBORS[-1:]),
    "C": frozenset((STRENGTHS[0], STRENGTHS[-1])),
    "alpha": frozenset((ALPHAS[0], ALPHAS[-1])),
}
COLUMNS = ("probe", "per_class", "top1", "low", "high", "deviation", "top5", "setting", "chosen", "seconds")
_NAMED = {"per_class": "shots", "low": "top1_low", "high": "top1_high", "deviation": "top1_deviation"}  # in a score
TITLES = {
    "knn": "nearest neighbors",
    "linear": "logistic regression",
    "ridge": "ridge regression",
    "mean": "nearest class mean",
}
_SHORT = {"knn": "k-NN", "linear": "logistic", "ridge": "ridge", "mean": "class mean"}


@dataclass(frozen=True)
class ProbeScore:
    """A probe that was trained on all training images, or on a few images of each class, drawn several times.

    Attributes:
        probe: "knn", "linear", "ridge" or, of a few images, "mean" (nearest class mean).
        top1: share of test images whose class it puts first, percent; of several draws their mean.
        top5: share of test images whose class is among its first five, percent; likewise.
        seconds: of choosing, fitting and testing.
        setting: what was chosen on training images: "k", "C" or "alpha"; None if there is nothing to choose.
        chosen: its value.
        chosen_by: how.
        tried: each value with its "validation_top1" on training images that were left out; of "knn" also with
            "test_top1" and "test_top5".
        top1_low, top1_high: the 95 % interval of `top1` over the test images, as in an evaluation; None of a
            few images.
        shots: training images of each class; None if all were taken.
        top1_deviation: standard deviation between the draws, percentage points; None for a single draw.
        draws: top-1 of each draw, percent.
    """

    probe: str
    top1: float
    top5: float
    seconds: float
    setting: str | None = None
    chosen: float | None = None
    chosen_by: str | None = None
    tried: tuple[dict[str, float], ...] = ()
    top1_low: float | None = None
    top1_high: float | None = None
    shots: int | None = None
    top1_deviation: float | None = None
    draws: tuple[float, ...] = ()

    @classmethod
    def of(cls, ranks: Sequence[Int64[np.ndarray, " images"]], start: float, *, seed: int = 0, **known: Any) -> Self:
        """The score of a probe that has just been tested.

        Args:
            ranks: of the test images' right classes, from 0, for each draw; one where all training images were taken.
            start: `perf_counter()` when the probe began.
            seed: of the interval's resamples.
            known: the other attributes.
        """
        draws = [top(each) for each in ranks]
        if known.get("shots") is None:
            right = ranks[0] < 1
            low, high = limits_of(right) or bootstrap({"top1": 100.0 * right}, seed=seed)["top1"]
            known |= {"top1_low": low, "top1_high": high}
        else:
            deviation = float(np.std(draws, ddof=1)) if len(draws) > 1 else None
            known |= {"draws": tuple(draws), "top1_deviation": deviation}
        top5 = float(np.mean([top(each, 5) for each in ranks]))
        return cls(top1=float(np.mean(draws)), top5=top5, seconds=perf_counter() - start, **known)


@dataclass(frozen=True)
class Probing:
    """The result of one run of probes.

    Attributes:
        model: the model's name.
        fingerprint: "sha256:" and the hash of its weight file, or "module:" and that of its parameters.
        kind: of embedding.
        dim: length of a vector.
        preprocessing: which pixels the model was given; see `convit.inference.Predictor.preprocessing`.
        precision: type of the model's weights and activations.
        train: the training images' identity.
        test: the test images' identity; that of `train` where some of it was held out.
        tested_on: in words, which images are training and which test images.
        train_images: number of training images that could be read; of more than 100,000 those that were drawn.
        test_images: number of test images that could be read.
        classes: number of classes.
        class_names: their names, or numbers as text.
        probes: the probes trained on all training images.
        few_shot: those trained on a few.
        shots_left_out: images per class → why no probe was trained on so many.
        unreadable: name → problem of the images that could not be read; in none of the metrics.
        seed: of all draws and folds.
        seconds: of all probes, without the embedding.
        versions: convit, torch, numpy, scikit-learn and Python.
        date: when it was done, UTC, ISO 8601.
    """

    model: str
    fingerprint: str
    kind: str
    dim: int
    preprocessing: dict[str, Any]
    precision: str
    train: dict[str, Any]
    test: dict[str, Any]
    tested_on: str
    train_images: int
    test_images: int
    classes: int
    class_names: tuple[str, ...]
    probes: tuple[ProbeScore, ...]
    few_shot: tuple[ProbeScore, ...]
    shots_left_out: dict[int, str]
    unreadable: dict[str, str]
    seed: int
    seconds: float
    versions: dict[str, str]
    date: str

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dict that `json.dumps` takes."""
        return asdict(self)

    def to_json(self) -> str:
        """The fields as JSON text, numbers in full precision."""
        return json_text(self.to_dict())

    def rows(self) -> list[dict[str, Any]]:
        """One row per probe and number of training images, with the keys `COLUMNS`; None if there is nothing.

        "per_class" is None for all images; "low" and "high" end the 95 % interval of top-1 over test images, and
        "deviation" is the standard deviation between draws.
        """
        scores = (*self.probes, *self.few_shot)
        return [{column: getattr(score, _NAMED.get(column, column)) for column in COLUMNS} for score in scores]

    def to_csv(self) -> str:
        """`rows` as CSV text with a head line."""
        return csv_text(COLUMNS, ([row[key] for key in COLUMNS] for row in self.rows()))

    def _repr_html_(self) -> str:
        return as_html(write_table, self)

    def __str__(self) -> str:
        # all of them: the best would be one that was chosen on test images
        found = ", ".join(f"{_SHORT[score.probe]} {score.top1:.2f} %" for score in self.probes)
        return (
            f"{self.model}{found and f': {found}'}; {self.train_images:,} training and {self.test_images:,} test images"
        )


def shown_rows(probing: Probing) -> list[tuple[str, ...]]:
    """The table for people, its head first."""
    lines: list[tuple[str, ...]] = [("probe", "per class", "top-1", "", "top-5", "chosen", "time")]
    for row in probing.rows():
        spread = "" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}"
        spread = spread if row["deviation"] is None else f"± {row['deviation']:.2f}"
        chosen = "" if row["setting"] is None else f"{row['setting']} {row['chosen']:g}"
        per_class = "all" if row["per_class"] is None else str(row["per_class"])
        figures = (f"{row['top1']:.2f}", spread, f"{row['top5']:.2f}", chosen, f"{row['seconds']:.1f} s")
        lines.append((_SHORT[row["probe"]], per_class, *figures))
    return lines


def write_table(probing: Probing, stream: TextIO) -> None:
    """Print the result for people: what was measured, then one table, then what was left out."""
    head, *lines = shown_rows(probing)
    print_parts(
        stream,
        f"{probing.model}, {probing.kind} embeddings of {probing.dim} values, {probing.precision}",
        f"{probing.tested_on}; {probing.classes} classes",
        make_table(head, lines, right=(1, 2, 3, 4, 6)),
        *notes(probing),
    )


def notes(probing: Probing) -> Sequence[str]:
    """What a reader of the table must know."""
    found: list[str] = []
    if probing.probes:
        found.append("All images: 95 % bootstrap interval of top-1 over the test images.")
    if probing.few_shot:
        draws = len(probing.few_shot[0].draws)
        found.append(f"A few of each class: mean of {draws} draws, ± one standard deviation between them.")
        found += _note_of_one_image(probing.few_shot)
    found += _note_of_ends(probing)
    found += [f"{shots} per class is left out: {why}." for shots, why in probing.shots_left_out.items()]
    if probing.unreadable:
        count = len(probing.unreadable)
        images = "1 image" if count == 1 else f"{count:,} images"
        found.append(f"{images} could not be read and count in no metric.")
    return found


def _note_of_one_image(scores: Sequence[ProbeScore]) -> list[str]:
    shots = [score.shots for score in scores if score.probe == "linear" and score.shots is not None]
    if 1 not in shots:
        return []
    if len(shots) == 1:
        return ["Of 1 image per class none can be left out: its C is fixed."]
    return [f"Of 1 image per class none can be left out: its C was chosen with {sorted(shots)[1]} per class."]


def _note_of_ends(probing: Probing) -> list[str]:
    """Choices beyond which nothing was tried."""
    found: dict[tuple[str, bool], list[str]] = {}
    for score in (*probing.probes, *probing.few_shot):
        # that of one image is another's
        if score.setting is not None and score.shots != 1 and score.chosen in ENDS[score.setting]:
            choice = f"{_SHORT[score.probe]} {score.setting} {score.chosen:g}"
            found.setdefault((choice, score.shots is None), []).append(str(score.shots))
    told = [name if whole else f"{name} with {', '.join(shots)} per class" for (name, whole), shots in found.items()]
    return [f"Chosen at the end of what is tried: {'; '.join(told)}."] if told else []
