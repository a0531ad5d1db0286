"""Whatever timm's functions take, ours take: by name, in the same place, with the same default."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import timm
import timm.data
from timm.models import FeatureInfo as TimmFeatureInfo
from timm.models import PretrainedCfg as TimmPretrainedCfg

import convit
from convit.model.features import FeatureInfo
from convit.weights import create_model

FUNCTIONS = (
    "create_model",
    "list_models",
    "list_pretrained",
    "is_model",
    "is_model_pretrained",
    "model_entrypoint",
    "get_pretrained_cfg",
)
METHODS = [name for name, _ in inspect.getmembers(TimmFeatureInfo, inspect.isfunction)]


def assert_takes_what_timm_takes(ours: Callable[..., Any], theirs: Callable[..., Any]) -> None:
    mine = dict(inspect.signature(ours).parameters)
    for place, (name, expected) in enumerate(inspect.signature(theirs).parameters.items()):
        if expected.kind is inspect.Parameter.VAR_KEYWORD:
            assert inspect.Parameter.VAR_KEYWORD in {each.kind for each in mine.values()}
            continue
        assert name in mine, f"{name} is new in timm"
        assert list(mine).index(name) == place, f"{name} has another place"
        assert mine[name].kind == expected.kind, name
        assert mine[name].default == expected.default, name
    added = [each for name, each in mine.items() if name not in inspect.signature(theirs).parameters]
    assert all(each.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD) for each in added)


@pytest.mark.parametrize("name", ["create_transform", "resolve_data_config", "resolve_model_data_config"])
def test_functions_of_data(name: str) -> None:
    assert_takes_what_timm_takes(getattr(convit.data, name), getattr(timm.data, name))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    assert_takes_what_timm_takes(getattr(convit, name), getattr(timm, name))


def test_methods_are_walked() -> None:
    assert {"__init__", "__len__", "__getitem__", "get", "get_dicts", "channels", "from_other"} <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_feature_info(name: str) -> None:
    assert_takes_what_timm_takes(getattr(FeatureInfo, name), getattr(TimmFeatureInfo, name))


def test_every_key_of_timms_pretrained_cfg_is_known() -> None:
    keys = [each.name for each in dataclasses.fields(TimmPretrainedCfg)]
    assert len(keys) > 30
    create_model("convit_nano_patch4_32", pretrained_cfg=dict.fromkeys(keys))
    with pytest.raises(TypeError, match=r"pretrained_cfg has no key new_key; there are .*architecture, .*tag"):
        create_model("convit_nano_patch4_32", pretrained_cfg={"new_key": 1})
