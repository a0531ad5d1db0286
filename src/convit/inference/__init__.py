"""People's pictures in, labels, embeddings and files out.

Promises: whatever a picture is (a path, bytes, an array; grey, 16-bit, CMYK, turned, cut off), it becomes upright RGB
or one line that says what is wrong; results keep the pictures' order, and one bad picture stops no run; files appear
whole or not at all. Start reading at `convit.inference.classifier`; pictures are opened in `convit.inference.opening`,
results written in `convit.inference.output`.

Importing this package imports neither torch nor pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convit.lazy import import_when_used

if TYPE_CHECKING:
    from convit.inference.classifier import Classifier
    from convit.inference.embedder import Embedder
    from convit.inference.errors import ImageError
    from convit.inference.finding import IMAGE_SUFFIXES, find_images
    from convit.inference.kinds import check_kind
    from convit.inference.opening import DEFAULT_PIXEL_LIMIT, ImageSource, open_image, source_name
    from convit.inference.output import FORMATS, Writer, check_output, choose_format, open_writer
    from convit.inference.results import Classification, Embedding, Prediction, Timings

_HOMES = {
    "DEFAULT_PIXEL_LIMIT": ".opening",
    "FORMATS": ".output",
    "IMAGE_SUFFIXES": ".finding",
    "Classification": ".results",
    "Classifier": ".classifier",
    "Embedder": ".embedder",
    "Embedding": ".results",
    "ImageError": ".errors",
    "ImageSource": ".opening",
    "Prediction": ".results",
    "Timings": ".results",
    "Writer": ".output",
    "check_kind": ".kinds",
    "check_output": ".output",
    "choose_format": ".output",
    "find_images": ".finding",
    "open_image": ".opening",
    "open_writer": ".output",
    "source_name": ".opening",
}

__all__ = [
    "DEFAULT_PIXEL_LIMIT",
    "FORMATS",
    "IMAGE_SUFFIXES",
    "Classification",
    "Classifier",
    "Embedder",
    "Embedding",
    "ImageError",
    "ImageSource",
    "Prediction",
    "Timings",
    "Writer",
    "check_kind",
    "check_output",
    "choose_format",
    "find_images",
    "open_image",
    "open_writer",
    "source_name",
]

__getattr__, __dir__ = import_when_used(__name__, _HOMES)
