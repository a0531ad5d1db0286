"""timm's registry calls, on the variants and weight sets of this package; without torch until a model is made."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from typing import Any

from convit.model.variants import VARIANTS
from convit.weights.card import PretrainedCfg, card_of
from convit.weights.weight_sets import WEIGHT_SETS, check_model_name, default_weight_set

MODULE = "convit"  # where timm keeps these models


def list_models(
    filter: str | Iterable[str] = "",  # noqa: A002  # timm's name
    module: str | Iterable[str] = "",
    pretrained: bool = False,
    exclude_filters: str | Iterable[str] = "",
    name_matches_cfg: bool = False,
    include_tags: bool | None = None,
) -> list[str]:
    """List the variants, or with `pretrained` the weight sets (names with tags), in natural order.

    Args:
        filter: a shell pattern such as "convit_*plus", or several; empty for all. One without a tag means every tag.
        module: timm's modules to look in; only "convit" has models.
        pretrained: only names that have weights.
        exclude_filters: patterns of names to leave out.
        name_matches_cfg: only names whose preprocessing is known, as of a weight set or its architecture.
        include_tags: names of weight sets instead of their architectures; None for the value of `pretrained`.

    >>> list_models("*plus")
    ['convit_base_plus', 'convit_small_plus', 'convit_tiny_plus']
    >>> list_models("convit_base*", pretrained=True), list_models("*", exclude_filters=["*_*_*", "*tiny"])
    (['convit_base.fb_in1k'], ['convit_base', 'convit_small'])
    """
    tags = pretrained if include_tags is None else include_tags
    modules = _as_list(module)
    names = list(VARIANTS) if not modules or MODULE in modules else []
    if tags:
        names = [each for name in names for each in _tagged(name) or [name]]
    included, excluded = (
        [e for each in _as_list(some) for e in _expanded(each, tags)] for some in (filter, exclude_filters)
    )
    names = [name for name in names if (not included or _matches(name, included)) and not _matches(name, excluded)]
    if pretrained or name_matches_cfg:
        names = [name for name in names if is_model_pretrained(name)]
    return sorted(names, key=_natural)


def list_pretrained(
    filter: str | Iterable[str] = "",  # noqa: A002  # timm's name
    exclude_filters: str | Iterable[str] = "",
) -> list[str]:
    """List the weight sets, as `list_models` with `pretrained`."""
    return list_models(filter, pretrained=True, exclude_filters=exclude_filters)


def is_model(model_name: str) -> bool:
    """Return whether there is a variant of that name; a tag is ignored.

    >>> is_model("convit_base.fb_in1k"), is_model("resnet50")
    (True, False)
    """
    return model_name.partition(".")[0] in VARIANTS


def is_model_pretrained(model_name: str) -> bool:
    """Return whether there are weights of that name, or default weights of that variant.

    >>> is_model_pretrained("convit_tiny"), is_model_pretrained("convit_tiny_plus")
    (True, False)
    """
    return model_name in WEIGHT_SETS or default_weight_set(model_name) is not None


def model_entrypoint(model_name: str, module_filter: str | None = None) -> Callable[..., Any]:
    """Return the function that creates a variant: `create_model` without its first argument; a tag is ignored.

    Raises:
        ValueError: there is no such model, or none in timm's module `module_filter` (timm: KeyError, RuntimeError).
    """
    architecture = model_name.partition(".")[0]
    check_model_name(architecture)
    if module_filter not in (None, "", MODULE):
        raise ValueError(f"{architecture} is in the module {MODULE!r}, not in {module_filter!r}; leave the filter out")

    def entrypoint(pretrained: bool = False, **options: Any) -> Any:
        from convit.weights.factory import create_model

        return create_model(architecture, pretrained, **options)

    entrypoint.__name__ = entrypoint.__qualname__ = architecture
    entrypoint.__doc__ = f"Create a {architecture}; arguments are those of `convit.create_model`."
    return entrypoint


def get_pretrained_cfg(model_name: str, allow_unregistered: bool = True) -> PretrainedCfg | None:
    """Return what is known of a weight set, or of a variant's default one: `pretrained_cfg` of a model that has them.

    Differs from timm: `url` is the authors' file, `fixed_input_size` is false, since any size is taken, and the classes
    have their names. With `allow_unregistered`, None stands for a model that nothing is known of.

    Raises:
        ValueError: the variant has no such weights, or nothing is known of it (timm: RuntimeError).

    >>> get_pretrained_cfg("convit_tiny").hf_hub_id
    'timm/convit_tiny.fb_in1k'
    """
    architecture, _, tag = model_name.partition(".")
    found = WEIGHT_SETS.get(model_name) if tag else default_weight_set(architecture)
    if found is not None:
        return PretrainedCfg(card_of(found))
    if not allow_unregistered or (tag and _tagged(architecture)):
        check_model_name(model_name)
        raise ValueError(f"nothing is known of weights of {model_name}; list_pretrained() names those that there are")
    return None


def _tagged(architecture: str) -> list[str]:
    return [each.name for each in WEIGHT_SETS.values() if each.architecture == architecture]


def _expanded(pattern: str, tags: bool) -> list[str]:
    return [pattern, f"{pattern}.*"] if tags and "." not in pattern else [pattern]


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _as_list(names: str | Iterable[str] | None) -> list[str]:
    return [] if not names else [names] if isinstance(names, str) else [name for name in names if name]


def _natural(name: str) -> list[tuple[int, str]]:
    """A sort key that counts numbers as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name.lower())]
