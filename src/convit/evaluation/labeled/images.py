"""What every labeled data set gives: images as they are stored, their classes, and what it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class LabeledImage:
    """One image as it is stored.

    Attributes:
        name: path within the folder, key within the shard, or file and row.
        content: the encoded file; the path of one that could not be read; or a picture, where the data keep pixels.
        label: number of its class in the data's own counting.
        accepted: all labels that count as right where there are several (ImageNet's ReaL labels); empty where `label`
            alone does.
    """

    name: str
    content: bytes | Path | Image.Image
    label: int
    accepted: tuple[int, ...] = ()


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


class LabeledImages(Protocol):
    """A data set that can be read again and again, in an order that stays the same.

    Attributes:
        kind: how it is stored: "folder", "shards", "parquet", "hub" or "cifar".
        count: number of images.
        labels: the labels that occur, ascending.
        classes: what each label means, by number; None where the data do not say, and labels are the model's own.
        source: what names the classes, for messages.
        restricted: whether only the classes in `competing` may be predicted (ImageNet-A and -R: 200 of 1,000).
        competing: the labels of these classes, ascending, whether they occur or not; read only where `restricted`.
    """

    kind: str
    count: int
    labels: Sequence[int]
    classes: Sequence[ClassName] | None
    source: str
    restricted: bool
    competing: Sequence[int]

    def __iter__(self) -> Iterator[LabeledImage]:
        """All images, in order."""
        ...

    def take(self, places: Sequence[int]) -> Iterator[LabeledImage]:
        """The images at some places.

        Others are not read where the storage allows it (shards must be read from their start).

        Args:
            places: numbers from 0 to `count` - 1, ascending.

        Raises:
            ValueError: a place is out of range, or not above the one before it.
        """
        ...

    def identity(self) -> dict[str, Any]:
        """What the data are.

        Returns:
            `kind`; `name`, or `files` with name and sha256 of each; `sha256`, which another image, order or label
            changes; and what else tells such data apart. What was not read before is read for it.
        """
        ...


class IndexedImages:
    """Labeled images of which each can be reached by its place; subclasses read one, and say what they are.

    Args:
        labels: the label of each image.
        classes: as in `LabeledImages`.
        source: likewise.
    """

    kind: str = ""
    labels: Sequence[int]
    classes: Sequence[ClassName] | None
    competing: Sequence[int]

    def __init__(self, labels: Sequence[int], classes: Sequence[ClassName] | None, source: str) -> None:
        self.count = len(labels)
        self.labels = sorted(set(labels))
        self.classes = classes
        self.source = source
        self.restricted = False
        self.competing = self.labels

    def __iter__(self) -> Iterator[LabeledImage]:
        """Read all images, in order."""
        return map(self._image, range(self.count))

    def take(self, places: Sequence[int]) -> Iterator[LabeledImage]:
        """Read the images at some ascending places, and no others.

        Raises:
            ValueError: a place is out of range, or not above the one before it.
        """
        return map(self._image, checked_places(places, self.count))

    def _image(self, place: int) -> LabeledImage:
        raise NotImplementedError


def checked_places(places: Sequence[int], count: int) -> Sequence[int]:
    """Give places back that are ascending numbers of images.

    Args:
        places: numbers of images, from 0.
        count: number of images that there are.

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


def check_labels(data: LabeledImages) -> None:
    """Refuse labels that the data's own list of classes does not reach.

    Args:
        data: the data set.

    Raises:
        ValueError: a label is no place in that list.
    """
    if data.classes is not None and max(data.labels) >= len(data.classes):
        raise ValueError(
            f"a sample has the label {max(data.labels)}, but {data.source} names only {len(data.classes)} classes; "
            "correct one of them"
        )


def wnid_or_name(each: ClassName) -> str:
    """A class's WordNet id, which may stand in place of its name: of sub-folders, say.

    >>> wnid_or_name(ClassName("n02124075")), wnid_or_name(ClassName("Egyptian cat", "n02124075"))
    ('n02124075', 'n02124075')
    """
    return each.wnid or each.name


def plain_name(name: str) -> str:
    """A class's name as names are compared: case, and underscores for spaces, make no difference.

    >>> plain_name("Egyptian_cat")
    'egyptian cat'
    """
    return " ".join(name.replace("_", " ").split()).casefold()
