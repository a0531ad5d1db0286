"""What is known of weights: the description that travels inside files, and `model.pretrained_cfg` made from it.

The description is a JSON object: architecture, config (all fields of `ConViTConfig`), classes (names in index order),
input_size (channels, height, width), mean, std, interpolation, crop_pct, crop_mode, trained_on, license, origin, and
calibration (the temperature that was fitted for exactly these weights, and what it did).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convit.output.text import short
from convit.transforms.settings import TransformSettings
from convit.weights.labels import temperature_of
from convit.weights.weight_sets import WeightSet

if TYPE_CHECKING:
    from convit.model import ConViT, ConViTConfig

# what images need where nothing else is known; the size follows the model
DEFAULT_PREPROCESSING = {name: value for name, value in TransformSettings().to_dict().items() if name != "input_size"}
PROVENANCE = ("trained_on", "license", "origin")
_SOURCES = ("url", "file", "hf_hub_id", "hf_hub_filename", "source")
_ALWAYS = ("pool_size", "first_conv", "classifier")  # which timm writes even where they are None


class PretrainedCfg(dict[str, Any]):
    """What is known of weights, by key and, as in timm, by attribute."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"nothing is known of {name!r}; there are {', '.join(self)}") from None

    def to_dict(self, remove_source: bool = False, remove_null: bool = True) -> dict[str, Any]:
        """A plain dict, without what says where the weights are, and without what is None, where that is asked for."""
        return {
            key: value
            for key, value in self.items()
            if not (remove_source and key in _SOURCES) and (value is not None or not remove_null or key in _ALWAYS)
        }


def describe_weight_set(weight_set: WeightSet) -> dict[str, Any]:
    """Describe a weight set of the table; without "config", which the architecture gives."""
    names = weight_set.label_names
    return {
        "architecture": weight_set.architecture,
        "tag": weight_set.tag,
        "num_classes": weight_set.num_classes,
        **weight_set.preprocessing.to_dict(),
        **{key: getattr(weight_set, key) for key in PROVENANCE},
        **({} if names is None else {"classes": list(names)}),
    }


def describe_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """Describe what a card (`make_card`, timm's `pretrained_cfg`) says of preprocessing, classes and provenance."""
    names = card.get("label_names") or card.get("labels")
    kept = (*DEFAULT_PREPROCESSING, *PROVENANCE)
    return {
        **{key: card[key] for key in kept if card.get(key) is not None},
        **({"classes": list(names)} if names else {}),
    }


def fields_of_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """Read the fields of a `ConViTConfig` that a card fixes: in_chans, img_size and num_classes."""
    channels, *size = card.get("input_size") or (None,)
    found = {"in_chans": channels, "img_size": tuple(size) or None, "num_classes": card.get("num_classes")}
    return {name: value for name, value in found.items() if value is not None}


def card_of(weight_set: WeightSet) -> dict[str, Any]:
    """Make the card of a model that has these very weights."""
    description = describe_weight_set(weight_set)
    return make_card(weight_set.architecture, weight_set.config, description, origin_of(weight_set))


def origin_of(weight_set: WeightSet) -> dict[str, Any]:
    """Say where the weights of a set come from, in the keys of a card."""
    found = weight_set
    return {"tag": found.tag, "source": found.source, "hf_hub_id": found.hub_repo, "url": found.url}


def describe(model: ConViT) -> dict[str, Any]:
    """Describe a model so that `load_model` can rebuild it: its configuration, and what `pretrained_cfg` knows."""
    card = {**DEFAULT_PREPROCESSING, **model.pretrained_cfg}
    config = model.config
    description: dict[str, Any] = {
        "architecture": card.get("architecture"),
        "config": config.to_dict(),
        "input_size": [config.in_chans, config.image_height, config.image_width],
        **{key: card[key] for key in DEFAULT_PREPROCESSING},
        **{key: card.get(key) for key in PROVENANCE},
    }
    names = card.get("label_names")
    if names is not None and len(names) == config.num_classes:
        description["classes"] = list(names)
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in description.items()
        if value is not None
    }


def make_card(
    architecture: str, config: ConViTConfig, description: Mapping[str, Any], origin: Mapping[str, Any]
) -> dict[str, Any]:
    """Make `model.pretrained_cfg`: timm's keys, and all that is needed downstream.

    `config` is that of the model as built, `origin` tells tag, source, hf_hub_id, url and file; `label_names` is None
    unless the head has exactly the described classes.
    """
    names = description.get("classes")
    kept_head = description.get("config", {}).get("num_classes", config.num_classes) == config.num_classes
    preprocessing = {key: description.get(key, default) for key, default in DEFAULT_PREPROCESSING.items()}
    return {
        "architecture": architecture,
        "tag": None,
        "source": None,
        "hf_hub_id": None,
        "url": None,
        "file": None,
        **origin,
        "num_classes": config.num_classes,
        "label_names": tuple(names) if names is not None and len(names) == config.num_classes else None,
        "input_size": (config.in_chans, config.image_height, config.image_width),
        "fixed_input_size": False,
        **{key: tuple(value) if isinstance(value, list) else value for key, value in preprocessing.items()},
        # of these weights and this head alone: `describe` does not hand it on to what is saved of the model
        "calibration": description.get("calibration") if kept_head else None,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        **{key: description.get(key) for key in PROVENANCE},
    }


def check_description(description: Mapping[str, Any]) -> None:
    """Refuse by a `ValueError` a description whose values have other types or ranges than `describe` writes."""
    for key in ("architecture", "tag", *PROVENANCE):
        if not isinstance(description.get(key), str | None):
            raise ValueError(f"its {key} is {short(description[key])}, but must be text")
    if description.get("calibration"):
        temperature_of(description["calibration"])
    if not isinstance(config := description.get("config", {}), dict):
        raise ValueError(f"its config is {short(config)}, but must be an object")
    names = description.get("classes", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"its classes are {short(names)}, but must be a list of names")
    size = description.get("input_size") or [3, 224, 224]
    # a model of other images than gray and RGB ones has no preprocessing of ours
    if not isinstance(size, list) or not size or size[0] in (1, 3):
        TransformSettings.from_card(description, input_size=size)
