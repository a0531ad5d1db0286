"""Whether one evaluation is better than another, or only luckier: tests on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from convit.evaluation.metrics import LEVEL, Interval, bootstrap
from convit.output.console import as_html, make_table, print_parts
from convit.output.files import check_packages
from convit.output.text import read_json


@dataclass(frozen=True)
class Side:
    """One of two evaluations that are compared, read from a JSON file; `top1` and `top5` in percent."""

    file: str
    model: str
    top1: float
    top5: float
    loss: float


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same images. Differences are the second one's value minus the first one's.

    Attributes:
        first, second: what is compared.
        count: images that both have scored.
        left_out: images that only one of them could read.
        differences: of "top1" and "top5" (points) and "loss".
        intervals: their 95 % intervals, by a bootstrap of the images that keeps each image's pair of outcomes together.
        only_first: images that the first alone gets right (top-1).
        only_second: images that the second alone gets right.
        p_value: of the exact McNemar test: how likely it is that the images on which they differ fall so unevenly, or
            more so, if both were equally good.
        level: of the intervals; the difference in top-1 is significant where `p_value` is below 1 - level.
    """

    first: Side
    second: Side
    count: int
    left_out: int
    differences: dict[str, float]
    intervals: dict[str, Interval]
    only_first: int
    only_second: int
    p_value: float
    level: float = LEVEL

    @property
    def significant(self) -> bool:
        """Whether the difference in top-1 is more than chance."""
        return self.p_value < 1 - self.level

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        low, high = self.intervals["top1"]
        points = f"{self.differences['top1']:+.2f} points of top-1 (95 %: {low:+.2f} to {high:+.2f}), p = {_p(self)}"
        if not self.significant:
            return f"no significant difference: {self.second.file} against {self.first.file}: {points}"
        better, other = (self.second, self.first) if self.differences["top1"] > 0 else (self.first, self.second)
        return f"{better.file} is significantly better than {other.file}: {points}"

    def _repr_html_(self) -> str:
        return as_html(write_comparison, self)

    def to_dict(self) -> dict[str, Any]:
        """What `json.dumps` takes."""
        return {**asdict(self), "significant": self.significant, "verdict": self.verdict}


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compare two results of `convit evaluate`, JSON files that `--output` or `--report` wrote, image by image.

    Sources: McNemar 1947 (exact form); Dietterich 1998 on why a paired test.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is not such a result, holds no images, or the images are not the same.
        ImportError: SciPy is not installed, which the extra `evaluate` brings.
    """
    check_packages("a comparison", "scipy", extra="evaluate")
    one, other = _read(Path(first)), _read(Path(second))
    shared = _shared_places(one, other, str(first), str(second))
    from scipy.stats import binomtest

    ours, theirs = _columns(one, shared), _columns(other, shared)
    differences = {name: theirs[name] - ours[name] for name in ours}
    only_first, only_second = (int((differences["top1"] == sign * 100).sum()) for sign in (-1, 1))
    disagreeing = only_first + only_second
    return Comparison(
        first=_side(first, one, ours),
        second=_side(second, other, theirs),
        count=len(shared),
        left_out=len(one.rows) + len(other.rows) - 2 * len(shared),
        differences={name: float(column.mean()) for name, column in differences.items()},
        intervals=bootstrap(differences),
        only_first=only_first,
        only_second=only_second,
        p_value=float(binomtest(only_second, disagreeing).pvalue) if disagreeing else 1.0,
    )


def write_comparison(comparison: Comparison, stream: TextIO) -> None:
    """Print a comparison for people: both results, their difference, and what it means."""
    first, second = comparison.first, comparison.second
    rows: list[tuple[str, ...]] = [("model", first.model, second.model, "", "")]
    for name, label, form, unit in (
        ("top1", "top-1", ".2f", " %"),
        ("top5", "top-5", ".2f", " %"),
        ("loss", "loss", ".4f", ""),
    ):
        low, high = comparison.intervals[name]
        shown = (f"{getattr(each, name):{form}}{unit}" for each in (first, second))
        rows.append((label, *shown, f"{comparison.differences[name]:+{form}}", f"{low:+{form}} to {high:+{form}}"))
    rows.append(
        ("right alone", f"{comparison.only_first:,}", f"{comparison.only_second:,}", f"p = {_p(comparison)}", "")
    )
    titles = ("", Path(first.file).name, Path(second.file).name, "difference", "95 %")
    left_out = f"; {comparison.left_out:,} that only one could read are left out" if comparison.left_out else ""
    table = make_table(titles, rows, right=range(1, 5))
    print_parts(stream, table, comparison.verdict, f"{comparison.count:,} images{left_out}")


class _Result(NamedTuple):
    """What a file holds; of each image its name, rank and loss, by its place in the data."""

    model: str
    images_sha256: str
    competing: int
    classes: int
    rows: dict[int, tuple[str, int, float]]

    @property
    def chosen_from(self) -> str:
        if self.competing == self.classes:
            return "all of the model's"
        return f"{self.competing} of the model's {self.classes}"


def _read(file: Path) -> _Result:
    remedy = "give JSON files that `convit evaluate --output` or `--report` wrote"
    found = read_json(file, remedy)
    try:
        # the hash of a folder counts unreadable images too, so that it is the same for every model; a label map is
        # another for every model that has other classes
        sha256 = str(found["data"].get("images_sha256", found["data_sha256"]))
        model, competing, classes = str(found["model"]), int(found["competing"]), int(found["classes"])
        images = found.get("images")
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is not a result of `convit evaluate`; {remedy}") from error
    if not images:
        raise ValueError(
            f"{file} holds the metrics without the images behind them; write it with `convit evaluate --output FILE`, "
            "not from the screen"
        )
    try:
        columns = zip(*(images[name] for name in ("places", "names", "ranks", "losses")), strict=True)
        rows = {int(place): (str(name), int(rank), float(loss)) for place, name, rank, loss in columns}
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged: its columns of images are not as they were; evaluate again") from error
    return _Result(model, sha256, competing, classes, rows)


def _shared_places(one: _Result, other: _Result, first: str, second: str) -> list[int]:
    """The places of the images that both have, in order."""
    if one.images_sha256 != other.images_sha256:
        raise ValueError(
            f"{first} and {second} are of other images (sha256 {one.images_sha256[:12]}… and "
            f"{other.images_sha256[:12]}…); evaluate both models on the same data"
        )
    few = [each.competing if each.competing < each.classes else None for each in (one, other)]
    if few[0] != few[1]:
        raise ValueError(
            f"{first} and {second} chose from other classes ({one.chosen_from}, {other.chosen_from}); evaluate both "
            "models on the same data"
        )
    shared = [place for place in one.rows if place in other.rows]
    for place in shared:
        named, other_named = one.rows[place][0], other.rows[place][0]
        if named != other_named:
            raise ValueError(
                f"{first} and {second} differ in their images: {named} stands where the other has {other_named}; "
                "evaluate both models on the same data"
            )
    if not shared:
        raise ValueError(f"{first} and {second} have no image in common; evaluate both models on the same data")
    return shared


def _columns(found: _Result, places: Sequence[int]) -> dict[str, np.ndarray[Any, Any]]:
    """Per image whether it was right, 0 or 100, and its loss."""
    ranks, losses = (np.array([found.rows[place][column] for place in places]) for column in (1, 2))
    return {"top1": 100.0 * (ranks < 1), "top5": 100.0 * (ranks < 5), "loss": losses}


def _side(file: str | Path, found: _Result, columns: dict[str, np.ndarray[Any, Any]]) -> Side:
    return Side(str(file), found.model, **{name: float(column.mean()) for name, column in columns.items()})


def _p(comparison: Comparison) -> str:
    return f"{comparison.p_value:.2g}" if comparison.p_value >= 1e-4 else "below 0.0001"
