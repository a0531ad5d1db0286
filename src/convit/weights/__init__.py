"""Pretrained sets: find, fetch, check, read and adapt them, and make models of them by name.

The room promises: a state dict of timm or of the authors loads as it is, and ours loads there; a file is used only when
it is complete and has the hash that it must have; no pickle can run code; a missing network, a full disk and a file
that does not fit are said in one line with what to do. Start reading at `factory.py` (`create_model`), which calls
`weight_sets.py` (the table), `fetch.py` (`hub.py`, `download.py`), `files.py` and `adapt.py`.

The table and the labels need no torch; each name below is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convit.lazy import import_when_used

if TYPE_CHECKING:
    from convit.weights.adapt import adapt_weights
    from convit.weights.factory import create_model, load_model
    from convit.weights.fetch import fetch_weights, is_cached
    from convit.weights.files import load_weights, save_weights
    from convit.weights.labels import class_names, class_wnids
    from convit.weights.progress import show_progress
    from convit.weights.registry import is_model, list_models, list_pretrained
    from convit.weights.weight_sets import WEIGHT_SETS, WeightSet, default_weight_set, find_weight_set

_HOMES = {
    "WEIGHT_SETS": ".weight_sets",
    "WeightSet": ".weight_sets",
    "adapt_weights": ".adapt",
    "class_names": ".labels",
    "class_wnids": ".labels",
    "create_model": ".factory",
    "default_weight_set": ".weight_sets",
    "fetch_weights": ".fetch",
    "find_weight_set": ".weight_sets",
    "is_cached": ".fetch",
    "is_model": ".registry",
    "list_models": ".registry",
    "list_pretrained": ".registry",
    "load_model": ".factory",
    "load_weights": ".files",
    "save_weights": ".files",
    "show_progress": ".progress",
}

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

__getattr__, __dir__ = import_when_used(__name__, _HOMES)
