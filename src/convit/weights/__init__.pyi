from .adapt import adapt_weights
from .factory import create_model, load_model
from .fetch import fetch_weights, is_cached
from .files import load_weights, save_weights
from .labels import class_names, class_wnids
from .progress import show_progress
from .registry import (
    get_pretrained_cfg,
    is_model,
    is_model_pretrained,
    list_models,
    list_pretrained,
    model_entrypoint,
)
from .weight_sets import WEIGHT_SETS, WeightSet, default_weight_set, find_weight_set

__all__ = [
    "WEIGHT_SETS",
    "WeightSet",
    "adapt_weights",
    "class_names",
    "class_wnids",
    "create_model",
    "default_weight_set",
    "fetch_weights",
    "find_weight_set",
    "get_pretrained_cfg",
    "is_cached",
    "is_model",
    "is_model_pretrained",
    "list_models",
    "list_pretrained",
    "load_model",
    "load_weights",
    "model_entrypoint",
    "save_weights",
    "show_progress",
]
