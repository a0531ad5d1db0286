"""Running a model over labeled images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from jaxtyping import Float32
from torch import nn

from convit.data import Samples
from convit.evaluation.matching import competing_classes, match_classes, own_names
from convit.evaluation.metrics import (
    accuracies,
    by_class,
    calibration_bins,
    calibration_error,
    confusion,
    fit_temperature,
)
from convit.evaluation.processes import Processes
from convit.evaluation.report import Evaluation
from convit.evaluation.scoring import Outcome, Scores, score_image
from convit.evaluation.weights_used import find_weights_used, fingerprint_of
from convit.images.opening import ImageSource
from convit.inference.classifier import read_temperature
from convit.inference.options import RunKeywords, RunOptions
from convit.inference.predicting import Predictor
from convit.optimization.precision import describe_device, pick_device
from convit.output.files import check_packages, hash_file
from convit.output.rows import Timings
from convit.output.text import made_with

Scored = tuple[list[tuple[int, Outcome, "np.ndarray[Any, Any] | None"]], Timings]
"""Places of images with their outcomes and, where asked for, logits; and where the time went."""


class Evaluator(Predictor):
    """Measures a model on labeled images: top-1, top-5 and loss.

    Args:
        model: what is measured, as for `convit.Classifier`.
        weights: local file or folder to load instead of published weights.
        options: how to run; photographs are turned upright as their EXIF orientation asks. Published accuracies were
            measured without that; `apply_exif=False` compares with them.
        changes: fields of `RunOptions` to take instead of those in `options`.
        tta: "flip" averages the logits of each image and its mirror image, at twice the cost.

    Attributes:
        num_classes: number of the model's classes.
        class_names: their names in index order, None if the model has none.
        temperature: what logits are divided by before the softmax: 1, or what was fitted for these weights.

    Raises:
        ValueError: an option is out of range, the model's name is unknown, or the model has no classes.
        FileNotFoundError, OSError: the weights cannot be found or fetched; see `convit.weights.create_model`.

    For example::

        evaluator = Evaluator("convit_nano_patch4_32.cifar10")
        print(evaluator.evaluate(open_samples("images", split="val")))
    """

    def __init__(
        self,
        model: str | nn.Module | None = None,
        *,
        weights: str | Path | None = None,
        tta: str | None = None,
        options: RunOptions | None = None,
        **changes: Unpack[RunKeywords],
    ) -> None:
        if tta not in (None, "flip"):
            raise ValueError(f"tta is {tta!r}, but must be 'flip' or None")
        super().__init__(model, weights, options, **changes)
        self.keep_steady()
        self._runner.check("logits")
        card: dict[str, Any] = getattr(self.model, "pretrained_cfg", None) or {}
        self.num_classes = int(getattr(self.model, "num_classes", 0) or 0)
        if not self.num_classes:
            raise ValueError("the model has num_classes=0, so there is nothing to compare labels with; keep its head")
        self.class_names = own_names(self.model)
        self.tta = tta
        self.temperature = read_temperature(self.model)
        self._architecture: str | None = card.get("architecture")
        # found now: a weight file that is replaced during the run must not lend its hash to the result
        if isinstance(model, nn.Module):
            self._weights = ("", fingerprint_of(model, None).partition(":")[2])
        else:
            file = find_weights_used(model, weights)
            self._weights = (file.name, hash_file(file))

    def iterate(self, data: Samples, places: Sequence[int] | None = None) -> Iterator[Outcome]:
        """Score images one after the other, all or those at some ascending places; memory does not grow with them.

        Yields:
            One outcome per image, in order; an image that cannot be read has `.error` set and no metrics.

        Raises:
            ValueError: the data's classes cannot be matched with the model's.
        """
        return (outcome for outcome, _ in self._score(data, places))

    def _score(
        self, data: Samples, places: Sequence[int] | None
    ) -> Iterator[tuple[Outcome, np.ndarray[Any, Any] | None]]:
        """Each image's outcome and logits, -inf for classes that do not compete; None if it failed."""
        classes = match_classes(data, self.class_names, self.num_classes)
        competing = competing_classes(data, self.class_names, self.num_classes)
        competes = None if competing is None else np.isin(np.arange(self.num_classes), competing)

        def labeled() -> Iterator[tuple[tuple[int, ...], ImageSource]]:
            for image in data if places is None else data.take(places):
                yield tuple(classes[label] for label in image.accepted or (image.label,)), image.source

        for row in self._run(labeled()):
            labels, logits = row.tag, None
            if row.outputs is None:
                outcome = Outcome(row.name, labels[0], error=str(row.error))
            else:
                logits = row.outputs[0] if competes is None else np.where(competes, row.outputs[0], -np.inf)
                outcome = score_image(row.name, labels, logits, self.temperature)
            yield outcome, logits

    def evaluate(
        self,
        data: Samples,
        advance: Callable[[], None] = lambda: None,
        processes: Processes | None = None,
        *,
        calibrate: bool = False,
    ) -> Evaluation:
        """Score all images and sum up.

        Args:
            data: the labeled images, the same in all processes.
            advance: called after each image of this process.
            processes: those that share the images, from `convit.evaluation.join_processes`; each has the whole result.
            calibrate: fits `temperature` to these images first, which the model must not have been trained on; see
                `convit.evaluation.metrics.fit_temperature`. Keeps the logits of all images in memory.

        Raises:
            ValueError: the data's classes cannot be matched with the model's, no image could be read, or a temperature
                is to be fitted on data that hold some of the model's classes only (ImageNet-A and -R).
            ImportError: SciPy or scikit-learn is not installed, which the extra `evaluate` brings.
        """
        check_packages("an evaluation", "scipy", "sklearn", extra="evaluate")
        processes = processes or Processes()
        counts = processes.gather(len(data))
        if len(set(counts)) > 1:
            raise ValueError(
                f"the processes see {' and '.join(map(str, sorted(set(counts))))} images, but must see the same data"
            )
        if calibrate and data.restricted:
            raise ValueError("a temperature is fitted on all of the model's classes; these data hold some of them")
        parts = processes.collect(lambda places: self.score(data, places, advance, calibrate=calibrate), len(data))
        rows = sorted((row for part, _ in parts for row in part), key=lambda row: row[0])
        assert [place for place, _, _ in rows] == list(range(len(data))), "an image was counted twice or not at all"
        outcomes, fit = self._calibrated(rows)
        scores, failed = Scores.of(outcomes), [outcome for _, outcome in outcomes if outcome.error is not None]
        if not len(scores):
            raise ValueError(f"none of the {len(data)} images could be read; the first: {failed[0].error}")
        return replace(self._sum_up(data, scores, failed, [timings for _, timings in parts]), temperature_fit=fit)

    def score(
        self,
        data: Samples,
        places: range,
        advance: Callable[[], None] = lambda: None,
        *,
        calibrate: bool = False,
    ) -> Scored:
        """Score some images, for `evaluate` to sum up; arguments and errors are its own."""
        own: list[tuple[int, Outcome, np.ndarray[Any, Any] | None]] = []
        for place, (outcome, logits) in zip(places, self._score(data, places), strict=True):
            own.append((place, outcome, logits if calibrate else None))
            advance()
        return own, self.timings

    def _calibrated(
        self, rows: Sequence[tuple[int, Outcome, np.ndarray[Any, Any] | None]]
    ) -> tuple[list[tuple[int, Outcome]], dict[str, float] | None]:
        """The outcomes, scored again with the temperature that their logits ask for, where they came with some."""
        known = [(outcome.label, logits) for _, outcome, logits in rows if logits is not None]
        labels, kept = np.array([label for label, _ in known]), [logits for _, logits in known]
        fit = fit_temperature(np.stack(kept), labels) if kept else None
        if fit is None:
            return [(place, outcome) for place, outcome, _ in rows], None
        self.temperature = fit["temperature"]
        return [
            (place, each if logits is None else score_image(each.name, each.label, logits, self.temperature))
            for place, each, logits in rows
        ], fit

    def _forward(self, pixels: list[Any]) -> tuple[Float32[np.ndarray, "batch classes"]]:
        logits = self._runner.compute(pixels, "logits")
        if logits.shape[1:] != (self.num_classes,):
            raise ValueError(
                f"the model gives {logits.shape} for {len(pixels)} images, but an evaluation needs (batch, "
                f"{self.num_classes}); use a model with global_pool='token' or 'avg'"
            )
        if self.tta == "flip":
            logits = (logits + self._runner.compute([each[:, ::-1] for each in pixels], "logits")) / 2
        return (logits,)

    def _sum_up(
        self, data: Samples, scores: Scores, failed: Sequence[Outcome], timings: Sequence[Timings]
    ) -> Evaluation:
        settings, identity = self.transform.settings, data.identity()
        competing = competing_classes(data, self.class_names, self.num_classes)
        seconds = max(each.seconds for each in timings)
        found = confusion(scores)
        per_class = by_class(scores, found, self.class_names)
        classes = match_classes(data, self.class_names, self.num_classes)
        bins = calibration_bins(scores.right(), scores.confidences)
        return Evaluation(
            model=self.name,
            architecture=self._architecture,
            weights=self._weights[0],
            weights_sha256=self._weights[1],
            data=identity,
            data_sha256=identity["sha256"],
            count=len(scores),
            unreadable=len(failed),
            errors=tuple({"name": each.name, "error": each.error or ""} for each in failed),
            **accuracies(scores),
            mean_class_top1=sum(row["top1"] for row in per_class) / len(per_class),
            ece=calibration_error(bins),
            temperature=self.temperature,
            temperature_fit=None,
            classes=self.num_classes,
            classes_in_data=len({classes[label] for label in data.distinct_labels}),
            competing=self.num_classes if competing is None else len(competing),
            tta=self.tta,
            precision=self.precision,
            device=describe_device(pick_device(self.device)),
            preprocessing=self.preprocessing,
            img_size=(settings.height, settings.width),
            batch_size=self.batch_size,
            seconds=seconds,
            images_per_second=sum(each.images for each in timings) / seconds if seconds else 0.0,
            waiting_share=sum(each.waiting_share for each in timings) / len(timings),
            processes=len(timings),
            **made_with("convit", "torch"),
            calibration=bins,
            per_class=per_class,
            confusion=found,
            class_names=self.class_names,
            scores=scores,
        )
