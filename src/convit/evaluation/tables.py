"""An evaluation's tables as CSV text: its classes, their confusion, and every image's prediction."""

from __future__ import annotations

from typing import Any

from convit.evaluation.report import Evaluation
from convit.output.text import csv_text


def class_name(evaluation: Evaluation, number: int) -> str:
    """What the model calls its class; the number itself where it brings no names."""
    return str(number) if evaluation.class_names is None else evaluation.class_names[number]


def confused_pairs(evaluation: Evaluation, most: int) -> list[tuple[int, int, int]]:
    """The wrong pairs with the most images: (right class, predicted class, images), the most frequent first."""
    wrong = [pair for pair in evaluation.confusion if pair[0] != pair[1]]
    return sorted(wrong, key=lambda pair: -pair[2])[:most]


def per_class_csv(evaluation: Evaluation) -> str:
    """One line per class that has images, by its number: images, top-1 and top-5 (percent), mistaken for which."""
    rows: list[tuple[Any, ...]] = []
    for row in evaluation.per_class:
        taken = row["mistaken_for"]
        mistaken = ("", "") if taken is None else (taken, class_name(evaluation, taken))
        rows.append((row["class"], row["name"], row["count"], row["top1"], row["top5"], *mistaken))
    return csv_text(("class", "name", "images", "top1", "top5", "mistaken_for", "mistaken_for_name"), rows)


def confusion_csv(evaluation: Evaluation) -> str:
    """One line per right and predicted class that occur together, with the number of images."""
    rows = (
        (right, class_name(evaluation, right), taken, class_name(evaluation, taken), count)
        for right, taken, count in evaluation.confusion
    )
    return csv_text(("right", "right_name", "predicted", "predicted_name", "count"), rows)


def predictions_csv(evaluation: Evaluation) -> str:
    """One line per image that could be scored, by its place in the data.

    `label` and `predicted` are the model's class numbers, `confidence` is the probability of the predicted class,
    `rank` how many classes the model prefers to the right one, `loss` the cross entropy (natural logarithm).

    Raises:
        ValueError: the evaluation has no scores of its images.
    """
    scores = evaluation.scores
    if scores is None:
        raise ValueError("the evaluation has no scores of its images, but predictions are among them; evaluate again")
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
    titles = ("place", "name", "label", "label_name", "predicted", "predicted_name", "confidence", "rank", "loss")
    return csv_text(titles, rows)
