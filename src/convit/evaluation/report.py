"""What an evaluation leaves: figures, and all that is needed to measure them again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, TextIO


@dataclass(frozen=True)
class Evaluation:
    """The result of one run of a model over labelled images.

    Attributes:
        model: the model's name.
        architecture: its variant, where known.
        weights: name of the weight file, "" for a model that was handed over.
        weights_sha256: the file's sha256, likewise.
        data: the images: kind, and name and sha256 of the folder or of each shard.
        data_sha256: sha256 of the one shard, of the list of shards, or of the folder's list of images.
        count: images scored.
        unreadable: images that could not be read or scored; in none of the figures.
        errors: name and problem of each of these.
        top1: share of images whose class the model puts first, percent.
        top5: share of images whose class is among the model's first five, percent.
        loss: mean cross entropy (natural logarithm).
        correct_top1: the number of images behind `top1`.
        correct_top5: the number of images behind `top5`.
        classes: number of the model's classes.
        classes_in_data: number of classes that occur in the data.
        precision: type of weights and activations.
        device: where it ran.
        preprocessing: keyword arguments of `create_transform`, and `apply_exif`.
        img_size: (height, width) of the model's input, pixels.
        batch_size: images per forward pass.
        seconds: time of the run, without loading the model.
        images_per_second: unreadable ones included.
        waiting_share: part of the time in which the model waited for images, 0 to 1.
        versions: convit, torch and Python.
        date: when it was done, UTC, ISO 8601.
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
    correct_top1: int
    correct_top5: int
    classes: int
    classes_in_data: int
    precision: str
    device: str
    preprocessing: dict[str, Any]
    img_size: tuple[int, int]
    batch_size: int
    seconds: float
    images_per_second: float
    waiting_share: float
    versions: dict[str, str]
    date: str

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dict that `json.dumps` takes."""
        return asdict(self)

    def to_json(self) -> str:
        """The fields as JSON text, figures in full precision."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def __str__(self) -> str:
        failed = f", {self.unreadable} could not be read" if self.unreadable else ""
        return (
            f"{self.model}: top-1 {self.top1:.2f} %, top-5 {self.top5:.2f} %, loss {self.loss:.4f} on {self.count} "
            f"images{failed}; {self.seconds:.1f} s, {self.images_per_second:.1f} images/s"
        )


def write_table(evaluation: Evaluation, stream: TextIO) -> None:
    """Print an evaluation for people: figures first, then what they belong to."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(Text(evaluation.model), no_wrap=True)
    table.add_column("", overflow="fold")
    for name, value in _rows(evaluation):
        # as Text, brackets in names of files are no markup
        table.add_row(name, Text(value))
    console = Console(file=stream)
    if not console.is_terminal:
        console = Console(file=stream, width=max(40, console.measure(table).maximum), color_system=None)
    console.print(table)


def _rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    files = evaluation.data.get("files")
    names = evaluation.data.get("name", "") if files is None else ", ".join(file["name"] for file in files)
    height, width = evaluation.img_size
    return [
        ("top-1", f"{evaluation.top1:.3f} %"),
        ("top-5", f"{evaluation.top5:.3f} %"),
        ("loss", f"{evaluation.loss:.5f}"),
        ("images", f"{evaluation.count:,}"),
        ("unreadable", f"{evaluation.unreadable:,}"),
        ("classes", f"{evaluation.classes_in_data} in the data, {evaluation.classes} of the model"),
        ("data", f"{names} (sha256 {evaluation.data_sha256[:16]}...)"),
        ("weights", f"{evaluation.weights} (sha256 {evaluation.weights_sha256[:16]}...)"),
        ("input", f"{height} x {width}, {evaluation.precision}, {evaluation.device}"),
        ("time", f"{evaluation.seconds:.1f} s, {evaluation.images_per_second:.1f} images/s"),
    ]
