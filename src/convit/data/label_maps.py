"""Label maps: which class of the model each class of the data means, where their names differ."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convit.data.classes import ClassName, plain_name
from convit.data.samples import LabeledImage, Samples, Stored

_SHOWN = 3
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class LabelMap:
    """A label map as it was read.

    Attributes:
        name: the file's name.
        sha256: of the file.
        by_name: target by class of the data; classes are compared without case, underscores counting as spaces.
        in_order: target by label, where the map is a list.
    """

    name: str
    sha256: str
    by_name: dict[str, str] = field(default_factory=dict[str, str])
    in_order: tuple[str, ...] | None = None

    def target(self, label: int, known: ClassName | None) -> str | None:
        """The model's class that a label means; None where the map does not say.

        Args:
            label: number of the class in the data.
            known: its name, where the data have one; without it the map says the label's number.
        """
        if self.in_order is not None:
            return self.in_order[label] if label < len(self.in_order) else None
        keys = [str(label)] if known is None else [known.name, *([known.wnid] if known.wnid else [])]
        return next((self.by_name[plain_name(key)] for key in keys if plain_name(key) in self.by_name), None)


class Relabeled(Samples):
    """Labeled images whose classes are named by a label map; classes with one target become one class.

    Args:
        whole: the images.
        label_map: says the target of each class that occurs, and of each that competes where only some do.

    Raises:
        ValueError: a class has no target, or a list is not as long as the data's list of classes.
    """

    def __init__(self, whole: Samples, label_map: LabelMap) -> None:
        self._whole, self._map = whole, label_map
        targets = _targets(whole, label_map)
        # spelled alike is one class, whatever the case; what else means the same is found when the model is known
        numbers: dict[str, int] = {}
        self._new = {label: numbers.setdefault(plain_name(target), len(numbers)) for label, target in targets.items()}
        first = {self._new[label]: target for label, target in reversed(targets.items())}
        classes = [ClassName(first[number], mapped=True) for number in range(len(numbers))]
        labels = [self._new[label] for label in whole.labels]
        super().__init__(labels, whole.names, classes, f"the label map {label_map.name}")
        self.kind, self.restricted = whole.kind, whole.restricted
        self.competing = sorted({self._new[label] for label in whole.competing})
        self.accepted = [self._accept(each) for each in whole.accepted]

    def stored(self, index: int) -> Stored:
        """One image as it is stored."""
        return self._whole.stored(index)

    def take(self, places: Sequence[int]) -> Iterator[LabeledImage]:
        """Read the images at some ascending places, as the data behind the map do.

        Raises:
            ValueError: a place is out of range, or not above the one before it.
        """
        return (
            replace(image, label=self._new[image.label], accepted=self._accept(image.accepted))
            for image in self._whole.take(places)
        )

    def _accept(self, labels: Sequence[int]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self._new[label] for label in labels))

    def identity(self) -> dict[str, Any]:
        """What the data are, and name and sha256 of the map; their sha256 is over that of both."""
        found = self._whole.identity()
        both = hashlib.sha256(f"{found['sha256']}\n{self._map.sha256}\n".encode()).hexdigest()
        label_map = {"name": self._map.name, "sha256": self._map.sha256}
        return {**found, "label_map": label_map, "images_sha256": found["sha256"], "sha256": both}


def read_label_map(path: str | Path) -> LabelMap:
    """Read a label map.

    | file | content |
    | --- | --- |
    | .json | {"data's class": "model's class", …}, or a list of the model's classes in the order of the data's labels |
    | .csv, .tsv | two columns, the data's class and the model's; a header line counts as a class that never occurs |
    | .txt | the same two, with a tab between them, else with the line's first space |

    The data's class is its name or WordNet id, or its number where the data name none; case makes no difference, nor
    do underscores for spaces. The model's class is a name, a WordNet id or a number; which of these they are is decided
    for all of them at once, by the rules of `convit.evaluation.match_classes`. Several classes of the data may mean
    one of the model. The map may say more classes than occur.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is written otherwise, or says two targets of one class.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no label map {path}; check the path")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
        rows = _parse(text, path.suffix.lower())
    except ValueError as error:  # broken UTF-8 and broken JSON are ValueErrors too
        raise ValueError(
            f'{path} is not a label map ({error}); write {{"data\'s class": "model\'s class"}} as .json, or two '
            "columns as .csv, .tsv or .txt"
        ) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if rows and rows[0][0] is None:
        return LabelMap(path.name, sha256, in_order=tuple(target for _, target in rows))
    by_name: dict[str, str] = {}
    for name, target in rows:
        key = plain_name(name or "")
        if plain_name(by_name.setdefault(key, target)) != plain_name(target):
            raise ValueError(f"{path} says both {by_name[key]!r} and {target!r} of {name!r}; leave one of them out")
    return LabelMap(path.name, sha256, by_name)


def _parse(text: str, suffix: str) -> list[tuple[str | None, str]]:
    if suffix == ".json":
        rows = _parse_json(text)
    elif suffix in _SEPARATORS:
        rows = _columns(csv.reader(text.splitlines(), delimiter=_SEPARATORS[suffix], strict=True))
    elif suffix == ".txt":
        lines = text.splitlines()
        separator = "\t" if any("\t" in line for line in lines) else None
        rows = _columns([line.strip().split(separator, 1) for line in lines])
    else:
        raise ValueError(f"its name ends in {suffix!r}" if suffix else "its name has no ending")
    if not rows:
        raise ValueError("it is empty")
    return rows


def _parse_json(text: str) -> list[tuple[str | None, str]]:
    # as pairs, so that a class that stands there twice is seen
    found: Any = json.loads(text, object_pairs_hook=lambda pairs: pairs if pairs else {})
    if not isinstance(found, list):
        raise ValueError("it is neither an object nor a list" if found else "it is empty")
    pairs = all(isinstance(each, tuple) for each in found)
    rows = found if pairs else [(None, each) for each in found]
    wrong = [target for _, target in rows if not isinstance(target, str | int) or isinstance(target, bool)]
    if wrong:
        what = "a list or an object" if isinstance(wrong[0], list | dict) else repr(wrong[0])
        raise ValueError(f"it holds {what} where a name or a whole number must stand")
    return [(name, str(target)) for name, target in rows]


def _columns(lines: Any) -> list[tuple[str | None, str]]:
    rows: list[tuple[str | None, str]] = []
    try:
        for number, cells in enumerate(lines, start=1):
            stripped = [cell.strip() for cell in cells]
            if not any(stripped):
                continue
            if len(stripped) != 2 or not all(stripped):
                raise ValueError(f"line {number} has not two columns")
            rows.append((stripped[0], stripped[1]))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return rows


def _targets(images: Samples, label_map: LabelMap) -> dict[int, str]:
    """The target of each label that occurs or competes."""
    classes, labels = images.classes, images.distinct_labels
    if images.restricted:
        labels = sorted({*labels, *images.competing})
    if classes is not None and label_map.in_order is not None and len(label_map.in_order) != len(classes):
        raise ValueError(
            f"{label_map.name} lists {len(label_map.in_order)} classes, but the data have {len(classes)}; list the "
            "model's class of each, in their order"
        )
    found = {label: label_map.target(label, None if classes is None else classes[label]) for label in labels}
    missing = [label for label, target in found.items() if target is None]
    if missing:
        named = [f"label {label}" if classes is None else repr(classes[label].name) for label in missing[:_SHOWN]]
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise ValueError(
            f"{label_map.name} does not say what {', '.join(named)}{more} of the data mean; give every class of the "
            "data a class of the model"
        )
    return {label: target for label, target in found.items() if target is not None}
