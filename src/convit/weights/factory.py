"""Models by name: timm's registry calls, with pretrained weights found, fetched, checked and adapted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from convit.model import VARIANTS, ConViT, ConViTConfig, FeatureExtractor
from convit.weights.adapt import adapt_weights, infer_config, recognize
from convit.weights.card import PROVENANCE, describe_weight_set, known_classes, make_card, read_hub_config
from convit.weights.fetch import fetch_hub_file, fetch_weights
from convit.weights.files import check_metadata, load_weights
from convit.weights.hub import parse_repo
from convit.weights.weight_sets import check_model_name, default_weight_set, find_weight_set

_TRAINING_ONLY = ("drop_rate", "pos_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate")


@dataclass(frozen=True)
class _Plan:
    """What a name stands for: architecture, configuration, what is known of its weights, and their file if wanted."""

    architecture: str
    config: ConViTConfig
    description: dict[str, Any] = field(default_factory=dict[str, Any])
    origin: dict[str, Any] = field(default_factory=dict[str, Any])
    path: Path | None = None


@overload
def create_model(
    model_name: str, pretrained: bool = ..., *, features_only: Literal[False] = ..., **options: Any
) -> ConViT: ...
@overload
def create_model(
    model_name: str, pretrained: bool = ..., *, features_only: Literal[True], **options: Any
) -> FeatureExtractor: ...
def create_model(
    model_name: str,
    pretrained: bool = False,
    *,
    checkpoint_path: str | Path | None = None,
    cache_dir: str | Path | None = None,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    hybrid_backbone: nn.Module | None = None,
    **config_overrides: Any,
) -> ConViT | FeatureExtractor:
    """Create a model by name, with timm's arguments and meaning.

    Differs from timm: position embeddings are resampled to the `img_size` asked for; a `checkpoint_path` is adapted to
    other channels, classes and sizes as pretrained weights are, and where the caller names none of those, the file
    decides them; a `checkpoint_path` takes the place of pretrained weights instead of being loaded over them.

    Args:
        model_name: a variant ("convit_base", for its default weights), a weight set ("convit_base.fb_in1k"), a
            timm-style hub repository ("hf-hub:owner/name" or "hf-hub:owner/name@revision") or a folder of that form
            ("local-dir:path").
        pretrained: loads the weights that the name stands for; else they are random.
        checkpoint_path: loads the weights of a local file or folder instead.
        cache_dir: where fetched files are kept; None for the usual caches.
        features_only: gives a `FeatureExtractor`, which returns feature maps.
        out_indices: blocks whose maps it returns; None for the last three.
        device: where the model is put.
        dtype: what its floating-point parameters become.
        hybrid_backbone: a CNN under the patch embedding, see `HybridEmbedding`.
        config_overrides: fields of `ConViTConfig`: num_classes (0: no head), in_chans, img_size, global_pool,
            drop_path_rate, …; None is ignored.

    Returns:
        The model, in training mode as PyTorch makes it; `pretrained_cfg` tells its preprocessing, classes and origin.

    Raises:
        ValueError: the name is unknown (the message names the closest), has no public weights, or the weights do not
            fit.
        TypeError: an override is not a field of `ConViTConfig`.
        FileNotFoundError: there is no such file or folder.
        ConnectionError: the weights can be had from nowhere.
        PermissionError: the cache cannot be written.
        OSError: the disk is full, or a file has another hash than it must have.

    >>> create_model("convit_nano_patch4_32", num_classes=3).eval()(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 3])
    """
    folder = None if cache_dir is None else Path(cache_dir)
    plan = _resolve(model_name, wants_weights=pretrained and checkpoint_path is None, cache_dir=folder)
    tensors: dict[str, Tensor] | None = None
    if checkpoint_path is not None:
        tensors, description = load_weights(checkpoint_path)
        plan = _with_checkpoint(plan, Path(checkpoint_path), tensors, description)
    elif plan.path is not None:
        tensors, description = load_weights(plan.path)
        if "config" in description:  # where the file describes itself, it knows better
            known = {**plan.description, **description}
            plan = replace(plan, config=_inference_config(description), description=known)
        elif "config" in plan.description:
            check_metadata(plan.description, tensors, f"the config.json of {model_name}")
    model = _build(plan, tensors, hybrid_backbone, config_overrides).to(device=device, dtype=dtype)
    return FeatureExtractor(model, out_indices) if features_only else model


def load_model(
    path: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    hybrid_backbone: nn.Module | None = None,
    **config_overrides: Any,
) -> ConViT:
    """Rebuild the model that a file holds, whatever its configuration; options are those of `create_model`.

    Args:
        path: a file that `save_weights` wrote, a timm-style folder, or a state dict of one of the variants with timm's
            or the authors' names.
        device: where the model is put.
        dtype: what its floating-point parameters become.
        hybrid_backbone: the CNN under the patch embedding, for a model that was saved with one.
        config_overrides: num_classes, img_size, …

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: the file does not say which model it holds and is none of the variants, it is damaged, or it does
            not fit the overrides.
        FileNotFoundError: there is no such file.
        TypeError: an override is not a field of `ConViTConfig`.
    """
    tensors, description = load_weights(path)
    architecture = description.get("architecture") or recognize(tensors)
    if "config" in description:
        plan = _Plan(architecture or "convit", _inference_config(description), description)
    elif architecture is not None:
        plan = _resolve(architecture, wants_weights=False, cache_dir=None)
    else:
        raise ValueError(
            f"{path} does not say which model it holds, and its shapes are none of {', '.join(VARIANTS)}; "
            "name the architecture: create_model('…', checkpoint_path=…)"
        )
    plan = _with_checkpoint(plan, Path(path), tensors, description)
    return _build(plan, tensors, hybrid_backbone, config_overrides).to(device=device, dtype=dtype).eval()


def _resolve(name: str, *, wants_weights: bool, cache_dir: Path | None) -> _Plan:
    scheme, _, rest = name.partition(":")
    if scheme in ("hf-hub", "hf_hub"):
        return _resolve_hub(rest, wants_weights=wants_weights, cache_dir=cache_dir)
    if scheme == "local-dir":
        return _resolve_folder(Path(rest), wants_weights=wants_weights)
    architecture, _, tag = name.partition(".")
    check_model_name(name)
    found = find_weight_set(name) if tag or wants_weights else default_weight_set(architecture)
    config = VARIANTS[architecture].config
    if found is None:
        return _Plan(architecture, config)
    origin = {"tag": found.tag, "source": found.source, "hf_hub_id": found.hub_repo, "url": found.url}
    channels, height, width = found.input_size
    config = config.replace(num_classes=found.num_classes, in_chans=channels, img_size=(height, width))
    path = fetch_weights(found, cache_dir) if wants_weights else None
    return _Plan(architecture, config, describe_weight_set(found), origin, path)


def _resolve_hub(text: str, *, wants_weights: bool, cache_dir: Path | None) -> _Plan:
    repo = parse_repo(text)
    description = read_hub_config(fetch_hub_file(repo, ("config.json",), cache_dir))
    if not description:
        raise ValueError(f"{repo.name} is not a timm-style hub repository: its config.json names no architecture")
    if "classes" not in description and (names := known_classes(repo.name)) is not None:
        description["classes"] = names
    path = fetch_hub_file(repo, cache_dir=cache_dir) if wants_weights else None
    origin = {"tag": description.get("tag"), "source": "hf-hub", "hf_hub_id": text}
    return _Plan(description["architecture"], ConViTConfig.from_dict(description["config"]), description, origin, path)


def _resolve_folder(folder: Path, *, wants_weights: bool) -> _Plan:
    _, description = load_weights(folder)
    if not description:
        raise ValueError(
            f"{folder} has no config.json that names an architecture; use create_model('…', checkpoint_path='{folder}')"
        )
    origin = {"tag": description.get("tag"), "source": "local-dir", "file": str(folder)}
    config = ConViTConfig.from_dict(description["config"])
    return _Plan(description["architecture"], config, description, origin, folder if wants_weights else None)


def _with_checkpoint(plan: _Plan, path: Path, tensors: dict[str, Tensor], description: dict[str, Any]) -> _Plan:
    """The plan for a caller's own file in place of the weights that the name stands for."""
    origin = {"source": "file", "file": str(path)}
    if "config" in description:
        found = description.get("architecture")
        if found is not None and found != plan.architecture:
            raise ValueError(f"{path} holds a {found}, but a {plan.architecture} was asked for; name {found} instead")
        return replace(plan, config=_inference_config(description), description=description, origin=origin)
    # A bare state dict says nothing of its training: the variant's usual preprocessing is the best guess. A thousand
    # classes are ImageNet's, as in the released files; ten could be anybody's.
    unknown = PROVENANCE if plan.origin.get("source") == "hub" else ("classes", *PROVENANCE)
    known = {key: value for key, value in plan.description.items() if key not in unknown}
    config = infer_config(tensors, plan.config)
    return replace(plan, config=config, description=known, origin=origin)


def _inference_config(description: dict[str, Any]) -> ConViTConfig:
    """The configuration in a file without its training's drop rates: those are the next caller's choice, as in timm."""
    return ConViTConfig.from_dict(
        {key: value for key, value in description["config"].items() if key not in _TRAINING_ONLY}
    )


def _without_weights(config: ConViTConfig) -> ConViT:
    """A model whose weights are loaded next: drawing 86 million of them first would cost seconds."""
    with torch.device("meta"):
        model = ConViT(config, initialize=False)
    # not `to_empty`, which asks the meta device for the empty tensors, and that imports SymPy
    model = model._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu"))
    model.reset_classifier(config.num_classes)  # the file's head may not be the one wanted
    return model


def _build(
    plan: _Plan, tensors: dict[str, Tensor] | None, hybrid_backbone: nn.Module | None, overrides: dict[str, Any]
) -> ConViT:
    config = plan.config.replace(**{name: value for name, value in overrides.items() if value is not None})
    model = _without_weights(config) if tensors and not hybrid_backbone else ConViT(config, hybrid_backbone)
    description = plan.description
    if tensors is None:  # random weights know no classes and come from nowhere
        description = {key: value for key, value in description.items() if key not in ("classes", *PROVENANCE)}
    else:
        source = plan.origin.get("file") or plan.origin.get("hf_hub_id") or plan.architecture
        model.load_state_dict(adapt_weights(tensors, model, source_grid=plan.config.grid_size, source_name=source))
    model.pretrained_cfg = make_card(plan.architecture, config, description, plan.origin)
    return model
