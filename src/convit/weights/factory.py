"""Models by name: timm's registry calls, with pretrained weights found, fetched, checked and adapted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from convit.model import ConViT, ConViTConfig, FeatureExtractor
from convit.weights.adapt import adapt_weights
from convit.weights.card import PROVENANCE, make_card
from convit.weights.resolving import Plan, read_file, resolve


@overload
def create_model(
    model_name: str, pretrained: bool = ..., *timm: Any, features_only: Literal[False] = ..., **options: Any
) -> ConViT: ...
@overload
def create_model(
    model_name: str, pretrained: bool = ..., *timm: Any, features_only: Literal[True], **options: Any
) -> FeatureExtractor: ...
def create_model(
    model_name: str,
    pretrained: bool = False,
    pretrained_cfg: str | Mapping[str, Any] | Any | None = None,
    pretrained_cfg_overlay: Mapping[str, Any] | None = None,
    checkpoint_path: str | Path | None = None,
    cache_dir: str | Path | None = None,
    scriptable: bool | None = None,
    exportable: bool | None = None,
    no_jit: bool | None = None,
    *,
    pretrained_strict: bool = True,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    feature_cls: str | Callable[..., Any] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    hybrid_backbone: nn.Module | None = None,
    **config_overrides: Any,
) -> Any:
    """Create a model by name, with timm's arguments and meaning.

    Differs from timm: position embeddings are resampled to the `img_size` asked for; a `checkpoint_path` is adapted as
    pretrained weights are, in whose place it is loaded, and decides channels, classes and size where the caller does
    not.

    Args:
        model_name: a variant ("convit_base", for its default weights), a weight set ("convit_base.fb_in1k"), a
            timm-style hub repository ("hf-hub:owner/name[@revision]") or a folder of that form ("local-dir:path").
        pretrained: loads the weights that the name stands for; else they are random.
        pretrained_cfg: the tag of a weight set ("fb_in1k"), or timm's description of weights in place of the published
            ones, as a dict or as its `PretrainedCfg`: where they are (state_dict, file, hf_hub_id or url, the first
            that is there), their num_classes and input_size, which the model takes over, and the preprocessing.
        pretrained_cfg_overlay: changes single keys of that description.
        checkpoint_path: loads the weights of a local file or folder instead; "" as None.
        cache_dir: where fetched files are kept; None for the usual caches.
        scriptable: must not be true: TorchScript is not supported.
        exportable: accepted, as is `no_jit`: every model can be exported, and none holds scripted layers.
        no_jit: see `exportable`.
        pretrained_strict: refuses weights whose names are not the model's; else see `adapt_weights`.
        features_only: gives a `FeatureExtractor`, which returns feature maps.
        out_indices: blocks whose maps it returns; None for the last three.
        feature_cls: what is called with the model and `out_indices`; "getter" or None for a `FeatureExtractor`.
        device: where the model is put.
        dtype: what its floating-point parameters become.
        hybrid_backbone: a CNN under the patch embedding, see `HybridEmbedding`.
        config_overrides: fields of `ConViTConfig`: num_classes (0: no head), in_chans, img_size, global_pool,
            drop_path_rate, …; None is ignored.

    Returns:
        The model, in training mode as PyTorch makes it; `pretrained_cfg` tells its preprocessing, classes and origin.

    Raises:
        ValueError: the name is unknown (the message names the closest), has no public weights, or the weights do not
            fit; or an argument has a value that no ConViT can have.
        TypeError: an override is not a field of `ConViTConfig`, or `pretrained_cfg` has a key that timm's has not.
        FileNotFoundError: there is no such file or folder.
        ConnectionError: the weights can be had from nowhere.
        PermissionError: the cache cannot be written.
        OSError: the disk is full, or a file has another hash than it must have.

    >>> create_model("convit_nano_patch4_32", num_classes=3).eval()(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 3])
    """
    del exportable, no_jit
    if scriptable:
        raise ValueError("scriptable is True, but TorchScript is not supported; use torch.export or torch.jit.trace")
    build_features = _feature_class(feature_cls)
    plan = resolve(model_name, pretrained_cfg, pretrained_cfg_overlay, Path(cache_dir) if cache_dir else None)
    tensors: dict[str, Tensor] | None = None
    if checkpoint_path:
        file = Path(checkpoint_path)
        plan = plan.from_source({"source": "file", "file": str(file)}, lambda: file)
    if pretrained or checkpoint_path:
        tensors, plan = plan.read()
    overrides = {**plan.wanted, **{name: value for name, value in config_overrides.items() if value is not None}}
    model = _build(plan, tensors, hybrid_backbone, overrides, strict=pretrained_strict).to(device=device, dtype=dtype)
    if not features_only:
        return model
    return build_features(model, out_indices=min(3, len(model.blocks)) if out_indices is None else out_indices)


def load_model(
    path: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    hybrid_backbone: nn.Module | None = None,
    **config_overrides: Any,
) -> ConViT:
    """Rebuild the model that a file holds, in evaluation mode; further arguments are those of `create_model`.

    Args:
        path: a file that `save_weights` wrote, a timm-style folder, or a state dict of one of the variants with timm's
            or the authors' names.
        device: where the model is put.
        dtype: what its floating-point parameters become.
        hybrid_backbone: the CNN under the patch embedding, for a model that was saved with one.
        config_overrides: num_classes, img_size, …

    Raises:
        ValueError: the file does not say which model it holds and is none of the variants, it is damaged, or it does
            not fit the overrides.
        FileNotFoundError: there is no such file.
        TypeError: an override is not a field of `ConViTConfig`.
    """
    tensors, plan = read_file(Path(path))
    overrides = {name: value for name, value in config_overrides.items() if value is not None}
    return _build(plan, tensors, hybrid_backbone, overrides).to(device=device, dtype=dtype).eval()


def _feature_class(feature_cls: str | Callable[..., Any] | None) -> Callable[..., Any]:
    if feature_cls is None or feature_cls == "getter":
        return FeatureExtractor
    if isinstance(feature_cls, str):
        raise ValueError(
            f"feature_cls is {feature_cls!r}, but only 'getter' has a class here; pass one of timm's classes itself, "
            "such as timm.models.FeatureHookNet"
        )
    return feature_cls


def _without_weights(config: ConViTConfig) -> ConViT:
    """A model whose weights are loaded next: drawing 86 million of them first would cost seconds."""
    with torch.device("meta"):
        model = ConViT(config, initialize=False)
    # not `to_empty`, which asks the meta device for the empty tensors, and that imports SymPy
    model = model._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu"))
    model.reset_classifier(config.num_classes)  # the file's head may not be the one wanted
    return model


def _build(
    plan: Plan,
    tensors: dict[str, Tensor] | None,
    hybrid_backbone: nn.Module | None,
    overrides: Mapping[str, Any],
    *,
    strict: bool = True,
) -> ConViT:
    config = plan.config.replace(**overrides)
    all_loaded = tensors and strict and not hybrid_backbone
    model = _without_weights(config) if all_loaded else ConViT(config, hybrid_backbone)
    description = plan.description
    if tensors is None:  # random weights know no classes and come from nowhere
        description = {key: value for key, value in description.items() if key not in ("classes", *PROVENANCE)}
    else:
        source = plan.origin.get("file") or plan.origin.get("hf_hub_id") or plan.architecture
        grid = plan.config.grid_size
        model.load_state_dict(adapt_weights(tensors, model, source_grid=grid, source_name=str(source), strict=strict))
    model.pretrained_cfg = make_card(plan.architecture, config, description, plan.origin)
    return model
