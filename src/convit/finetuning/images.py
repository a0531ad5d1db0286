"""Finding the images: which folder form they have, what their classes are, and which of them validate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from convit.data.classes import named
from convit.data.datasets import ImageDataset, check_trainable, hold_out
from convit.data.locate import Source, kind_of
from convit.data.opening import open_samples
from convit.data.samples import Samples
from convit.data.splits import Layout, SplitError, find_layout
from convit.output.text import first_few

LEAST_IMAGES = 10
HELD_OUT_SHARE, MOST_HELD_OUT_SHARE, MOST_HELD_OUT = 0.18, 0.25, 5000


@dataclass(frozen=True)
class LabeledImages:
    """Images with labels, as they lie.

    Attributes:
        name: what the data is called.
        root: folder that the recipe's paths start from.
        train, validation: as the recipe's section `data` takes them; without `validation`, images have to be held out.
        classes: names in index order, or the numbers that the labels are.
        samples, validation_samples: the opened images of both.
        test: the images to score once at the end, whose labels count as the others' do; None if there are none.
        layout: what was found, in words.
        warnings: what the user should know before training, in words.
    """

    name: str
    root: Path
    train: str | list[str]
    validation: str | list[str] | None
    classes: tuple[str, ...]
    samples: Samples
    validation_samples: Samples | None
    test: Samples | None
    layout: str
    warnings: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Number of images of each class, before any are held out."""
        return dict(zip(self.classes, _per_class(self.samples.labels, len(self.classes)), strict=True))

    def opened(self) -> dict[str, Samples]:
        """The opened images, by what the recipe calls them."""
        found = {str(self.train): self.samples}
        return found if self.validation_samples is None else {**found, str(self.validation): self.validation_samples}


@dataclass(frozen=True)
class Division:
    """Which images are kept from training, to validate with, and why so many.

    Attributes:
        held_out: number of them; 0 if the data bring their own.
        training, validation: number of images of each class, in index order.
        warnings: classes that cannot be validated, in words.
    """

    held_out: int
    training: tuple[int, ...]
    validation: tuple[int, ...]
    reason: str
    warnings: tuple[str, ...]


def find_labeled_images(source: str | Path) -> LabeledImages:
    """Look at what a user named, and open it.

    Args:
        source: a folder with a sub-folder per class; a folder with training images and perhaps validation images by
            the names of `convit.data.splits.PARTS`, which hold these; or any other form that `convit.data.open_samples`
            takes. A test part is only opened.

    Raises:
        FileNotFoundError: there is nothing at `source`.
        ValueError: it is not such a folder, a class is empty, or there are too few classes or images.
        Whatever `convit.data.open_samples` raises.
    """
    kind, folder = kind_of(source), Path(source)
    if kind.name == "folder" and folder.is_file():
        raise ValueError(f"{folder} is a file; give a folder with a sub-folder per class (unpack an archive first)")
    in_folder = kind.name == "folder"
    layout = find_layout(source)
    training = open_samples(layout.train, in_memory=True)
    _check_number(training, source if layout.train == source else layout.train)
    classes = training.class_titles
    # kept in the weights, so that data which hold some of the numbers alone are matched by them
    training.classes = training.classes or named(classes)
    validating = None
    if layout.validation is not None:
        validating = open_samples(layout.validation, classes=training.classes, in_memory=True)

    test, problem = _open_test(layout, training)

    def written(part: Source) -> str | list[str]:
        if not isinstance(part, str | Path):
            return list(map(str, part))
        return Path(part).relative_to(folder).as_posix() if in_folder else str(part)

    return LabeledImages(
        name=folder.resolve().name if folder.is_dir() else folder.stem.partition(".")[0] or str(source),
        root=folder if in_folder else Path(),
        train=written(layout.train),
        validation=None if layout.validation is None else written(layout.validation),
        classes=classes,
        samples=training,
        validation_samples=validating,
        test=test,
        layout=_describe(layout, classes, kind.name, scored=test is not None),
        warnings=tuple(_warn(layout, problem)),
    )


def divide(images: LabeledImages, seed: int) -> Division:
    """Choose how many images validate: about a sixth of each class, and one of each class where that can be had.

    Raises:
        ValueError: each class has a single image.
    """
    labels, brought = images.samples.labels, images.validation_samples
    if brought is not None:
        count, parts = 0, (labels, brought.labels)
        reason = f"{len(brought):,} images in their own folder"
    else:
        count = choose_held_out(labels)
        parts = tuple([labels[position] for position in part] for part in hold_out(labels, count, seed))
        reason = f"{count / len(labels):.0%} of the images, of each class in proportion, are kept to validate with"
    training, validation = (_per_class(part, len(images.classes)) for part in parts)
    missing = [
        f"{name!r} ({trained})"
        for name, trained, validating in zip(images.classes, training, validation, strict=True)
        if not validating
    ]
    if not missing:
        return Division(count, training, validation, reason, ())
    warning = (
        f"too few images to validate with: {first_few(missing, 5)}; the classes are trained on, but how well "
        f"they are told apart cannot be said, so add images"
    )
    return Division(count, training, validation, reason, (warning,))


def choose_held_out(labels: Sequence[int]) -> int:
    """How many of so many labeled images are held out.

    Raises:
        ValueError: each class has a single image, so that none can be spared.

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
    # `hold_out` takes the k-th image of a class of n when k/n of all are held out, so this many reach every class
    reaching_all = sum(size // smallest for size in sizes if size > 1)
    return max(count, reaching_all) if reaching_all <= min(MOST_HELD_OUT_SHARE * len(labels), spare) else count


def _per_class(labels: Sequence[int], classes: int) -> tuple[int, ...]:
    found = Counter(labels)
    return tuple(found[label] for label in range(classes))


def _describe(layout: Layout, classes: Sequence[str], kind: str, *, scored: bool) -> str:
    names = f"{len(classes)} classes ({first_few(classes, 12)})"
    found = f"{names} in {layout.train}/" if kind == "folder" else f"{names} in {kind} data {_shown(layout.train)}"
    if layout.validation is not None:
        found += f", validation images in {_shown(layout.validation)}"
    if layout.test is not None and scored:
        found += f", test images for the end in {_shown(layout.test)}"
    return found


def _open_test(layout: Layout, training: Samples) -> tuple[Samples | None, str]:
    """The test part, or why it cannot be scored: training does not need it."""
    if layout.test is None:
        return None, ""
    try:
        return open_samples(layout.test, classes=training.classes), ""
    except SplitError:  # a hub data set that has none
        return None, ""
    except (ValueError, OSError) as error:
        return None, str(error)


def _warn(layout: Layout, problem: str) -> Iterator[str]:
    if layout.test is not None and problem:
        yield f"{_shown(layout.test)} is left alone, as it cannot be scored: {problem}"
    if layout.others:
        ignored = ", ".join(f"{folder}/" for folder in layout.others)
        yield f"{ignored} is left alone: neither trained on nor read"


def _shown(source: Source) -> str:
    if isinstance(source, str | Path):
        return f"{source}/" if Path(source).is_dir() else str(source)
    return f"{source[0]} …" if len(source) > 1 else str(source[0])


def _check_number(samples: Samples, source: object) -> None:
    check_trainable(ImageDataset(samples, classes=samples.class_names))
    if len(samples) < LEAST_IMAGES:
        raise ValueError(
            f"{source} holds {len(samples)} images, but fine-tuning needs at least {LEAST_IMAGES} to begin with, and "
            f"some dozens of each class to be any good; add images"
        )
