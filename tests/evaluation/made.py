"""Evaluations made by hand, for what is drawn and written of them."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from convit.data import LabeledImage
from convit.evaluation.metrics import bootstrap, by_class, calibration_bins, calibration_error, confusion
from convit.evaluation.report import Evaluation
from convit.evaluation.scoring import Scores
from tests.data.making import encoded

SIX = ("cat", "coffee cup", "rocket", "person", "page", "clock")


def made_scores(classes: int = 6, images: int = 60, names: Sequence[str] | None = None, seed: int = 3) -> Scores:
    """Scores of a model that is right more often than not, less often for higher classes; place 7 was unreadable."""
    draw = np.random.default_rng(seed)
    labels = np.sort(draw.integers(0, classes, images))
    wrong = draw.random(images) < 0.2 + 0.3 * labels / classes
    predicted = np.where(wrong, (labels + draw.integers(1, 3, images)) % classes, labels)
    confidences = draw.uniform(0.3, 0.99, images)
    ranks = np.where(wrong, draw.integers(1, 6, images), 0)
    losses = np.where(wrong, -np.log((1 - confidences) / 2), -np.log(confidences))
    places = np.arange(images) + (np.arange(images) >= 7)
    found = names or [f"{label}/{place}.jpg" for label, place in zip(labels, places, strict=True)]
    return Scores(places, tuple(found), labels, predicted, ranks, losses, confidences)


def made_evaluation(scores: Scores, names: tuple[str, ...] | None = SIX, **changes: Any) -> Evaluation:
    """An evaluation of these scores; what has no figure is made up."""
    right, bins, found = scores.right(), calibration_bins(scores.right(), scores.confidences), confusion(scores)
    columns = {"top1": right, "top5": scores.right(5), "loss": scores.losses}
    low_and_high = bootstrap(columns, resamples=50)
    scale = {"top1": 100, "top5": 100, "loss": 1}
    per_class = by_class(scores, found, names)
    classes = len(names) if names else int(scores.labels.max()) + 1
    values: dict[str, Any] = dict.fromkeys(each.name for each in dataclasses.fields(Evaluation))
    values |= {
        "model": "convit_made",
        "architecture": "convit_tiny",
        "weights": "made.safetensors",
        "weights_sha256": "ab" * 32,
        "data": {"kind": "folder", "name": "photographs", "sha256": "cd" * 32},
        "data_sha256": "cd" * 32,
        "count": len(scores),
        "unreadable": 1,
        "errors": ({"name": "1/7.jpg", "error": "1/7.jpg is empty (0 bytes); fetch or export it again"},),
        "top1": 100 * right.mean(),
        "top5": 100 * scores.right(5).mean(),
        "loss": scores.losses.mean(),
        "intervals": {name: tuple(scale[name] * end for end in ends) for name, ends in low_and_high.items()},
        "mean_class_top1": float(np.mean([row["top1"] for row in per_class])),
        "ece": calibration_error(bins),
        "temperature": 1.0,
        "correct_top1": int(right.sum()),
        "correct_top5": int(scores.right(5).sum()),
        "classes": classes,
        "classes_in_data": len(per_class),
        "competing": classes,
        "precision": "float32",
        "device": "cpu (x86_64, 2 threads)",
        "preprocessing": {"input_size": (3, 32, 32), "crop_pct": 1.0, "apply_exif": False},
        "img_size": (32, 32),
        "batch_size": 8,
        "seconds": 1.5,
        "images_per_second": len(scores) / 1.5,
        "waiting_share": 0.1,
        "processes": 1,
        "versions": {"convit": "0.1.0"},
        "date": "2030-01-01T00:00:00+00:00",
        "calibration": bins,
        "per_class": per_class,
        "confusion": found,
        "class_names": names,
        "scores": scores,
    }
    return Evaluation(**(values | changes))


class MadeImages:
    """A data set of plain pictures, each of a color of its own, that notes which of them were read."""

    kind, classes, source, restricted = "folder", None, "made", False

    def __init__(self, count: int, size: tuple[int, int] = (200, 120), broken: Sequence[int] = ()) -> None:
        self.count, self.size, self.broken = count, size, broken
        self.distinct_labels, self.read = range(6), list[int]()

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[LabeledImage]:
        return self.take(range(self.count))

    def take(self, places: Sequence[int]) -> Iterator[LabeledImage]:
        """The images at these ascending places."""
        assert list(places) == sorted(set(places))
        for place in places:
            self.read.append(place)
            content = encoded(Image.new("RGB", self.size, (place, 255 - place, 90)))
            yield LabeledImage(str(place), b"" if place in self.broken else content, place % 6)

    def identity(self) -> dict[str, Any]:
        """What it is."""
        return {"kind": "folder", "name": "made", "sha256": ""}
