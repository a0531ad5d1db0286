from .adapt import adapt_weights
from .factory import create_model, load_model
from .fetch import fetch_weights, is_cached
from .files import load_weights, save_weights
from .labels import class_names, class_wnids
from .progress import show_progress
from .weight_sets import (
    WEIGHT_SETS,
    WeightSet,
    default_weight_set,
    find_weight_set,
    is_model,
    list_models,
    list_pretrained,
)

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
    "is_cached",
    "is_model",
    "list_models",
    "list_pretrained",
    "load_model",
    "load_weights",
    "save_weights",
    "show_progress",
]
