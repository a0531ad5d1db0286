"""The images that an evaluation got most wrong, small enough for a page."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from convit.data import Samples
from convit.evaluation.scoring import Scores
from convit.images.formats import ImageError
from convit.images.opening import ImageSource, open_image
from convit.output.pages import thumbnail

MOST_SHOWN = 24
_SIDE = 160  # pixels of a thumbnail's longer side
_SMALL = 64  # up to here an image stays as it is: JPEG would spoil the few pixels that it has


@dataclass(frozen=True)
class Mistake:
    """An image whose class the model does not put first.

    Attributes:
        name: its path or key.
        label: the class that is right, by the model's numbers.
        predicted: the class that the model puts first.
        probability: what the model gives the right class, 0 to 1.
        confidence: what it gives the predicted one.
        loss: cross entropy, natural logarithm.
        rank: how many classes it prefers to the right one.
        thumbnail: a JPEG or PNG file; None where the image can no longer be read.
        is_small: whether the image has so few pixels that a page should show each of them.
    """

    name: str
    label: int
    predicted: int
    probability: float
    confidence: float
    loss: float
    rank: int
    thumbnail: bytes | None
    is_small: bool


def worst_mistakes(
    scores: Scores, images: Samples, *, most: int = MOST_SHOWN, apply_exif: bool = False
) -> list[Mistake]:
    """Find the wrong images of highest loss, and make thumbnails of them; no other image is read if that can be.

    Args:
        scores: of the images.
        images: the same data set.
        most: how many, at most.
        apply_exif: whether images are turned as their EXIF orientation asks: as the model saw them.

    Returns:
        The mistakes, the highest loss first; of equal ones the first in the data.

    Raises:
        ValueError: as `images.take`.
        OSError: likewise.
    """
    wrong = np.flatnonzero(~scores.right())
    chosen = wrong[np.argsort(-scores.losses[wrong], kind="stable")][:most]
    places = np.sort(scores.places[chosen]).tolist()
    taken = zip(places, images.take(places), strict=True)
    thumbnails = {place: _thumbnail(image.content, apply_exif) for place, image in taken}
    return [_mistake(scores, row, *thumbnails[int(scores.places[row])]) for row in chosen.tolist()]


def _mistake(scores: Scores, row: int, thumbnail: bytes | None, is_small: bool) -> Mistake:
    return Mistake(
        name=scores.names[row],
        label=int(scores.labels[row]),
        predicted=int(scores.predicted[row]),
        probability=math.exp(-float(scores.losses[row])),
        confidence=float(scores.confidences[row]),
        loss=float(scores.losses[row]),
        rank=int(scores.ranks[row]),
        thumbnail=thumbnail,
        is_small=is_small,
    )


def _thumbnail(source: ImageSource, apply_exif: bool) -> tuple[bytes | None, bool]:
    """(file, whether the image is small)."""
    try:
        image = open_image(source, apply_exif=apply_exif, at_least=2 * _SIDE)
    except ImageError:
        return None, False
    return thumbnail(image, _SIDE, small=_SMALL), max(image.size) <= _SMALL
