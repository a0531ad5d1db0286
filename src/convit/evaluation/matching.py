"""Which class of the model a label of the data means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from convit.data import ClassName, Samples
from convit.data.classes import are_ids, find_name, wnid_or_name
from convit.inference.classifier import read_labels
from convit.output.text import first_few
from convit.weights.labels import LABEL_SETS, class_names, class_wnids, numbered_classes

if TYPE_CHECKING:
    from torch import nn

_LISTED = 8  # classes of the model and of the data that a message names
_REMEDIES = {
    "folder": "name the sub-folders by the model's class names, WordNet ids or class numbers",
    "shards": "correct that file, or remove it where the shards' labels are the model's own class numbers",
}


def match_classes(data: Samples, names: Sequence[str] | None, num_classes: int) -> list[int]:
    """Find the model's class for each label of the data.

    The data's classes are the sub-folders of a folder, what a `classes.json` beside shards lists, what a table holds
    or notes, or what a label map makes of these. Taken is the first of these rules that fits *all* classes that occur
    (of restricted data: that compete):

    1. they are names of the model's classes; where not all are the very names, case, underscores for spaces, how
       accents are composed and zeros before a number make no difference, as long as one class alone can be meant;
       classes that a model does not name are called "class 0", "class 1" …, as in results;
    2. they are, or come with, WordNet ids of the model's classes (ImageNet-1k: `n02123045`);
    3. they are the numbers of the model's classes ("0" to "999", zeros in front allowed), unless numbers name these;
       classes that are called 1 to their number are refused, since they may as well count from 1;
    4. the model does not know its classes' names, and has as many: their order counts (of sub-folders: sorted). Not
       with a label map, whose right side must be classes of the model.

    Data that do not name their classes hold the model's own class numbers, or its classes' names where these are other
    numbers. Nothing is guessed beyond that: a data set whose labels only might fit would give a wrong accuracy without
    a word.

    Returns:
        The model's class by label; of labels that neither occur nor compete, anything.

    Raises:
        ValueError: the classes cannot be matched; the message names some that fit nothing.
    """
    if data.classes is None and not are_ids(names or ()):
        _check_numbers(data, max(data.distinct_labels), num_classes)
        return list(range(num_classes))
    labels = sorted({*data.distinct_labels, *data.competing}) if data.restricted else data.distinct_labels
    finders = _finders(names, num_classes)
    wanted = [ClassName(str(label)) if data.classes is None else data.classes[label] for label in labels]
    for find in finders:
        found = [find(each) for each in wanted]
        # a label map may write one target in several ways
        if None not in found and (len(set(found)) == len(found) or all(each.mapped for each in wanted)):
            if find is finders[-1]:
                _check_count(data, wanted)
            return _by_label(labels, [index for index in found if index is not None])
    if names is None and len(data.classes or ()) == num_classes and not any(each.mapped for each in wanted):
        return _by_label(labels, labels)
    if data.kind != "folder" and all(each.name.isdecimal() and not each.mapped for each in wanted):
        _check_numbers(data, max(int(each.name) for each in wanted), num_classes)
    raise ValueError(_explain(data, wanted, names, num_classes, finders))


def own_names(model: nn.Module) -> tuple[str, ...] | None:
    """The names that a model brings for its classes; None where it numbers them.

    So do exports, and files that another program reads, of a model that names none.

    Raises:
        ValueError: it has no classes.
    """
    names = read_labels(model)
    return None if names == numbered_classes(len(names)) else names


def competing_classes(data: Samples, names: Sequence[str] | None, num_classes: int) -> list[int] | None:
    """Find the classes of the model that may be predicted on some data.

    ImageNet-A and ImageNet-R hold 200 of ImageNet-1k's classes, and are scored among these alone. Takes and refuses
    what `match_classes` does; gives their numbers, ascending, or None if all classes compete.
    """
    if not data.restricted:
        return None
    matched = match_classes(data, names, num_classes)
    return sorted({matched[label] for label in data.competing})


def _check_count(data: Samples, wanted: Sequence[ClassName]) -> None:
    """Refuse classes 1 to n: of the model's numbers 0 alone is absent, or they count from 1."""
    numbers = [] if any(each.mapped for each in wanted) else sorted(int(each.name) for each in wanted)
    if len(numbers) > 1 and numbers == list(range(1, len(numbers) + 1)):
        raise ValueError(
            f"the classes in {data.source} are called {first_few([each.name for each in wanted], _LISTED)}, but the "
            "model's classes count from 0, so each may mean one class or the next; name them by the model's class "
            "names, or give a label map"
        )


def _check_numbers(data: Samples, highest: int, num_classes: int) -> None:
    if highest >= num_classes:
        what = "shards" if data.kind == "shards" else "data"
        named = "name them in a classes.json beside the shards, or " if data.kind == "shards" else ""
        raise ValueError(
            f"the {what} hold the label {highest}, but the model has {num_classes} classes (0 to {num_classes - 1}); "
            f"choose a model of these classes, {named or 'or '}give a label map"
        )


def _finders(names: Sequence[str] | None, num_classes: int) -> list[Callable[[ClassName], int | None]]:
    by_name = find_name(numbered_classes(num_classes) if names is None else names)
    label_set = next((each for each in LABEL_SETS if names is not None and class_names(each) == tuple(names)), None)
    wnids = () if label_set is None else class_wnids(label_set)
    by_wnid = {wnid: index for index, wnid in enumerate(wnids) if wnid is not None}
    # classes that are called by numbers are not meant by other numbers
    by_number = {index: index for index in range(num_classes) if not any(map(str.isdecimal, names or ()))}
    return [
        lambda each: by_name(each.name),
        lambda each: by_wnid.get(wnid_or_name(each)),
        lambda each: by_number.get(int(each.name)) if each.name.isascii() and each.name.isdigit() else None,
    ]


def _by_label(labels: Sequence[int], found: Sequence[int]) -> list[int]:
    matched = [-1] * (max(labels) + 1)
    for label, index in zip(labels, found, strict=True):
        matched[label] = index
    return matched


def _explain(
    data: Samples,
    wanted: Sequence[ClassName],
    names: Sequence[str] | None,
    num_classes: int,
    finders: Sequence[Callable[[ClassName], int | None]],
) -> str:
    # those of the rule that comes closest: of a thousand right names and a wrong one, the wrong one is worth showing
    misses = min(([each.name for each in wanted if find(each) is None] for find in finders), key=len)
    shown = first_few([repr(name) for name in misses]) or "two that mean the same class"
    known = "" if names is None else f" ({first_few(names, _LISTED)})"
    if any(each.mapped for each in wanted):
        remedy = "write all of its targets as names, as WordNet ids or as numbers of the model's classes"
    elif data.kind == "folder" and any(each.wnid for each in wanted):
        # ImageNet's relatives, whose folders stay as they were distributed
        remedy = "give a label map"
    else:
        remedy = f"{_REMEDIES[data.kind]}, give a label map" if data.kind in _REMEDIES else "give a label map"
    return (
        f"in {data.source}, {shown} {'is' if len(misses) == 1 else 'are'} none of the model's {num_classes} "
        f"classes{known}; the data have {first_few([each.name for each in wanted], _LISTED)}; {remedy}, or choose "
        "another model"
    )
