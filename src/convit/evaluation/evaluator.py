"""Running a model over labelled images."""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convit.data.locate import file_sha256
from convit.evaluation.labelled import LabelledImages
from convit.evaluation.matching import match_classes
from convit.evaluation.report import Evaluation
from convit.evaluation.scoring import Outcome, Tally, score_image
from convit.evaluation.weights_used import find_weights_used
from convit.inference.opening import ImageSource
from convit.inference.predicting import Options, Predictor


class Evaluator(Predictor):
    """Measures a model on labelled images: top-1, top-5 and loss.

    Args:
        model, weights, device, precision, batch_size, workers, img_size, compile, calibration: as for
            `convit.Classifier`.
        apply_exif: whether photographs are turned upright as their EXIF orientation asks. Off, unlike in `Classifier`:
            published accuracies were measured without it.

    Attributes:
        num_classes: number of the model's classes.
        class_names: their names in index order, None where the model brings none.

    Raises:
        ValueError: an option is out of range, the model's name is unknown, or the model has no classes.
        FileNotFoundError, OSError: the weights cannot be found or fetched; see `convit.weights.create_model`.
    """

    def __init__(
        self,
        model: str | nn.Module | None = None,
        *,
        weights: str | Path | None = None,
        device: str | torch.device = "auto",
        precision: str = "auto",
        batch_size: int | None = None,
        workers: int | None = None,
        apply_exif: bool = False,
        img_size: int | tuple[int, int] | None = None,
        compile: bool = False,  # noqa: A002
        calibration: Sequence[ImageSource] | None = None,
    ) -> None:
        options = Options(device, precision, batch_size, workers, apply_exif, img_size)
        super().__init__(model, weights, options._replace(compile=compile, calibration=calibration))
        card: dict[str, Any] = getattr(self.model, "pretrained_cfg", None) or {}
        self.num_classes = int(getattr(self.model, "num_classes", 0) or 0)
        if not self.num_classes:
            raise ValueError("the model has num_classes=0, so there is nothing to compare labels with; keep its head")
        names = card.get("label_names")
        self.class_names = tuple(names) if names is not None and len(names) == self.num_classes else None
        self._architecture: str | None = card.get("architecture")
        # found now: a weight file that is replaced during the run must not lend its hash to the result
        file = None if isinstance(model, nn.Module) else find_weights_used(model, weights)
        self._weights = ("", "") if file is None else (file.name, file_sha256(file))

    def iterate(self, data: LabelledImages) -> Iterator[Outcome]:
        """Score images one after the other; memory does not grow with their number.

        Args:
            data: the labelled images.

        Yields:
            One outcome per image, in order; an image that cannot be read has `.error` set and no figures.

        Raises:
            ValueError: the data's classes cannot be matched with the model's.
        """
        classes = match_classes(data, self.class_names, self.num_classes)
        waiting: deque[tuple[str, int]] = deque()

        def contents() -> Iterable[bytes | Path]:
            for image in data:
                waiting.append((image.name, classes[image.label]))
                yield image.content

        for row in self._run(contents()):
            name, label = waiting.popleft()
            if row.outputs is None:
                yield Outcome(name, label, error=str(row.error).replace(row.name, name, 1))
            else:
                yield score_image(name, label, row.outputs[0])

    def evaluate(self, data: LabelledImages, advance: Callable[[], None] = lambda: None) -> Evaluation:
        """Score all images and sum up.

        Args:
            data: the labelled images.
            advance: called after each image.

        Returns:
            The figures, and what they belong to.

        Raises:
            ValueError: the data's classes cannot be matched with the model's, or no image could be read.
        """
        tally = Tally()
        for outcome in self.iterate(data):
            tally.add(outcome)
            advance()
        if not tally.count:
            raise ValueError(f"none of the {data.count} images could be read; the first: {tally.failed[0].error}")
        return self._sum_up(data, tally)

    def _forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits = self.model(images)
        if logits.ndim != 2 or logits.shape[1] != self.num_classes:
            raise ValueError(
                f"the model gives {tuple(logits.shape)} for {images.shape[0]} images, but an evaluation needs (batch, "
                f"{self.num_classes}); use a model with global_pool='token' or 'avg'"
            )
        return (logits.float(),)

    def _sum_up(self, data: LabelledImages, tally: Tally) -> Evaluation:
        settings, timings, identity = self.transform.settings, self.timings, data.identity()
        return Evaluation(
            model=self.name,
            architecture=self._architecture,
            weights=self._weights[0],
            weights_sha256=self._weights[1],
            data=identity,
            data_sha256=identity["sha256"],
            count=tally.count,
            unreadable=len(tally.failed),
            errors=tuple({"name": each.name, "error": each.error or ""} for each in tally.failed),
            top1=100 * tally.top1 / tally.count,
            top5=100 * tally.top5 / tally.count,
            loss=tally.loss_sum / tally.count,
            correct_top1=tally.top1,
            correct_top5=tally.top5,
            classes=self.num_classes,
            classes_in_data=len(data.labels),
            precision=self.precision,
            device=describe_device(self.device),
            preprocessing={**settings.to_dict(), "apply_exif": self.apply_exif},
            img_size=(settings.height, settings.width),
            batch_size=self.batch_size,
            seconds=timings.seconds,
            images_per_second=timings.images_per_second,
            waiting_share=timings.waiting_share,
            versions={"convit": version("convit"), "torch": version("torch"), "python": platform.python_version()},
            date=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def describe_device(device: torch.device) -> str:
    """Name a device and what it is, such as "cuda (NVIDIA H100)" or "cpu (x86_64, 2 threads)"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.machine()}, {torch.get_num_threads()} threads)"
