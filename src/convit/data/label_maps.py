"""Label maps: which class of the model each class of the data means, where their names differ."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convit.data.classes import ClassName, plain_name
from convit.data.identity import sha256_of_lines
from convit.data.samples import LabeledImage, Samples
from convit.images.lists import read_table
from convit.images.names import not_found
from convit.output.text import first_few, short


@dataclass(frozen=True)
class LabelMap:
    """A label map as it was read: name and sha256 of its file, and what it says.

    Attributes:
        by_name: target by class of the data, both as they are written.
        in_order: target by label, where the map is a list.
    """

    name: str
    sha256: str
    by_name: dict[str, str] = field(default_factory=dict[str, str])
    in_order: tuple[str, ...] | None = None

    def targets(self, labels: Sequence[int], classes: Sequence[ClassName] | None) -> dict[int, str | None]:
        """The model's class that each label means, by its name where the data have one; None if the map is silent.

        Names are compared as `plain_name` does, except that a line is not taken from the class of the data that it
        names.
        """
        if self.in_order is not None:
            return {label: self.in_order[label] if label < len(self.in_order) else None for label in labels}
        own = {each.name for each in classes or ()}
        relaxed = {plain_name(name): target for name, target in self.by_name.items() if name not in own}
        found: dict[int, str | None] = {}
        for label in labels:
            keys = [str(label)] if classes is None else [classes[label].name, *filter(None, [classes[label].wnid])]
            answers = (self.by_name.get(key, relaxed.get(plain_name(key))) for key in keys)
            found[label] = next(filter(None, answers), None)
        return found


class Relabeled(Samples):
    """Labeled images whose classes are named by a label map; classes with one target become one class.

    Raises:
        ValueError: a class that occurs or competes has no target, or a list is not as long as the data's of classes.
    """

    def __init__(self, whole: Samples, label_map: LabelMap) -> None:
        self._whole, self._map = whole, label_map
        targets = _targets(whole, label_map)
        # targets in other spellings may mean the same, which is found when the model is known
        numbers = {target: number for number, target in enumerate(dict.fromkeys(targets.values()))}
        self._new = {label: numbers[target] for label, target in targets.items()}
        classes = [ClassName(target, mapped=True) for target in numbers]
        labels = [self._new[label] for label in whole.labels]
        super().__init__(labels, whole.names, classes, f"the label map {label_map.name}")
        self.kind, self.restricted, self.stored, self.where = whole.kind, whole.restricted, whole.stored, whole.where
        self.competing = sorted({self._new[label] for label in whole.competing})
        self.accepted = [self._accept(each) for each in whole.accepted]

    def take(self, places: Sequence[int]) -> Iterator[LabeledImage]:
        """Read the images at some ascending places, as the data behind the map do."""
        return (
            replace(image, label=self._new[image.label], accepted=self._accept(image.accepted))
            for image in self._whole.take(places)
        )

    def _accept(self, labels: Sequence[int]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self._new[label] for label in labels))

    def identity(self) -> dict[str, Any]:
        """What the data are, and name and sha256 of the map; their sha256 is over that of both."""
        found = self._whole.identity()
        both = sha256_of_lines(f"{sha256}\n".encode() for sha256 in (found["sha256"], self._map.sha256))
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

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is written otherwise, or says two targets of one class.
    """
    path = Path(path)
    if not path.is_file():
        raise not_found(path, f"there is no label map {path}; check the path")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
        rows = _parse(text, path.suffix.lower())
    except (ValueError, RecursionError, csv.Error) as error:  # broken UTF-8 and broken JSON are ValueErrors too
        raise ValueError(
            f'{path} is not a label map ({error}); write {{"data\'s class": "model\'s class"}} as .json, or two '
            "columns as .csv, .tsv or .txt"
        ) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if rows and rows[0][0] is None:
        return LabelMap(path.name, sha256, in_order=tuple(target for _, target in rows))
    first: dict[str, str] = {}
    for name, target in rows:
        said = first.setdefault(plain_name(name or ""), target)
        if plain_name(said) != plain_name(target):
            both = f"both {short(said)} and {short(target)} of {short(name)}"
            raise ValueError(f"{path} says {both}; leave one of them out")
    return LabelMap(path.name, sha256, {name or "": target for name, target in rows})


def _parse(text: str, suffix: str) -> list[tuple[str | None, str]]:
    if suffix == ".json":
        rows = _parse_json(text)
    elif suffix in (".csv", ".tsv"):
        rows = _pairs(read_table(text, suffix))
    elif suffix == ".txt":
        separator, lines = "\t" if "\t" in text else None, enumerate(text.split("\n"), start=1)
        rows = _pairs((number, line.strip().split(separator, 1)) for number, line in lines if line.strip())
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
        what = "a list or an object" if isinstance(wrong[0], list | dict) else short(wrong[0])
        raise ValueError(f"it holds {what} where a name or a whole number must stand")
    return [(name, str(target)) for name, target in rows]


def _pairs(lines: Iterable[tuple[int, Sequence[str]]]) -> list[tuple[str | None, str]]:
    rows: list[tuple[str | None, str]] = []
    for number, cells in lines:
        if len(cells) != 2 or not all(map(str.strip, cells)):
            raise ValueError(f"line {number} does not have two columns")
        rows.append((cells[0].strip(), cells[1].strip()))
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
    found = label_map.targets(labels, classes)
    missing = [label for label, target in found.items() if target is None]
    if missing:
        named = [f"label {label}" if classes is None else repr(classes[label].name) for label in missing]
        raise ValueError(
            f"{label_map.name} does not say what {first_few(named)} of the data mean; give every class of the data a "
            "class of the model"
        )
    return {label: target for label, target in found.items() if target is not None}
