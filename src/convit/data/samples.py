"""What a data set consists of: encoded images with labels, reached by index."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from convit.data.corrupt import CorruptImages


class Samples(Protocol):
    """Images with labels, by index."""

    @property
    def labels(self) -> Sequence[int]:
        """Class index of every sample."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Key or path of every sample, for messages."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image:
        """The decoded RGB image.

        Raises:
            ValueError: the image cannot be read.
        """
        ...


class DecodedSamples:
    """Samples decoded once and kept as pixels: for small images, whose decoding costs as much as their augmentation.

    Args:
        samples: where the images come from; all must have the same size.
        corrupt: counts the images that cannot be read; `image` then refuses them, as an undecoded set would.
        only: the samples that will be asked for; the others stay black.

    Raises:
        ValueError: the sizes differ, no image can be read, or one cannot and there is no `corrupt`.
        TooManyCorruptError: more images cannot be read than `corrupt` allows.
    """

    def __init__(
        self, samples: Samples, *, corrupt: CorruptImages | None = None, only: Collection[int] | None = None
    ) -> None:
        self.labels, self.names = samples.labels, samples.names
        self._unreadable: dict[int, str] = {}
        pixels: np.ndarray | None = None
        for index in range(len(samples)) if only is None else sorted(only):
            try:
                image = np.asarray(samples.image(index))
            except ValueError as error:
                if corrupt is None:
                    raise
                corrupt.report(self.names[index], error)
                self._unreadable[index] = str(error)
                continue
            if pixels is None:
                # One block, so that worker processes share it instead of copying it piece by piece.
                pixels = np.zeros((len(samples), *image.shape), dtype=np.uint8)
            if image.shape != pixels.shape[1:]:
                raise ValueError(
                    f"{samples.names[index]} is {image.shape[1]} x {image.shape[0]} pixels, others "
                    f"{pixels.shape[2]} x {pixels.shape[1]}; decode: once needs one size"
                )
            pixels[index] = image
        if pixels is None:
            raise ValueError(f"none of the {len(samples)} images can be read; give data with images")
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """The RGB image.

        Raises:
            ValueError: it could not be read.
        """
        if index in self._unreadable:
            raise ValueError(self._unreadable[index])
        return Image.fromarray(self._pixels[index])


def check_label(label: int, name: str, source: object, classes: int | None = None) -> None:
    """Refuse a label that is no class index.

    Args:
        label: what the data say.
        name: of the sample, for the message.
        source: the file that it stands in, for the message.
        classes: number of classes, where known.

    Raises:
        ValueError: the label is negative, or not below `classes`.
    """
    if label < 0:
        raise ValueError(
            f"sample {name!r} of {source} has the label {label}, but labels count from 0; it is how test sets without "
            f"labels are marked, so take another split"
        )
    if classes is not None and label >= classes:
        raise ValueError(
            f"label {label} of sample {name!r} in {source} is too large: labels count from 0, but there are {classes} "
            f"classes; correct the label or the list of classes"
        )
