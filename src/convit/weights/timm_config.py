"""timm's `config.json`, from which timm and transformers build a model: read it, and write it beside weights.

timm reads such a folder as `local-dir:FOLDER`, transformers as a path, through its wrapper of timm; both need the
weights under the name `model.safetensors`. What timm's ConViT cannot compute is never described to it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from convit.model.config import ConViTConfig
from convit.model.variants import VARIANTS, find_variant
from convit.output.files import explained, write_file
from convit.output.text import json_text, read_json, short
from convit.transforms.settings import TransformSettings
from convit.weights.card import DEFAULT_PREPROCESSING, check_description, describe_card, fields_of_card
from convit.weights.header import read_header, read_metadata
from convit.weights.labels import numbered_classes
from convit.weights.weight_sets import WEIGHT_SETS, closest

CONFIG_FILE, MODEL_FILE = "config.json", "model.safetensors"
REGISTERED = ("convit_tiny", "convit_small", "convit_base")  # in timm
# keyword arguments of timm's ConViT that shape it; the number of classes stands elsewhere, drop rates are training's
_MODEL_ARGS = (
    "img_size", "patch_size", "in_chans", "global_pool", "embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias",
    "local_up_to_layer", "locality_strength", "use_pos_embed",
)  # fmt: skip

_log = logging.getLogger(__name__)


def why_not_timm(config: ConViTConfig, tensor_names: Iterable[str] = ()) -> str | None:
    """Return why timm's ConViT cannot compute a model, whose tensors' names show a CNN under it; None if it can."""
    height, width = config.grid_size
    if any(name.startswith("patch_embed.backbone.") for name in tensor_names):
        return "a config.json cannot hold the CNN under its patch embedding"
    if height != width:
        return f"timm's ConViT takes a grid of patches for square, but this one has {height} x {width}"
    if config.image_height % config.patch_size or config.image_width % config.patch_size:
        return f"timm's ConViT pads no images, but {config.image_height} x {config.image_width} pixels need it"
    if config.global_pool == "avg" and not config.has_class_token:
        return "timm's ConViT leaves the first patch out of the average where no block sees a class token"
    return None


def timm_arguments(config: ConViTConfig, architecture: str | None = None) -> tuple[str, dict[str, Any]]:
    """Return a name that timm has registered and the `model_args` with which it makes a model of this configuration.

    >>> timm_arguments(VARIANTS["convit_nano_patch4_32"].config)[1]["img_size"]
    32
    """
    heads = {VARIANTS[name].config.num_heads: name for name in REGISTERED}
    name = architecture if architecture in REGISTERED else heads.get(config.num_heads, REGISTERED[0])
    return name, {**{key: getattr(config, key) for key in _MODEL_ARGS}, "img_size": config.image_height}


def timm_config(description: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a model as timm's `save_for_hf` does; `why_not_timm` must have nothing against it.

    Args:
        description: as `convit.weights.card.describe` makes it, with "config".

    Returns:
        What `config.json` holds. Classes without names are numbered, or else timm's readers would take a thousand of
        them for ImageNet's; "torch_dtype" keeps transformers from computing in the precision of the file.
    """
    config = ConViTConfig.from_dict(description["config"])
    name, model_args = timm_arguments(config, description.get("architecture"))
    size = [config.in_chans, config.image_height, config.image_width]
    preprocessing = {key: description.get(key) or default for key, default in DEFAULT_PREPROCESSING.items()}
    if config.in_chans in (1, 3):  # one mean per channel
        preprocessing = TransformSettings.from_card(description, input_size=size).to_dict()
    classes = description.get("classes") or numbered_classes(config.num_classes)
    provenance = {
        "license": description.get("license"),
        "description": description.get("trained_on"),
        "notes": [description["origin"]] if description.get("origin") else None,
    }
    return {
        "architecture": name,
        "num_classes": config.num_classes,
        "num_features": config.dim,
        **({"global_pool": config.global_pool} if config.global_pool else {}),
        **({"label_names": list(classes)} if classes else {}),
        "model_args": model_args,
        "torch_dtype": "float32",
        "pretrained_cfg": {
            **({"tag": description["tag"]} if description.get("tag") else {}),
            "custom_load": False,
            **preprocessing,
            "input_size": size,
            "fixed_input_size": True,
            "num_classes": config.num_classes,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
            **{key: value for key, value in provenance.items() if value},
        },
    }


def accompany(file: Path) -> None:
    """Make the folder of a weight file one that timm and transformers read.

    Writes `config.json` for what `save_weights` wrote, and a link `model.safetensors` where the file has another name.
    Where timm's ConViT cannot compute the model, a `config.json` that is there goes, and a warning says why. Raises
    `OSError` if the folder cannot be written.
    """
    description = read_metadata(file)
    config, link = file.with_name(CONFIG_FILE), file.with_name(MODEL_FILE)
    reason = why_not_timm(ConViTConfig.from_dict(description["config"]), read_header(file))
    if reason is not None:
        with explained(config):
            config.unlink(missing_ok=True)
        _log.warning("%s has no config.json for timm and transformers: %s; convit reads it all the same", file, reason)
        return
    write_file(config, json_text(timm_config(description)), overwrite=True)
    if link == file or (link.is_symlink() and link.readlink().name == file.name):
        return
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(file.name)
    except OSError as error:  # a file system without links
        _log.warning("%s is no link to %s (%s); transformers needs a copy of that name", link, file.name, error)


def read_hub_config(path: Path) -> dict[str, Any]:
    """Read the `config.json` of a timm-style hub repository or folder as a description.

    Empty where the file names no architecture, as other libraries' `config.json`.

    Raises:
        ValueError: the file is not a JSON object, names an architecture that is not a ConViT, or says of it what no
            ConViT has.
    """
    content = read_json(path, "copy or fetch it again")
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a JSON object; copy or fetch it again")
    if "architecture" not in content:
        return {}
    architecture = content["architecture"]
    if not isinstance(architecture, str) or architecture not in VARIANTS:
        shown = short(architecture)
        raise ValueError(
            f"{path} describes the architecture {shown}, which is not a ConViT; {closest(shown, VARIANTS)}"
        )
    try:
        return _translate(architecture, content, VARIANTS[architecture].config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not as timm writes it ({error}); copy or fetch it again") from error


def _translate(architecture: str, content: Mapping[str, Any], config: ConViTConfig) -> dict[str, Any]:
    card: dict[str, Any] = content.get("pretrained_cfg", content)  # older files are that dict itself
    options = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in (content.get("model_args") or {}).items()
    }
    beside = {"num_classes": content["num_classes"]} if content.get("num_classes") is not None else {}
    config = config.replace(**{**fields_of_card({**card, **beside}), **options})
    names = _class_names(content, card) or _known_names(architecture, card.get("tag"), config)
    description = {
        "architecture": find_variant(config, first=architecture) or architecture,
        "config": config.to_dict(),
        "tag": card.get("tag"),
        **describe_card({**card, "label_names": names, "labels": None}),
    }
    check_description(description)
    if names and len(names) != config.num_classes:
        raise ValueError(f"it names {len(names)} classes, but num_classes is {config.num_classes}")
    return description


def _class_names(content: Mapping[str, Any], card: Mapping[str, Any]) -> list[Any]:
    """What the classes are called, in index order: timm keeps identifiers such as WordNet's, and words beside them."""
    found = content.get("label_names") or card.get("label_names") or card.get("labels") or []
    words = content.get("label_descriptions") or card.get("label_descriptions") or {}
    if isinstance(found, dict):  # names by number, or numbers by name
        numbered = all(isinstance(name, str) for name in found.values())
        pairs = [(int(key), value) if numbered else (value, key) for key, value in found.items()]
        found = [name for _, name in sorted(pairs)]
    return [words.get(name, name) if isinstance(name, str) else name for name in found]


def _known_names(architecture: str, tag: Any, config: ConViTConfig) -> list[str]:
    """Name the classes of a published set, whose `config.json` does not."""
    known = WEIGHT_SETS.get(f"{architecture}.{tag}")
    names = known.label_names if known is not None and known.num_classes == config.num_classes else None
    return list(names or ())
