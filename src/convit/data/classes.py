"""What the data call their classes: names, WordNet ids, and the `classes.json` that says them."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convit.data.remote import read_remote
from convit.images.names import is_remote, shown, split_url

CLASSES_FILE = "classes.json"


@dataclass(frozen=True)
class ClassName:
    """What the data call a class.

    Attributes:
        name: its name.
        wnid: its WordNet id, where the data give one.
        mapped: whether a label map says it: then it is a class of the model, by its name, WordNet id or number.
    """

    name: str
    wnid: str | None = None
    mapped: bool = False


def named(names: Sequence[str] | None) -> tuple[ClassName, ...] | None:
    """Class names without more; None if there are none."""
    return None if names is None else tuple(map(ClassName, names))


def are_ids(names: Sequence[str]) -> bool:
    """Whether classes are called by numbers that are not their places, so that a number is a name and no place.

    >>> are_ids(["5", "70"]), are_ids(["0", "1"]), are_ids(["cat", "7"]), are_ids([])
    (True, False, False, False)
    """
    return bool(names) and all(map(str.isdecimal, names)) and list(names) != list(map(str, range(len(names))))


def wnid_or_name(each: ClassName) -> str:
    """A class's WordNet id, which may stand in place of its name: of sub-folders, say.

    >>> wnid_or_name(ClassName("n02124075")), wnid_or_name(ClassName("Egyptian cat", "n02124075"))
    ('n02124075', 'n02124075')
    """
    return each.wnid or each.name


def plain_name(name: str) -> str:
    r"""A class's name as names are compared.

    Case, underscores for spaces, how accents are composed and zeros before a number make no difference.

    >>> plain_name("Egyptian_cat"), plain_name("cafe\u0301") == plain_name("caf\u00e9"), plain_name("007")
    ('egyptian cat', True, '7')
    """
    if name.isascii() and name.isdecimal():
        return name.lstrip("0") or "0"
    return unicodedata.normalize("NFC", " ".join(name.replace("_", " ").split()).casefold())


def find_name(names: Sequence[str]) -> Callable[[str], int | None]:
    """How to find the place of a name: by the very name, else by `plain_name`.

    What only a relaxed comparison finds is not guessed: None if several names are alike then.

    >>> find = find_name(["1", "2", "A", "a", "Cat"])
    >>> find("01"), find("a"), find("cat"), find("10")
    (0, 3, 4, None)
    """
    exact, relaxed = _places(names), _places([plain_name(name) for name in names])
    return lambda name: exact.get(name, relaxed.get(plain_name(name)))


def _places(names: Sequence[str]) -> dict[str, int]:
    """The places of the names that occur once."""
    counts = Counter(names)
    return {name: place for place, name in enumerate(names) if counts[name] == 1}


def number_labels(values: Sequence[int] | Sequence[str]) -> tuple[list[int], tuple[str, ...] | None]:
    """Class indices of labels, and the class names: the distinct labels, sorted; None if these are 0, 1, 2 and on.

    Negative numbers stay as they are, to be refused where they are looked at.

    >>> number_labels([900, 5, 70, 5]), number_labels([1, 0]), number_labels(["cat", "ant"])
    (([2, 0, 1, 0], ('5', '70', '900')), ([1, 0], None), ([1, 0], ('ant', 'cat')))
    """
    distinct: list[Any] = sorted(set(values))
    are_numbers = distinct == list(range(len(distinct)))
    if are_numbers or (isinstance(distinct[0], int) and distinct[0] < 0):
        return [int(value) for value in values], None
    place = {label: index for index, label in enumerate(distinct)}
    return [place[value] for value in values], tuple(map(str, distinct))


def read_classes(place: str | Path) -> tuple[ClassName, ...]:
    """What a `classes.json` at a path or a URL says of each label, in label order.

    It is a list of names, or of objects with `index`, `name` and perhaps `wnid`.

    Raises:
        ConnectionError: the server of a URL cannot be reached.
        FileNotFoundError: there is no such file.
        ValueError: it is not such a list, or the indices do not count from 0 without gaps.
    """
    content = read_remote(str(place)) if is_remote(place) else Path(place).read_bytes()
    try:
        rows: Any = json.loads(content)
        if not isinstance(rows, list) or not rows:
            raise ValueError("it does not hold a list")
        if all(isinstance(row, str) for row in rows):
            return tuple(map(ClassName, rows))
        rows.sort(key=lambda row: int(row["index"]))
        if [int(row["index"]) for row in rows] != list(range(len(rows))):
            raise ValueError("its indices do not count from 0 without gaps")
        return tuple(ClassName(str(row["name"]), row.get("wnid")) for row in rows)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{shown(place)} is not a list of class names ({str(error)[:200]}); write "
            '["cat", "dog"] or [{"index": 0, "name": "cat"}], or remove it where the labels are the model\'s own'
        ) from error


def classes_beside(file: Path | str) -> tuple[str, tuple[ClassName, ...]] | None:
    """Where the `classes.json` beside a file or a URL lies, as messages show it, and its classes; None without one.

    Raises:
        ConnectionError: the server of a URL cannot be reached.
        ValueError: as `read_classes`.
    """
    if isinstance(file, Path):
        path = file.parent / CLASSES_FILE
        return (str(path), read_classes(path)) if path.is_file() else None
    scheme, host, path = split_url(file)
    beside = f"{scheme}://{host}{path.rpartition('/')[0]}/{CLASSES_FILE}"
    try:
        return shown(beside), read_classes(beside)
    except (FileNotFoundError, PermissionError):  # some stores refuse what they do not have
        return None
