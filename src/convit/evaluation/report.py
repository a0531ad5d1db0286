"""What an evaluation leaves: its metrics, all that is needed to measure them again, and both as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TextIO

from convit.evaluation.metrics import Confusion, Interval
from convit.evaluation.scoring import Scores
from convit.output.console import as_html, make_table, print_parts
from convit.output.files import hash_file
from convit.output.text import as_json, data_name
from convit.weights.labels import name_class


@dataclass(frozen=True)
class Evaluation:
    """The result of one run of a model over labeled images.

    Attributes:
        model: the model's name.
        architecture: its variant, where known.
        weights: name of the weight file, "" for a model that was handed over.
        weights_sha256: the file's sha256; of a model that was handed over, that of its parameters and buffers.
        data: the images: kind, and name and sha256 of the folder or of each shard.
        data_sha256: sha256 of the one shard, of the list of shards, or of the folder's list of images.
        count: images scored.
        unreadable: images that could not be read or scored; in none of the metrics.
        errors: name and problem of each of these.
        top1: share of images whose class the model puts first, percent.
        top5: share of images whose class is among the model's first five, percent.
        loss: mean cross entropy (natural logarithm).
        intervals: 95 % bootstrap intervals of "top1" and "top5" (percent) and "loss".
        mean_class_top1: mean of the classes' top-1, percent.
        ece: expected calibration error, percent; see `convit.evaluation.metrics.calibration_error`.
        temperature: what logits were divided by before the softmax: the weights' own, or fitted to these images.
        temperature_fit: what `convit.evaluation.metrics.fit_temperature` found on these images, if it was asked to.
        correct_top1, correct_top5: the numbers of images behind `top1` and `top5`.
        classes: number of the model's classes.
        classes_in_data: number of classes that occur in the data.
        competing: number of classes that the model could choose from.
        tta: "flip" where the logits of an image and its mirror image were averaged, else None.
        precision: type of weights and activations.
        device: where it ran.
        preprocessing: which pixels the model was given; see `convit.inference.Predictor.preprocessing`.
        img_size: (height, width) of the model's input, pixels.
        batch_size: images per forward pass.
        seconds: time of the run, without loading the model.
        images_per_second: unreadable ones included.
        waiting_share: part of the time in which the model waited for images, 0 to 1.
        processes: how many shared the images.
        versions: convit, torch and Python.
        date: when it was done, UTC, ISO 8601.
        calibration: the bins behind `ece`; see `convit.evaluation.metrics.calibration_bins`.
        per_class: accuracy of each class; see `convit.evaluation.metrics.by_class`.
        confusion: (right class, predicted class, images), where there are any.
        class_names: of the model's classes, None if it has none.
        scores: of each image; None if only the metrics are known.
    """

    model: str
    architecture: str | None
    weights: str
    weights_sha256: str
    data: dict[str, Any]
    data_sha256: str
    count: int
    unreadable: int
    errors: tuple[dict[str, str], ...]
    top1: float
    top5: float
    loss: float
    intervals: dict[str, Interval]
    mean_class_top1: float
    ece: float
    temperature: float
    temperature_fit: dict[str, float] | None
    correct_top1: int
    correct_top5: int
    classes: int
    classes_in_data: int
    competing: int
    tta: str | None
    precision: str
    device: str
    preprocessing: dict[str, Any]
    img_size: tuple[int, int]
    batch_size: int
    seconds: float
    images_per_second: float
    waiting_share: float
    processes: int
    versions: dict[str, str]
    date: str
    calibration: tuple[dict[str, float], ...] = field(repr=False)
    per_class: tuple[dict[str, Any], ...] = field(repr=False)
    confusion: Confusion = field(repr=False)
    class_names: tuple[str, ...] | None = field(repr=False)
    scores: Scores | None = field(default=None, repr=False)

    def to_dict(self, *, with_images: bool = False) -> dict[str, Any]:
        """The fields as a dict that `json.dumps` takes; `with_images` adds "images", which `compare` needs."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "scores"}
        if with_images and self.scores is not None:
            columns = {each.name: getattr(self.scores, each.name) for each in fields(self.scores)}
            values["images"] = {name: _as_list(column) for name, column in columns.items()}
        return values

    def to_json(self, *, with_images: bool = False) -> str:
        """What `to_dict` gives as JSON text, numbers in full precision; a line for each field."""
        values = self.to_dict(with_images=with_images).items()
        lines = (f"  {as_json(name)}: {as_json(value)}" for name, value in values)
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def _repr_html_(self) -> str:
        return as_html(write_table, self)

    def __str__(self) -> str:
        failed = f", {self.unreadable} could not be read" if self.unreadable else ""
        return (
            f"{self.model}: top-1 {self.top1:.2f} %, top-5 {self.top5:.2f} %, loss {self.loss:.4f} on {self.count} "
            f"images{failed}; {self.seconds:.1f} s, {self.images_per_second:.1f} images/s"
        )


def keep_temperature(evaluation: Evaluation, weights: Path) -> Evaluation:
    """Store the temperature that was fitted, if any, in the file that was measured; give the result with its new hash.

    Raises:
        FileNotFoundError, ValueError, OSError: as `convit.weights.files.store_calibration`.
    """
    if evaluation.temperature_fit is None:
        return evaluation
    from convit.weights.files import store_calibration, weights_file

    store_calibration(weights, {**evaluation.temperature_fit, "data_sha256": evaluation.data_sha256})
    return replace(evaluation, weights_sha256=hash_file(weights_file(weights)))


def write_table(evaluation: Evaluation, stream: TextIO) -> None:
    """Print an evaluation for people: metrics first, then what they belong to."""
    metrics = [(name, f"{value} ({below})") for name, value, below in headlines(evaluation)]
    worst = sorted(evaluation.per_class, key=lambda row: row["top1"])[:3]
    weakest = ", ".join(f"{row['name']} {row['top1']:.1f} %" for row in worst)
    rows = [
        *metrics,
        *([("weakest classes", weakest)] if len(evaluation.per_class) > 2 else []),
        ("unreadable", f"{evaluation.unreadable:,}"),
        *facts(evaluation),
    ]
    print_parts(stream, make_table((evaluation.model, ""), rows, unfolded=(0,)))


def headlines(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """The metrics: (name, value, what it is of or how sure it is)."""
    interval = {
        name: f"95 %: {low:{form}} to {high:{form}}"
        for name, form in (("top1", ".2f"), ("top5", ".2f"), ("loss", ".3f"))
        for low, high in [evaluation.intervals[name]]
    }
    return [
        ("top-1", f"{evaluation.top1:.2f} %", interval["top1"]),
        ("top-5", f"{evaluation.top5:.2f} %", interval["top5"]),
        ("loss", f"{evaluation.loss:.3f}", interval["loss"]),
        ("mean class top-1", f"{evaluation.mean_class_top1:.2f} %", f"{len(evaluation.per_class):,} classes"),
        ("calibration error", f"{evaluation.ece:.2f} %", _calibrated(evaluation)),
        ("images", f"{evaluation.count:,}", f"{evaluation.images_per_second:,.0f} a second"),
    ]


def facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What was measured on what: (name, value)."""
    height, width = evaluation.img_size
    few = evaluation.competing < evaluation.classes
    chosen = f"{evaluation.competing:,} of the model's {evaluation.classes:,} to choose from"
    classes = chosen if few else f"{evaluation.classes:,} of the model"
    settings = [(name, value) for name, value in evaluation.preprocessing.items() if value is not None]
    architecture = f" ({evaluation.architecture})" if evaluation.architecture else ""
    return [
        ("model", f"{evaluation.model}{architecture}"),
        ("weights", _with_hash(evaluation.weights or "handed over in memory", evaluation.weights_sha256)),
        ("data", _with_hash(data_name(evaluation.data), evaluation.data_sha256)),
        ("classes", f"{evaluation.classes_in_data:,} in the data, {classes}"),
        ("input", f"{height} x {width} pixels" + (", averaged with its mirror image" if evaluation.tta else "")),
        ("preprocessing", "; ".join(f"{name.replace('_', ' ')} {as_text(value)}" for name, value in settings)),
        ("run", f"{evaluation.precision} on {evaluation.device}, {evaluation.batch_size} images a batch"),
        ("time", f"{evaluation.seconds:,.1f} s, {evaluation.images_per_second:,.1f} images/s"),
        *([("processes", f"{evaluation.processes}, which shared the images")] if evaluation.processes > 1 else []),
        ("versions", ", ".join(f"{name} {number}" for name, number in evaluation.versions.items())),
        ("date", evaluation.date),
    ]


def _calibrated(evaluation: Evaluation) -> str:
    told, fit = f"expected, in {len(evaluation.calibration)} bins", evaluation.temperature_fit
    if fit is not None:
        return f"{told}; temperature {fit['temperature']:.2f}, {fit['ece_before']:.2f} % without it"
    return told if evaluation.temperature == 1 else f"{told}; temperature {evaluation.temperature:.2f}"


def _with_hash(name: str, sha256: str) -> str:
    return f"{name}, sha256 {sha256}" if sha256 else name


def as_text(value: Any) -> str:
    """A setting in words.

    >>> as_text({"crop": [224, 336], "flip": True})
    'crop 224, 336, flip yes'
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {as_text(each)}" for key, each in value.items())
    return ", ".join(map(as_text, value)) if isinstance(value, list | tuple) else str(value)


def _as_list(column: Any) -> list[Any]:
    values = column.tolist() if hasattr(column, "tolist") else list(column)
    # seven digits are more than fp32 logits give
    return [float(f"{value:.7g}") for value in values] if values and isinstance(values[0], float) else values


def class_name(evaluation: Evaluation, number: int) -> str:
    """What a class of the model is called."""
    return name_class(evaluation.class_names, number)


def confused_pairs(evaluation: Evaluation, most: int) -> list[tuple[int, int, int]]:
    """The wrong pairs with the most images: (right class, predicted class, images), the most frequent first."""
    wrong = [pair for pair in evaluation.confusion if pair[0] != pair[1]]
    return sorted(wrong, key=lambda pair: -pair[2])[:most]


Lines = tuple[Sequence[str], Iterable[Sequence[Any]]]
"""The titles of a table's columns, and its rows."""


def per_class(evaluation: Evaluation) -> Lines:
    """One line per class that has images, by its number: images, top-1 and top-5 (percent), mistaken for which."""
    rows: list[tuple[Any, ...]] = []
    for row in evaluation.per_class:
        taken = row["mistaken_for"]
        mistaken = ("", "") if taken is None else (taken, class_name(evaluation, taken))
        rows.append((row["class"], row["name"], row["count"], row["top1"], row["top5"], *mistaken))
    return ("class", "name", "images", "top1", "top5", "mistaken_for", "mistaken_for_name"), rows


def confusion(evaluation: Evaluation) -> Lines:
    """One line per right and predicted class that occur together, with the number of images."""
    rows = (
        (right, class_name(evaluation, right), taken, class_name(evaluation, taken), count)
        for right, taken, count in evaluation.confusion
    )
    return ("right", "right_name", "predicted", "predicted_name", "count"), rows


def predictions(evaluation: Evaluation) -> Lines:
    """One line per image that could be scored, by its place in the data.

    `label` and `predicted` are the model's class numbers, `confidence` is the probability of the predicted class,
    `rank` how many classes the model prefers to the right one, `loss` the cross entropy (natural logarithm).
    """
    scores = evaluation.scores
    assert scores is not None
    columns = (scores.places, scores.labels, scores.predicted, scores.confidences, scores.ranks, scores.losses)
    rows = (
        (
            *(place, name, label, class_name(evaluation, label), taken, class_name(evaluation, taken)),
            *(f"{confidence:.7g}", rank, f"{loss:.7g}"),
        )
        for name, place, label, taken, confidence, rank, loss in zip(
            scores.names, *(column.tolist() for column in columns), strict=True
        )
    )
    return ("place", "name", "label", "label_name", "predicted", "predicted_name", "confidence", "rank", "loss"), rows


TABLES: dict[str, Callable[[Evaluation], Lines]] = {
    "per_class.csv": per_class,
    "confusion.csv": confusion,
    "predictions.csv": predictions,
}
