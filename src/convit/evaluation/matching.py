"""Which class of the model a label of the data means."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from convit.evaluation.labelled import ClassName, LabelledImages
from convit.weights.labels import LABEL_SETS, class_names, class_wnids

_SHOWN = 3


def match_classes(data: LabelledImages, names: Sequence[str] | None, num_classes: int) -> list[int]:
    """Find the model's class for each label of the data.

    The data's classes are the sub-folders of a folder, or what a `classes.json` beside shards lists. Taken is the
    first of these rules that fits *all* classes that occur:

    1. they are names of the model's classes (case, and underscores for spaces, make no difference);
    2. they are, or come with, WordNet ids of the model's classes (ImageNet-1k: `n02123045`);
    3. they are the numbers of the model's classes ("0" to "999", zeros in front allowed);
    4. the model does not know its classes' names, and has as many: their sorted order counts.

    Shards without `classes.json` hold the model's own class numbers. Nothing is guessed beyond that: a data set whose
    labels only might fit would give a wrong accuracy without a word.

    Args:
        data: the labelled images.
        names: the model's class names in index order, None where it brings none.
        num_classes: number of the model's classes.

    Returns:
        The model's class by label; of labels that do not occur, anything.

    Raises:
        ValueError: the classes cannot be matched; the message names some that fit nothing.
    """
    if data.classes is None:
        highest = max(data.labels)
        if highest >= num_classes:
            raise ValueError(
                f"the shards hold the label {highest}, but the model has {num_classes} classes (0 to "
                f"{num_classes - 1}); choose a model of these classes, or name them in a classes.json beside the shards"
            )
        return list(range(num_classes))
    if max(data.labels) >= len(data.classes):
        raise ValueError(
            f"a sample has the label {max(data.labels)}, but {data.source} names only {len(data.classes)} classes; "
            "correct one of them"
        )
    finders = _finders(names, num_classes)
    occurring = [data.classes[label] for label in data.labels]
    for find in finders:
        found = [find(each) for each in occurring]
        if None not in found and len(set(found)) == len(found):
            return _by_label(data.labels, [index for index in found if index is not None])
    if names is None and len(data.classes) == num_classes:
        return _by_label(data.labels, list(data.labels))
    raise ValueError(_explain(data, occurring, names, num_classes, finders))


def _finders(names: Sequence[str] | None, num_classes: int) -> list[Callable[[ClassName], int | None]]:
    by_name = {_plain(name): index for index, name in enumerate(names or ())}
    label_set = next((each for each in LABEL_SETS if names is not None and class_names(each) == tuple(names)), None)
    wnids = () if label_set is None else class_wnids(label_set)
    by_wnid = {wnid: index for index, wnid in enumerate(wnids) if wnid is not None}
    by_number = {index: index for index in range(num_classes)}
    return [
        lambda each: by_name.get(_plain(each.name)),
        lambda each: by_wnid.get(each.wnid or each.name),
        lambda each: by_number.get(int(each.name)) if each.name.isascii() and each.name.isdigit() else None,
    ]


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()


def _by_label(labels: Sequence[int], found: Sequence[int]) -> list[int]:
    matched = [-1] * (max(labels) + 1)
    for label, index in zip(labels, found, strict=True):
        matched[label] = index
    return matched


def _explain(
    data: LabelledImages,
    occurring: Sequence[ClassName],
    names: Sequence[str] | None,
    num_classes: int,
    finders: Sequence[Callable[[ClassName], int | None]],
) -> str:
    # those of the rule that comes closest: of a thousand right names and a wrong one, the wrong one is worth showing
    misses = min(([each.name for each in occurring if find(each) is None] for find in finders), key=len)
    shown = ", ".join(repr(name) for name in misses[:_SHOWN]) or "two that mean the same class"
    known = "" if names is None else f" ({', '.join(names[:_SHOWN])}, ...)"
    more = f" and {len(misses) - _SHOWN} more" if len(misses) > _SHOWN else ""
    remedy = (
        "name the sub-folders by the model's class names, WordNet ids or class numbers"
        if data.kind == "folder"
        else "correct that file, or remove it where the shards' labels are the model's own class numbers"
    )
    return (
        f"in {data.source}, {shown}{more} {'is' if len(misses) == 1 else 'are'} none of the model's {num_classes} "
        f"classes{known}; {remedy}, "
        "or choose another model"
    )
