"""What a name stands for, and what the caller says of its weights: one plan that `create_model` builds a model from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convit.model.config import ConViTConfig
from convit.model.variants import VARIANTS
from convit.weights.adapt import infer_config, recognize
from convit.weights.card import (
    PROVENANCE,
    describe_card,
    describe_weight_set,
    fields_of_card,
    make_card,
    origin_of,
)
from convit.weights.download import default_folder, fetch_url
from convit.weights.fetch import fetch_hub_file, fetch_weights
from convit.weights.files import check_metadata, load_weights, tensors_in
from convit.weights.header import read_metadata
from convit.weights.hub import WEIGHT_FILES, Repo, parse_repo
from convit.weights.timm_config import CONFIG_FILE, MODEL_FILE, read_hub_config
from convit.weights.weight_sets import WEIGHT_SETS, check_model_name, default_weight_set, find_weight_set, split_source

if TYPE_CHECKING:
    from torch import Tensor

_TRAINING_ONLY = ("drop_rate", "pos_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate")
# keys of timm's `pretrained_cfg` that have one value for every ConViT, and others that are handed on as they are
_FIXED = {"custom_load": False, "label_offset": 0, "first_conv": "patch_embed.proj", "classifier": "head"}
_HANDED_ON = (
    *("test_input_size", "min_input_size", "test_crop_pct", "pool_size", "test_pool_size", "label_descriptions"),
    *("description", "origin_url", "paper_name", "paper_ids", "notes"),
)
_SOURCES = ("state_dict", "file", "hf_hub_id", "url")  # in timm's order


@dataclass(frozen=True)
class Plan:
    """What a name stands for.

    Attributes:
        architecture: the variant.
        config: that of the weights.
        description: what is known of the weights, as in weight files.
        origin: where they come from, in the keys of a card.
        fetch: brings their file or folder, or the tensors themselves; None if there are none.
        is_published: whether they are the weights that the name stands for; else the caller named a source.
        stated: what the caller's `pretrained_cfg` says, as `description`; it wins over what the weights say.
        wanted: what it says of the model, as fields of the configuration.
    """

    architecture: str
    config: ConViTConfig
    description: dict[str, Any] = field(default_factory=dict[str, Any])
    origin: dict[str, Any] = field(default_factory=dict[str, Any])
    fetch: Callable[[], Path | Mapping[str, Any]] | None = None
    is_published: bool = True
    stated: dict[str, Any] = field(default_factory=dict[str, Any])
    wanted: dict[str, Any] = field(default_factory=dict[str, Any])

    def from_source(self, origin: Mapping[str, Any], fetch: Callable[[], Path | Mapping[str, Any]]) -> Plan:
        """The plan for a source that the caller names in place of the weights that the name stands for."""
        # A bare state dict says nothing of its training: the variant's usual preprocessing is the best guess. A
        # thousand classes are ImageNet's, as in the released files; ten could be anybody's.
        unknown = PROVENANCE if self.origin.get("source") == "hub" else ("classes", *PROVENANCE)
        known = {key: value for key, value in self.description.items() if key not in unknown}
        return replace(self, description=known, origin=dict(origin), fetch=fetch, is_published=False)

    def with_card(self, card: Mapping[str, Any], cache_dir: Path | None) -> Plan:
        """The plan as the caller's `pretrained_cfg` changes it, key by key."""
        if not card:
            return self
        _check_card(card)
        stated, wanted = describe_card(card), fields_of_card(card)
        published = WEIGHT_SETS.get(f"{self.architecture}.{card.get('tag')}")
        if published is not None and (card.get("hf_hub_id"), card.get("file")) == (published.hub_repo, None):
            plan = _resolve_table(published.name, cache_dir)
        elif source := next((key for key in _SOURCES if card.get(key)), None):
            plan = self.from_source(*_source(source, card, cache_dir))
            plan = replace(plan, config=plan.config.replace(**wanted))
        else:
            plan = self
        return replace(
            plan,
            description={**plan.description, **stated},
            origin={**plan.origin, **{key: card[key] for key in _HANDED_ON if key in card}},
            stated=stated,
            wanted=wanted,
        )

    def read(self) -> tuple[dict[str, Tensor], Plan]:
        """Bring the weights and read them: the tensors by name, and the plan with what they say of themselves.

        Raises:
            ValueError: there are none, or they are not as described.
            Others: as `load_weights` and `fetch_weights`.
        """
        if self.fetch is None:
            raise ValueError(f"pretrained_cfg names no weights of {self.architecture}: none of {', '.join(_SOURCES)}")
        found = self.fetch()
        if isinstance(found, Path):
            # what else is in the hub's cache must not change what a name stands for
            tensors, said = load_weights(found, alone=self.is_published)
        else:
            tensors, said = tensors_in(found, "state_dict"), {}
        return tensors, self.told(tensors, said)

    def told(self, tensors: Mapping[str, Tensor], said: Mapping[str, Any]) -> Plan:
        """The plan with what the weights say of themselves, since they know it better."""
        if "config" in said:
            found, place = said.get("architecture"), self.origin.get("file", "the file")
            if not self.is_published and found is not None and found != self.architecture:
                raise ValueError(
                    f"{place} holds a {found}, but a {self.architecture} was asked for; name {found} instead"
                )
            known = {**(self.description if self.is_published else {}), **said, **self.stated}
            own = found if self.is_published and found is not None else self.architecture
            return replace(self, architecture=own, config=inference_config(said), description=known)
        if not self.is_published:
            return replace(self, config=infer_config(tensors, self.config))
        if "config" in self.description:
            check_metadata(self.description, tensors, f"the config.json of {self.architecture}")
        return self


def resolve(
    name: str, pretrained_cfg: Any = None, overlay: Mapping[str, Any] | None = None, cache_dir: Path | None = None
) -> Plan:
    """Find out what a name and timm's two arguments stand for; no weights are fetched yet.

    Arguments and errors are those of `create_model`.
    """
    source, rest = split_source(name)
    if source and pretrained_cfg:
        raise ValueError(f"{name} brings its own pretrained_cfg; change some of its keys with pretrained_cfg_overlay")
    architecture, card = rest.partition(".")[0], dict(overlay or {})
    if source == "hf-hub":
        plan = _resolve_hub(rest, cache_dir)
    elif source == "local-dir":
        plan = _resolve_folder(Path(rest))
    elif isinstance(pretrained_cfg, str) or not pretrained_cfg:
        plan = _resolve_table(f"{architecture}.{pretrained_cfg}" if pretrained_cfg else name, cache_dir)
    else:
        check_model_name(architecture)
        plan, card = Plan(architecture, VARIANTS[architecture].config), {**_as_dict(pretrained_cfg), **card}
    return plan.with_card(card, cache_dir)


def read_file(path: Path) -> tuple[dict[str, Tensor], Plan]:
    """Read a file or folder of this machine, and what it says or shows of its model.

    Raises:
        ValueError: it does not say which model it holds and is none of the variants, or it is damaged.
        FileNotFoundError: there is no such file.
    """
    tensors, said = load_weights(path)
    architecture = said.get("architecture") or recognize(tensors)
    if "config" in said:
        plan = Plan(architecture or "convit", inference_config(said))
    elif architecture is not None:
        plan = resolve(architecture)
    else:
        raise ValueError(
            f"{path} does not say which model it holds, and its shapes are none of {', '.join(VARIANTS)}; "
            "name the architecture: create_model('…', checkpoint_path=…)"
        )
    return tensors, plan.from_source({"source": "file", "file": str(path)}, lambda: path).told(tensors, said)


def inference_config(description: Mapping[str, Any]) -> ConViTConfig:
    """The configuration in a file without its training's drop rates: those are the next caller's choice, as in timm."""
    return ConViTConfig.from_dict(
        {key: value for key, value in description["config"].items() if key not in _TRAINING_ONLY}
    )


def _resolve_table(name: str, cache_dir: Path | None) -> Plan:
    check_model_name(name)
    architecture, _, tag = name.partition(".")
    found = find_weight_set(name) if tag else default_weight_set(architecture)
    if found is None:
        config = VARIANTS[architecture].config
        return Plan(architecture, config, fetch=lambda: fetch_weights(find_weight_set(name), cache_dir))
    fetch = partial(fetch_weights, found, cache_dir)
    return Plan(architecture, found.config, describe_weight_set(found), origin_of(found), fetch)


def _resolve_hub(text: str, cache_dir: Path | None) -> Plan:
    repo = parse_repo(text)
    description = _describe_hub(repo, cache_dir)
    if not description:
        raise ValueError(f"{repo.name} is not a timm-style hub repository: its config.json names no architecture")
    origin = {"source": "hf-hub", "hf_hub_id": text}
    return _described(description, origin, partial(fetch_hub_file, repo, cache_dir=cache_dir))


def _describe_hub(repo: Repo, cache_dir: Path | None) -> dict[str, Any]:
    """What a repository says of its model; one that timm cannot compute has no config.json, and describes itself."""
    try:
        return read_hub_config(fetch_hub_file(repo, (CONFIG_FILE,), cache_dir))
    except ValueError as error:
        if not isinstance(error.__cause__, LookupError):
            raise
        try:
            return read_metadata(fetch_hub_file(repo, (MODEL_FILE,), cache_dir))
        except ValueError:
            raise error from None


def _resolve_folder(folder: Path) -> Plan:
    _, description = load_weights(folder)
    if not description:
        raise ValueError(
            f"{folder} has no config.json that names an architecture; use create_model('…', checkpoint_path='{folder}')"
        )
    return _described(description, {"source": "local-dir", "file": str(folder)}, lambda: folder)


def _described(description: dict[str, Any], origin: dict[str, Any], fetch: Callable[[], Path]) -> Plan:
    """The plan for weights that say what model they are of."""
    config, tag = ConViTConfig.from_dict(description["config"]), description.get("tag")
    return Plan(description["architecture"], config, description, {"tag": tag, **origin}, fetch)


def _source(
    key: str, card: Mapping[str, Any], cache_dir: Path | None
) -> tuple[dict[str, Any], Callable[[], Path | Mapping[str, Any]]]:
    """Where a card's `key` says that the weights are, as `origin` and `fetch` of a plan."""
    value = card[key]
    if key == "state_dict":
        return {"source": key}, lambda: value
    if key == "file":
        return {"source": key, key: str(value)}, lambda: Path(value)
    if key == "hf_hub_id":
        names = (card["hf_hub_filename"],) if card.get("hf_hub_filename") else WEIGHT_FILES
        return {"source": "hf-hub", key: value}, partial(fetch_hub_file, parse_repo(value), names, cache_dir)
    return {"source": key, key: value}, partial(fetch_url, value, cache_dir or default_folder())


def _as_dict(card: Any) -> dict[str, Any]:
    if is_dataclass(card) and not isinstance(card, type):
        return {key: value for key, value in vars(card).items() if value is not None}
    if not isinstance(card, Mapping):
        raise TypeError(f"pretrained_cfg is a {type(card).__name__}, but must be a tag, a dict or timm's PretrainedCfg")
    return dict(card)


def _check_card(card: Mapping[str, Any]) -> None:
    known = {*make_card("", ConViTConfig(), {}, {}), *_HANDED_ON, *_FIXED, *_SOURCES, "hf_hub_filename"}
    if unknown := [str(key) for key in card if key not in known]:
        raise TypeError(f"pretrained_cfg has no key {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    for key, value in _FIXED.items():
        if card.get(key) and card[key] != value:
            raise ValueError(f"{key} in pretrained_cfg is {card[key]!r}, but a ConViT's is {value!r}; leave it out")
