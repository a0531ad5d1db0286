"""Entry points of `torch.hub`: every variant by its name, `create_model` for weight sets, `load_model` for files.

torch.hub.load("OWNER/convit", "convit_base", pretrained=True)
"""

import sys as _sys
from pathlib import Path as _Path

_sys.path.insert(0, str(_Path(__file__).parent / "src"))

from convit.model import VARIANTS as _VARIANTS
from convit.weights import create_model, load_model
from convit.weights import model_entrypoint as _model_entrypoint

# what a model and its weights need; `pip install convit` has the rest
dependencies = [
    "torch",
    "torchvision",
    "numpy",
    "PIL",
    "safetensors",
    "huggingface_hub",
    "filelock",
    "jaxtyping",
    "lazy_loader",
]

__all__ = ["create_model", "load_model"]

globals().update({name: _model_entrypoint(name) for name in _VARIANTS})
