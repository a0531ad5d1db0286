"""Which file a model's weights came from, and what tells these weights from all others."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from convit.inference.exported import read_config
from convit.inference.models import find_exported
from convit.inference.options import DEFAULT_MODEL
from convit.output.files import hash_file
from convit.weights.fetch import fetch_hub_file, fetch_weights
from convit.weights.files import weights_file
from convit.weights.hub import parse_repo
from convit.weights.weight_sets import find_weight_set, split_source

if TYPE_CHECKING:
    from convit.inference.predicting import Predictor

MODULE = "module:"


def find_weights_used(model: str | None, weights: str | Path | None) -> Path:
    """Find the file that `create_model` and `load_model` read for these arguments, and raise what they raise.

    It is on this machine by then. Of an exported folder it is the largest file, which holds the weights.
    """
    if weights is not None:
        return weights_file(weights)
    if model is not None and (folder := find_exported(model)) is not None:
        return max((folder / name for name in read_config(folder)[1].sha256), key=lambda file: file.stat().st_size)
    source, rest = split_source(model or DEFAULT_MODEL)
    if source == "hf-hub":
        return fetch_hub_file(parse_repo(rest))
    if source == "local-dir":
        return weights_file(rest)
    return fetch_weights(find_weight_set(model or DEFAULT_MODEL))


def made_by(predictor: Predictor, model: str | nn.Module | None, weights: str | Path | None) -> dict[str, Any]:
    """Everything besides the image that a result depends on, to tell whether stored results are up to date.

    Gives the predictor's `identity`, and "fingerprint": that of the `model` or the `weights` that it was made of.
    """
    return {**predictor.identity, "fingerprint": fingerprint_of(model, weights)}


def fingerprint_of(model: str | nn.Module | None, weights: str | Path | None) -> str:
    """Tell one set of weights from all others, whatever the precision it runs in; arguments as of `convit.Classifier`.

    Returns:
        "sha256:" and the hash of the weight file, or of the one that an exported folder was made from; for a module
        "module:" and the hash of its parameters and buffers.
    """
    if isinstance(model, str) and weights is None and (folder := find_exported(model)) is not None:
        source = read_config(folder)[0]["export"].get("source") or {}
        return f"sha256:{source.get('sha256') or hash_file(find_weights_used(model, None))}"
    if not isinstance(model, nn.Module):
        return f"sha256:{hash_file(find_weights_used(model, weights))}"
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(f"{name} {tuple(value.shape)} ".encode())
        found.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return f"{MODULE}{found.hexdigest()}"
