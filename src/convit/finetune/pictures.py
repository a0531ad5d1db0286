"""Finding the pictures: which folder form they have, what their classes are, and which of them validate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convit.data.datasets import ImageDataset, check_trainable, hold_out, open_dataset
from convit.data.locate import form_of
from convit.images import ImageError, find_images
from convit.images.listing import is_folder, list_folder
from convit.images.opening import image_size, read_bytes

TRAINING = ("train", "training")
VALIDATION = ("val", "valid", "validation", "test")
LEAST_IMAGES = 10
HELD_OUT_SHARE, MOST_HELD_OUT_SHARE, MOST_HELD_OUT = 0.18, 0.25, 5000
LOOKED_AT = 200  # pictures whose headers are read


@dataclass(frozen=True)
class Pictures:
    """Pictures with labels, as they lie.

    Attributes:
        name: what the data is called.
        root: folder that the recipe's paths start from.
        train: the recipe's `data.train`.
        validation: its `data.validation`; None where pictures have to be held out.
        classes: class names in index order.
        labels: class index of every picture of `train`.
        validation_labels: likewise of `validation`; empty without it.
        short_side: median of the shorter sides of some of the pictures, pixels; None where they are in no folder.
        layout: what was found, in words.
        warnings: what the user should know before training, in words.
    """

    name: str
    root: Path
    train: str
    validation: str | None
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    validation_labels: tuple[int, ...]
    short_side: int | None
    layout: str
    warnings: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Number of pictures of each class, before any are held out."""
        return count_classes(self.labels, self.classes)


@dataclass(frozen=True)
class Division:
    """Which pictures are kept from training, to validate with.

    Attributes:
        held_out: number of them; 0 where the data bring their own.
        training: number of pictures of each class that are trained on, in index order.
        validation: number of those that validate.
        reason: why so.
        warnings: classes that cannot be validated, in words.
    """

    held_out: int
    training: tuple[int, ...]
    validation: tuple[int, ...]
    reason: str
    warnings: tuple[str, ...]


def find_pictures(source: str | Path) -> Pictures:
    """Look at what a user named.

    Args:
        source: a folder with a sub-folder per class; a folder with `train/` and perhaps `val/` (or valid, validation,
            test) that hold these; or any other form that `convit.data.open_dataset` takes.

    Raises:
        FileNotFoundError: there is nothing at `source`.
        ValueError: it is no such folder, a class is empty, or there are too few classes or images.
        Whatever `convit.data.open_dataset` raises.
    """
    if form_of(source) != "folder":
        return _other_form(str(source))
    folder = Path(source)
    if folder.is_file():
        raise ValueError(f"{folder} is a file; give a folder with a sub-folder per class (unpack an archive first)")
    train, validation, others = _find_parts(folder)
    training = open_dataset(folder / train)
    assert training.classes is not None
    _check_number(training, folder / train)
    validating = open_dataset(folder / validation, classes=training.classes) if validation else None
    where = f"{folder}/" if train == "." else f"{folder}/{train}/"
    layout = f"{len(training.classes)} class folders in {where}"
    if validation:
        layout += f", validation pictures in {folder}/{validation}/"
    ignored = ", ".join(f"{folder}/{name}/" for name in others)
    return Pictures(
        name=folder.resolve().name,
        root=folder,
        train=train,
        validation=validation,
        classes=training.classes,
        labels=tuple(training.samples.labels),
        validation_labels=tuple(validating.samples.labels) if validating else (),
        short_side=_median_side(training.samples.names),
        layout=layout,
        warnings=(f"{ignored} is left alone: neither trained on nor read",) if others else (),
    )


def divide(pictures: Pictures, seed: int) -> Division:
    """Choose how many pictures validate: about a sixth of each class, and one of each class where that can be had.

    Args:
        pictures: what was found.
        seed: which pictures.

    Raises:
        ValueError: each class has a single picture.
    """
    names, labels = pictures.classes, pictures.labels
    if pictures.validation is not None:
        training, validation = _per_class(labels, len(names)), _per_class(pictures.validation_labels, len(names))
        reason = f"{sum(validation):,} pictures in their own folder"
        return Division(0, training, validation, reason, _unvalidated(names, training, validation))
    count = choose_held_out(labels)
    kept, held = hold_out(labels, count, seed)
    training, validation = (_per_class([labels[position] for position in part], len(names)) for part in (kept, held))
    reason = f"{count / len(labels):.0%} of the pictures, of each class in proportion, are kept to validate with"
    return Division(count, training, validation, reason, _unvalidated(names, training, validation))


def choose_held_out(labels: Sequence[int]) -> int:
    """How many of so many labeled pictures are held out.

    Raises:
        ValueError: each class has a single picture, so that none can be spared.

    >>> choose_held_out([0] * 100 + [1] * 100), choose_held_out([0] * 20 + [1] * 4)
    (36, 6)
    """
    sizes = Counter(labels).values()
    spare = sum(size - 1 for size in sizes)  # one of each class is always trained on
    if not spare:
        raise ValueError(
            "each class has a single image, so none can be kept from training to validate with; add images"
        )
    count = min(max(1, round(HELD_OUT_SHARE * len(labels))), spare, MOST_HELD_OUT)
    smallest = min(size for size in sizes if size > 1)
    # `hold_out` takes the k-th picture of a class of n when k/n of all are held out, so this many reach every class
    reaching_all = sum(size // smallest for size in sizes if size > 1)
    return max(count, reaching_all) if reaching_all <= min(MOST_HELD_OUT_SHARE * len(labels), spare) else count


def count_classes(labels: Sequence[int], classes: Sequence[str]) -> dict[str, int]:
    """Number of pictures by class name, in the classes' order."""
    return dict(zip(classes, _per_class(labels, len(classes)), strict=True))


def _per_class(labels: Sequence[int], classes: int) -> tuple[int, ...]:
    found = Counter(labels)
    return tuple(found[label] for label in range(classes))


def _unvalidated(names: Sequence[str], training: Sequence[int], validation: Sequence[int]) -> tuple[str, ...]:
    missing = [index for index in range(len(names)) if not validation[index]]
    if not missing:
        return ()
    shown = ", ".join(f"{names[index]!r} ({training[index]})" for index in missing[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return (
        f"too few images to validate with: {shown}{more}; the classes are trained on, but how well they are told apart "
        f"cannot be said, so add images",
    )


def _find_parts(folder: Path) -> tuple[str, str | None, list[str]]:
    """(`train` folder, validation folder, sub-folders that are neither); "." where the folder itself holds classes."""
    train = next((name for name in TRAINING if _holds_classes(folder / name)), None)
    if train is None:
        return ".", None, []
    validation = next((name for name in VALIDATION if _holds_classes(folder / name)), None)
    children = [child.name for child in list_folder(folder) if is_folder(child)]
    return train, validation, [name for name in children if name not in (train, validation)]


def _holds_classes(folder: Path) -> bool:
    """Whether it is a folder of folders; a class that is called "train" has its pictures directly inside."""
    if not folder.is_dir():
        return False
    return any(map(is_folder, list_folder(folder))) and not find_images(folder, recursive=False, or_none=True)


def _other_form(source: str) -> Pictures:
    dataset = open_dataset(source)
    _check_number(dataset, source)
    labels = tuple(int(label) for label in dataset.samples.labels)
    classes = dataset.classes or tuple(f"class {index}" for index in range(max(labels) + 1))
    return Pictures(
        name=Path(source).stem.partition(".")[0] or source,
        root=Path(),
        train=source,
        validation=None,
        classes=tuple(classes),
        labels=labels,
        validation_labels=(),
        short_side=None,
        layout=f"{form_of(source)} data {source}",
        warnings=(),
    )


def _check_number(dataset: ImageDataset, source: object) -> None:
    check_trainable(dataset)
    if len(dataset) < LEAST_IMAGES:
        raise ValueError(
            f"{source} holds {len(dataset)} images, but fine-tuning needs at least {LEAST_IMAGES} to begin with, and "
            f"some dozens of each class to be any good; add images"
        )


def _median_side(names: Sequence[str]) -> int | None:
    """The median short side of some pictures, pixels; None where none of them can be read."""
    sides: list[int] = []
    for name in names[:: -(-len(names) // LOOKED_AT)]:
        try:
            sides.append(min(image_size(read_bytes(name), name)))
        except ImageError:
            continue  # unreadable ones are counted in training
    return sorted(sides)[len(sides) // 2] if sides else None
