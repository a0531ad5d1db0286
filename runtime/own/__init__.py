"""Models that `convit export` wrote, without PyTorch: images in, labels and embeddings out.

    from convit_runtime import Classifier, Embedder

    print(Classifier("mine/")("photo.jpg")[0])

The files are those of `convit`, under this name; both can be installed.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convit_runtime.images.formats import ImageError as ImageError
    from convit_runtime.inference.classifier import Classifier as Classifier
    from convit_runtime.inference.embedder import Embedder as Embedder
    from convit_runtime.inference.exported import ExportedModel as ExportedModel

__version__ = "0.1.0"
_MODULES = {
    "Classifier": "inference.classifier",
    "Embedder": "inference.embedder",
    "ExportedModel": "inference.exported",
    "ImageError": "images.formats",
}
__all__ = ["Classifier", "Embedder", "ExportedModel", "ImageError"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
