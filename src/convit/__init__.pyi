from . import data
from .finetuning.run import finetune
from .inference import Classifier, Embedder, Prediction
from .model import VARIANTS, ConViT, ConViTConfig
from .optimization import optimize
from .training.run import train
from .weights import create_model, is_model, list_models, list_pretrained, load_model

__version__: str

__all__ = [
    "VARIANTS",
    "Classifier",
    "ConViT",
    "ConViTConfig",
    "Embedder",
    "Prediction",
    "create_model",
    "data",
    "finetune",
    "is_model",
    "list_models",
    "list_pretrained",
    "load_model",
    "optimize",
    "train",
]
