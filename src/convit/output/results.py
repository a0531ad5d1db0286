"""What predictors give: one result per image, and where the time went."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32


@dataclass(frozen=True)
class Prediction:
    """One class that an image may show.

    Attributes:
        label: the class's name.
        index: its place in the model's head, from 0.
        score: its probability (softmax over all classes), 0 to 1.
    """

    label: str
    index: int
    score: float


@dataclass(frozen=True)
class Classification:
    """What a `Classifier` says of one image.

    Attributes:
        path: the image's path, or what it is instead ("<bytes>", "<array>", "<image>").
        predictions: the likeliest classes, best first; empty where the image could not be read.
        error: one line that says what is wrong, `None` where all went well.
    """

    path: str
    predictions: tuple[Prediction, ...]
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Embedding:
    """What an `Embedder` says of one image.

    Attributes:
        path: the image's path, or what it is instead ("<bytes>", "<array>", "<image>").
        values: (dim,) or (tokens, dim); `None` where the image could not be read.
        error: one line that says what is wrong, `None` where all went well.
    """

    path: str
    values: Float32[np.ndarray, "*tokens dim"] | None
    error: str | None = None


@dataclass(frozen=True)
class Timings:
    """Where the time of a run went.

    Attributes:
        images: images done, the unreadable ones included.
        failed: images without a result.
        seconds: from the first image asked for to the last result taken.
        waiting_seconds: the part of it in which the model stood still because no image was decoded yet.

    >>> print(Timings(images=24, failed=1, seconds=3.1, waiting_seconds=0.07))
    24 images (1 failed) in 3.1 s, 7.7 images/s, waited for data 2.3 % of the time
    """

    images: int = 0
    failed: int = 0
    seconds: float = 0.0
    waiting_seconds: float = 0.0

    @property
    def waiting_share(self) -> float:
        """Part of the time spent waiting for images, 0 to 1."""
        return self.waiting_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def images_per_second(self) -> float:
        """Images done per second."""
        return self.images / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        failed = f" ({self.failed} failed)" if self.failed else ""
        return (
            f"{self.images} image{'' if self.images == 1 else 's'}{failed} in {self.seconds:.1f} s, "
            f"{self.images_per_second:.1f} images/s, waited for data {100 * self.waiting_share:.1f} % of the time"
        )
