"""One split of a data set, and evenly spaced images of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from convit.data.locate import SHARD_SUFFIXES
from convit.evaluation import LabelledImage, LabelledImages, open_labelled
from convit.evaluation.labelled import ClassName


def open_split(data: str | Path, split: str | None = None) -> LabelledImages:
    """Open labelled images, or the part of them that a split's name means.

    Args:
        data: as in `convit.evaluation.open_labelled`; with `split`, a folder.
        split: a sub-folder of `data` ("val" for data/val/class/image), or what the names of shards in it begin with
            ("test" for test-000000.tar.gz); None for the whole.

    Returns:
        The images.

    Raises:
        FileNotFoundError: there is nothing there.
        ValueError: `data` has no such split, or is no folder; or what `open_labelled` refuses.
    """
    if split is None:
        return open_labelled(data)
    folder = Path(data)
    if not folder.is_dir():
        raise ValueError(f"{data} is no folder, so it has no split {split!r}; leave the split out, or name a folder")
    if (folder / split).is_dir():
        return open_labelled(folder / split)
    names = sorted(child.name for child in folder.iterdir() if child.name.lower().endswith(SHARD_SUFFIXES))
    found = [folder / name for name in names if name.startswith((f"{split}-", f"{split}."))]
    if not found:
        known = {name.partition("-")[0].partition(".")[0] for name in names}
        known |= {child.name for child in folder.iterdir() if child.is_dir()}
        there = f"it has {', '.join(sorted(known)[:8])}" if known else "it has no folder and no shard"
        raise ValueError(f"{folder} has no split {split!r}; {there}")
    return open_labelled(found)


class EvenlySpaced:
    """`count` images of a data set at even distances, so that a folder sorted by class gives every class its share.

    Args:
        images: the data set.
        count: how many; all of them where it has fewer.

    Raises:
        ValueError: `count` is below 1.
    """

    def __init__(self, images: LabelledImages, count: int) -> None:
        if count < 1:
            raise ValueError(f"the limit is {count}, but must be at least 1 image")
        self._images = images
        self.kind: Literal["folder", "shards"] = images.kind
        self.count = min(count, images.count)
        self.labels: Sequence[int] = images.labels
        self.classes: Sequence[ClassName] | None = images.classes
        self.source = images.source

    def __iter__(self) -> Iterator[LabelledImage]:
        """Give the chosen images in their order; all are read, so that the data set's identity is complete."""
        whole = self._images.count
        wanted = iter([number * whole // self.count for number in range(self.count)])
        following = next(wanted, None)
        for place, image in enumerate(self._images):
            if place == following:
                yield image
                following = next(wanted, None)

    def identity(self) -> dict[str, Any]:
        """What the whole data set is, and how many of its images were taken."""
        return self._images.identity() | {"evenly_spaced": self.count}
