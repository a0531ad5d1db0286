"""Which file a model's weights came from."""

from __future__ import annotations

from pathlib import Path

from convit.weights import files
from convit.weights.fetch import fetch_hub_file, fetch_weights
from convit.weights.hub import parse_repo
from convit.weights.weight_sets import find_weight_set

DEFAULT_MODEL = "convit_base.fb_in1k"


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
        return _in_folder(Path(weights).expanduser())
    scheme, _, rest = (model or DEFAULT_MODEL).partition(":")
    if scheme in ("hf-hub", "hf_hub"):
        return fetch_hub_file(parse_repo(rest))
    if scheme == "local-dir":
        return _in_folder(Path(rest))
    return fetch_weights(find_weight_set(model or DEFAULT_MODEL))


def _in_folder(path: Path) -> Path:
    return files._find_in_folder(path) if path.is_dir() else path
