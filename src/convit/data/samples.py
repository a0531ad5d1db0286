"""What every labeled data set gives: images, their labels and classes, by place or in order, and what it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from convit.data.classes import ClassName, are_ids, find_name, named, wnid_or_name
from convit.data.identity import ContentDigests, sha256_of_lines
from convit.images import ImageError, open_image
from convit.images.listing import evenly_spaced as evenly_spaced
from convit.images.names import path_text
from convit.images.opening import NamedBytes, read_bytes

Stored = bytes | Path | Image.Image
_NOT_UTF8 = re.compile("[\ud800-\udfff]")  # what stands for such bytes in a file's name


@dataclass(frozen=True)
class LabeledImage:
    """One image as it is stored.

    Attributes:
        name: path within the folder, key within the shard, or file and row.
        content: the encoded file; the path of one that could not be read; or an image, where the data keep pixels.
        label: number of its class in the data's own counting.
        accepted: all labels that count as right where there are several (ImageNet's ReaL labels); empty if `label`
            alone does.
    """

    name: str
    content: Stored
    label: int
    accepted: tuple[int, ...] = ()

    @property
    def source(self) -> NamedBytes | Image.Image:
        """The content for whoever opens it: results and messages call it by its name, see `named_source`."""
        return named_source(self.content, path_text(self.name))


class Samples:
    """A labeled data set, in an order that stays the same; subclasses say where an image is stored, and what they are.

    Args:
        labels: the label of each image.
        names: what each image is called.
        classes: what each label means, by number; None if the data do not say, and labels are the model's own.
        source: what names the classes, for messages.

    Attributes:
        kind: how it is stored: the name of a row of `convit.data.locate.KINDS`.
        digests: takes note of what `labeled` reads, where `identity` needs it.
        accepted: all labels that count as right for each image, where there are several; else empty.
        restricted: whether only the classes in `competing` may be predicted (ImageNet-A and -R: 200 of 1,000).
        competing: the labels of these classes, ascending, whether they occur or not.
    """

    kind: str = ""
    digests: ContentDigests | None = None

    def __init__(
        self, labels: Sequence[int], names: Sequence[str], classes: Sequence[ClassName] | None, source: str
    ) -> None:
        self.labels, self.names, self.source = labels, names, source
        self.classes = None if classes is None else tuple(classes)
        self.accepted: Sequence[tuple[int, ...]] = ()
        self.restricted = False
        self.competing: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def distinct_labels(self) -> list[int]:
        """The labels that occur, ascending."""
        return sorted(set(chain.from_iterable(self.accepted) if self.accepted else self.labels))

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes in index order, where the data say them."""
        return None if self.classes is None else tuple(each.name for each in self.classes)

    @property
    def class_titles(self) -> tuple[str, ...]:
        """The names of the classes, or their numbers where the data do not say them."""
        return self.class_names or tuple(map(str, range(max(self.labels) + 1)))

    def stored(self, index: int) -> Stored:
        """One image as it is stored, or the path of its file."""
        raise NotImplementedError

    def where(self, index: int) -> str:
        """What an image is called among all data: its path, or its name where there is none."""
        return self.names[index]

    def image(self, index: int) -> Image.Image:
        """One image, opened by `convit.images.open_image`.

        Raises:
            ImageError: it cannot be read.
        """
        return open_image(self.stored(index), name=path_text(self.where(index)))

    def labeled(self, index: int) -> LabeledImage:
        """One image with its label; a file that cannot be read comes as its path: whoever opens it says why."""
        content = self.content(index)
        if self.digests is not None:
            self.digests.note(index, content)
        accepted = self.accepted[index] if self.accepted else ()
        return LabeledImage(self.names[index], content, self.labels[index], accepted)

    def __iter__(self) -> Iterator[LabeledImage]:
        """Read all images, in order; they are not held in memory together."""
        return self.take(range(len(self)))

    def take(self, places: Sequence[int]) -> Iterator[LabeledImage]:
        """Read the images at some ascending places, and no others where the storage allows it.

        Raises:
            ValueError: a place is out of range, or not above the one before it.
        """
        return map(self.labeled, checked_places(places, len(self)))

    def identity(self) -> dict[str, Any]:
        """What the data are; what was not read before is read for it.

        Returns:
            `kind`; `name`, or `files` with name and sha256 of each; `sha256`, which another image, order or label
            changes; and what else tells such data apart.
        """
        raise NotImplementedError

    def content(self, index: int) -> Stored:
        """One image as it is stored, read where that is a file; the path of a file that cannot be read."""
        return read_stored(self.stored(index))

    def _digest_lines(self, behind: Sequence[object]) -> Iterable[bytes]:
        """The lines "sha256  what stands behind" of all images; what `labeled` has read is not read again."""
        assert self.digests is not None
        return self.digests.lines(behind, self.content)

    def count_in(self, classes: Sequence[str | ClassName]) -> None:
        """Renumber labels by a list of classes, matched by WordNet id, or else by name as `find_name` does.

        Numbers without names count in that list; where its classes are named by numbers, these are names.

        Raises:
            ValueError: a class that occurs is not in that list or means the same as another one, or a label without a
                name is too large for it.
        """
        known = [each if isinstance(each, ClassName) else ClassName(each) for each in classes]
        names = [each.name for each in known]
        by_id = {each.wnid: place for place, each in enumerate(known) if each.wnid}
        by_name = find_name(names)

        def find(each: ClassName) -> int | None:
            return by_id.get(wnid_or_name(each), by_name(each.name))

        if self.classes is None and are_ids(names):
            self.classes = named(self.class_titles)
        if self.classes is not None:
            occurring = [self.classes[label] for label in self.distinct_labels]
            if not are_ids(names) and all(each.name.isdecimal() and find(each) is None for each in occurring):
                by_name = find_name([str(index) for index in range(len(names))])
            found = Counter(map(find, occurring))
            wrong = next((each for each in occurring if find(each) is None or found[find(each)] > 1), None)
            if wrong is not None:
                what = "is none of" if find(wrong) is None else "is the same as another one among"
                raise ValueError(
                    f"the class {wrong.name!r} of {self.source} {what} the {len(names)} known classes; rename it, "
                    "remove it, or leave the list of classes away"
                )
            order = [-1 if (place := find(each)) is None else place for each in self.classes]
            self.labels = [order[label] for label in self.labels]
            self.accepted = [tuple(order[label] for label in each) for each in self.accepted]
            self.competing = sorted(order[label] for label in self.competing)
            self.__dict__.pop("distinct_labels", None)
        self.classes = tuple(known)
        self.check_labels()

    def check_labels(self) -> None:
        """Refuse labels that are not class numbers, and names of classes that cannot be written down.

        Raises:
            ValueError: a label is negative, or is not below the number of classes, where they are known; or a name is
                not UTF-8.
        """
        for name in filter(_NOT_UTF8.search, self.class_names or ()):
            raise ValueError(f"the class {name!a} of {self.source} has a name that is not valid UTF-8; rename it")
        count = None if self.classes is None else len(self.classes)
        if not len(self) or (min(self.labels) >= 0 and (count is None or max(self.labels) < count)):
            return
        place = next(place for place, label in enumerate(self.labels) if not 0 <= label < (count or label + 1))
        check_label(self.labels[place], self.names[place], self.source, count)


def check_label(label: int, name: str, source: str, classes: int | None) -> None:
    """Refuse a sample's label that is not the number of one of `classes` classes (None: of any number of them).

    Raises:
        ValueError: the label is negative or too large; the message names sample and source.
    """
    if label < 0:
        raise ValueError(
            f"sample {name!r} of {source} has the label {label}, but labels count from 0; it is how test sets without "
            "labels are marked, so take another split"
        )
    if classes is not None and label >= classes:
        raise ValueError(
            f"label {label} of sample {name!r} in {source} is too large: labels count from 0, but there are {classes} "
            "classes; correct the label or the list of classes"
        )


class Rows(Sequence[str]):
    """Names that are made when they are asked for: a million of them would take more memory than the labels."""

    def __init__(self, count: int, name: Callable[[int], str]) -> None:
        self._count, self._name = count, name

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        return self._name(index)


class Part(Samples):
    """The images at some ascending places of a data set."""

    def __init__(self, whole: Samples, places: Sequence[int]) -> None:
        labels, names = [whole.labels[place] for place in places], [whole.names[place] for place in places]
        super().__init__(labels, names, whole.classes, whole.source)
        self.whole, self.places = whole, places
        self.kind, self.restricted, self.competing = whole.kind, whole.restricted, whole.competing
        self.accepted = [whole.accepted[place] for place in places] if whole.accepted else ()

    def stored(self, index: int) -> Stored:
        """One of these images as it is stored."""
        return self.whole.stored(self.places[index])

    def where(self, index: int) -> str:
        """As the data set says."""
        return self.whole.where(self.places[index])

    def take(self, places: Sequence[int]) -> Iterator[LabeledImage]:
        """Read some of these images; places count among them.

        Raises:
            ValueError: a place is out of range, or not above the one before it.
        """
        found = self.whole.take([self.places[place] for place in checked_places(places, len(self))])
        return (replace(image, name=self.names[place]) for place, image in zip(places, found, strict=True))

    def identity(self) -> dict[str, Any]:
        """What the whole data set is, the number of these images, and one sha256 over that of the whole and places.

        That of the whole where these are all of its images.
        """
        found = self.whole.identity()
        if len(self) == len(self.whole):
            return found
        lines = [found["sha256"].encode(), *(f"\n{place}".encode() for place in self.places)]
        return {**found, "part": len(self), "sha256": sha256_of_lines(lines)}


class EvenlySpaced(Part):
    """`count` images of a data set at even distances; all of them where it has fewer.

    Raises:
        ValueError: `count` is below 1.
    """

    def __init__(self, whole: Samples, count: int) -> None:
        super().__init__(whole, evenly_spaced(count, len(whole)))
        self.distinct_labels = whole.distinct_labels

    def identity(self) -> dict[str, Any]:
        """What the whole data set is, and how many of its images were taken."""
        return self.whole.identity() | {"evenly_spaced": len(self)}


def read_stored(stored: Stored) -> Stored:
    """The content of a file, or its path where it cannot be read; anything else as it is."""
    try:
        return read_bytes(stored) if isinstance(stored, Path) else stored
    except ImageError:
        return stored


def named_source(stored: Stored, name: str) -> NamedBytes | Image.Image:
    """What is stored as `convit.images` opens it, under a name; a file that cannot be read is empty and says why.

    The name is that of results, as `convit.images.names.path_text` writes it.
    """
    if isinstance(stored, Image.Image):
        stored.filename = name  # pyright: ignore[reportAttributeAccessIssue]  # as Pillow calls those that it opens
        return stored
    try:
        return NamedBytes(read_bytes(stored), name)
    except ImageError as error:
        return NamedBytes(name=name, reason=error.args[1])


def checked_places(places: Sequence[int], count: int) -> Sequence[int]:
    """Return places, which must be ascending and below `count`.

    Raises:
        ValueError: a place is out of range, or not above the one before it.
    """
    before = -1
    for place in places:
        if not before < place < count:
            raise ValueError(
                f"the place {place} follows {before}, but places must ascend and lie between 0 and {count - 1}"
            )
        before = place
    return places
