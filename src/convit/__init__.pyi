from . import data
from .finetuning.run import finetune
from .inference import Classifier, Embedder, Prediction
from .model import VARIANTS, ConViT, ConViTConfig
from .optimization import optimize
from .training.run import train
from .weights import (
    create_model,
    get_pretrained_cfg,
    is_model,
    is_model_pretrained,
    list_models,
    list_pretrained,
    load_model,
    model_entrypoint,
    save_weights,
)

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
    "get_pretrained_cfg",
    "is_model",
    "is_model_pretrained",
    "list_models",
    "list_pretrained",
    "load_model",
    "model_entrypoint",
    "optimize",
    "save_weights",
    "train",
]
