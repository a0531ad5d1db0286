"""ConViT, whole and fast: classify and embed images, train and evaluate, with timm's names.

`import convit as timm` is enough for timm's own snippets. Start reading at `convit.model.convit`. Importing this
package imports nothing heavy: each name below is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convit import data
    from convit.inference import Classifier, Embedder, Prediction
    from convit.model import VARIANTS, ConViT, ConViTConfig
    from convit.optimization import optimize
    from convit.weights import create_model, is_model, list_models, list_pretrained, load_model

__version__ = "0.1.0"

_HOMES = {
    "VARIANTS": "convit.model",
    "Classifier": "convit.inference",
    "ConViT": "convit.model",
    "ConViTConfig": "convit.model",
    "Embedder": "convit.inference",
    "Prediction": "convit.inference",
    "create_model": "convit.weights",
    "is_model": "convit.weights",
    "list_models": "convit.weights",
    "list_pretrained": "convit.weights",
    "load_model": "convit.weights",
    "optimize": "convit.optimization",
}

__all__ = [
    "VARIANTS",
    "Classifier",
    "ConViT",
    "ConViTConfig",
    "Embedder",
    "Prediction",
    "create_model",
    "data",
    "is_model",
    "list_models",
    "list_pretrained",
    "load_model",
    "optimize",
]


def __getattr__(name: str) -> Any:
    if name == "data":
        return importlib.import_module("convit.data")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'convit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
