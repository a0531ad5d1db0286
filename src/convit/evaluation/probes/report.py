"""What a run of probes leaves: metrics, and all that is needed to measure them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from time import perf_counter
from typing import Any, TextIO

import numpy as np
from jaxtyping import Int64

from convit.evaluation.metrics import bootstrap, top
from convit.output.console import make_table, print_parts
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
TITLES = {
    "knn": "nearest neighbors",
    "linear": "logistic regression",
    "ridge": "ridge regression",
    "mean": "nearest class mean",
}
_SHORT = {"knn": "k-NN", "linear": "logistic", "ridge": "ridge", "mean": "class mean"}


@dataclass(frozen=True)
class ProbeScore:
    """A probe that was trained on all training images.

    Attributes:
        probe: "knn", "linear" or "ridge".
        top1: share of test images whose class it puts first, percent.
        top5: share of test images whose class is among its first five, percent.
        top1_low: lower end of the 95 % bootstrap interval of `top1`.
        top1_high: upper end.
        setting: what was chosen on training images: "k", "C" or "alpha".
        chosen: its value.
        chosen_by: how.
        tried: each value with its "validation_top1" on training images that were left out; of "knn" also with
            "test_top1" and "test_top5".
        seconds: of choosing, fitting and testing.
    """

    probe: str
    top1: float
    top5: float
    top1_low: float
    top1_high: float
    setting: str
    chosen: float
    chosen_by: str
    tried: tuple[dict[str, float], ...]
    seconds: float

    @classmethod
    def of(cls, ranks: Int64[np.ndarray, " images"], seed: int, start: float, **known: Any) -> ProbeScore:
        """The score of a probe that has just been tested.

        Args:
            ranks: of the test images' right classes, from 0.
            seed: of the interval's resamples.
            start: `perf_counter()` when the probe began.
            known: the other attributes.
        """
        low, high = bootstrap({"top1": 100.0 * (ranks < 1)}, seed=seed)["top1"]
        figures = {"top1": top(ranks), "top5": top(ranks, 5), "top1_low": low, "top1_high": high}
        return cls(**figures, **known, seconds=perf_counter() - start)


@dataclass(frozen=True)
class ShotScore:
    """A probe that was trained on a few images of each class, drawn several times.

    Attributes:
        probe: "mean" (nearest class mean) or "linear".
        shots: training images of each class.
        top1: mean over the draws, percent.
        top1_deviation: standard deviation between the draws, percentage points; None for a single draw.
        top5: mean over the draws, percent.
        draws: top-1 of each draw, percent.
        setting: "C" of "linear", else None.
        chosen: its value.
        seconds: of all draws.
    """

    probe: str
    shots: int
    top1: float
    top1_deviation: float | None
    top5: float
    draws: tuple[float, ...]
    setting: str | None
    chosen: float | None
    seconds: float

    @classmethod
    def of(
        cls, ranks: Sequence[Int64[np.ndarray, " images"]], start: float, probe: str, shots: int, c: float | None = None
    ) -> ShotScore:
        """The score of a probe that has just been tested.

        Args:
            ranks: of the test images' right classes, from 0, for each draw.
            start: `perf_counter()` when the probe began.
            probe: as the attribute.
            shots: as the attribute.
            c: C, where it has one.
        """
        draws = tuple(top(each) for each in ranks)
        return cls(
            probe=probe,
            shots=shots,
            top1=float(np.mean(draws)),
            top1_deviation=float(np.std(draws, ddof=1)) if len(draws) > 1 else None,
            top5=float(np.mean([top(each, 5) for each in ranks])),
            draws=draws,
            setting=None if c is None else "C",
            chosen=c,
            seconds=perf_counter() - start,
        )


@dataclass(frozen=True)
class Probing:
    """The result of one run of probes.

    Attributes:
        model: the model's name.
        fingerprint: "sha256:" and the hash of its weight file, or "module:" and that of its parameters.
        kind: of embedding.
        dim: length of a vector.
        preprocessing: keyword arguments of `create_transform`, and `apply_exif`.
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
    few_shot: tuple[ShotScore, ...]
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
        """One row per probe and number of training images, with the keys `COLUMNS`; None where there is nothing.

        "per_class" is None for all images; "low" and "high" end the 95 % interval of top-1 over test images, and
        "deviation" is the standard deviation between draws.
        """
        whole = [
            {**asdict(score), "per_class": None, "low": score.top1_low, "high": score.top1_high, "deviation": None}
            for score in self.probes
        ]
        few = [
            {**asdict(score), "per_class": score.shots, "low": None, "high": None, "deviation": score.top1_deviation}
            for score in self.few_shot
        ]
        return [{key: row[key] for key in COLUMNS} for row in (*whole, *few)]

    def to_csv(self) -> str:
        """`rows` as CSV text with a head line."""
        return csv_text(COLUMNS, ([row[key] for key in COLUMNS] for row in self.rows()))

    def __str__(self) -> str:
        # all of them: the best would be one that was chosen on test images
        found = ", ".join(f"{_SHORT[score.probe]} {score.top1:.2f} %" for score in self.probes)
        return (
            f"{self.model}{found and f': {found}'}; {self.train_images:,} training and {self.test_images:,} test images"
        )


def from_dict(values: Mapping[str, Any]) -> Probing:
    """A result again, from what `Probing.to_dict` or its JSON gave; what else stands beside is left alone.

    Raises:
        ValueError: it is not a result of `convit probe`.
    """
    try:
        changed: dict[str, Any] = {
            "class_names": tuple(values["class_names"]),
            "probes": tuple(ProbeScore(**_as_made(score, "tried")) for score in values["probes"]),
            "few_shot": tuple(ShotScore(**_as_made(score, "draws")) for score in values["few_shot"]),
            "shots_left_out": {int(shots): why for shots, why in values["shots_left_out"].items()},
        }
        return Probing(**{each.name: ({**values, **changed})[each.name] for each in fields(Probing)})
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"this is not a result of `convit probe` ({error}); make one with --output probe.json"
        ) from error


def _as_made(score: dict[str, Any], listed: str) -> dict[str, Any]:
    return {**score, listed: tuple(score[listed])}


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


def _note_of_one_image(scores: Sequence[ShotScore]) -> list[str]:
    shots = [score.shots for score in scores if score.probe == "linear"]
    if 1 not in shots:
        return []
    if len(shots) == 1:
        return ["Of 1 image per class none can be left out: its C is fixed."]
    return [f"Of 1 image per class none can be left out: its C was chosen with {sorted(shots)[1]} per class."]


def _note_of_ends(probing: Probing) -> list[str]:
    """Choices beyond which nothing was tried."""
    rows = [score for score in probing.probes if score.chosen in ENDS[score.setting]]
    found = [f"{_SHORT[score.probe]} {score.setting} {score.chosen:g}" for score in rows]
    few: dict[str, list[str]] = {}
    for score in probing.few_shot:
        # that of one image is another's
        if score.setting is not None and score.shots > 1 and score.chosen in ENDS[score.setting]:
            few.setdefault(f"{_SHORT[score.probe]} {score.setting} {score.chosen:g}", []).append(str(score.shots))
    found += [f"{choice} with {', '.join(shots)} per class" for choice, shots in few.items()]
    return [f"Chosen at the end of what is tried: {'; '.join(found)}."] if found else []
