"""Which file a model's weights came from."""

from __future__ import annotations

from pathlib import Path

from convit.inference.predicting import DEFAULT_MODEL
from convit.weights.fetch import fetch_hub_file, fetch_weights
from convit.weights.files import weights_file
from convit.weights.hub import parse_repo
from convit.weights.weight_sets import find_weight_set


def find_weights_used(model: str | None, weights: str | Path | None) -> Path:
    """Find the file that `create_model` and `load_model` read for these arguments; it is on this machine by then.

    Args:
        model: name of a weight set, variant, hub repository ("hf-hub:owner/name") or folder ("local-dir:path"); None
            for the default.
        weights: a local file, or a folder with one, which takes the named weights' place.

    Returns:
        The file.

    Raises:
        As `create_model`.
    """
    if weights is not None:
        return weights_file(Path(weights).expanduser())
    scheme, _, rest = (model or DEFAULT_MODEL).partition(":")
    if scheme in ("hf-hub", "hf_hub"):
        return fetch_hub_file(parse_repo(rest))
    if scheme == "local-dir":
        return weights_file(Path(rest))
    return fetch_weights(find_weight_set(model or DEFAULT_MODEL))
