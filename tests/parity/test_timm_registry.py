"""timm's registry calls and `create_model`'s arguments mean here what they mean there."""

import json
import logging
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import FeatureHookNet, PretrainedCfg

import convit
from convit.model import ConViT, FeatureExtractor
from convit.weights import create_model, get_pretrained_cfg, list_models, list_pretrained, save_weights
from tests.shaken import relative_error, shake

SHARED = {"convit_tiny", "convit_small", "convit_base"}
NANO = "convit_nano_patch4_32"
SMALL: dict[str, Any] = {"depth": 2, "local_up_to_layer": 1, "embed_dim": 8, "img_size": 64}


def shared(names: list[str]) -> list[str]:
    return [name for name in names if name.partition(".")[0] in SHARED]


@pytest.mark.parametrize("pattern", ["", "convit_*", ["*tiny", "*base*"], "*.fb_in1k", "resnet*", "convit_tiny.*"])
@pytest.mark.parametrize("excluded", ["", "*small", ["*.fb*"]])
def test_lists_are_timms(pattern: Any, excluded: Any) -> None:
    for pretrained, matches, tags in product((False, True), (False, True), (None, False, True)):
        options = {
            "pretrained": pretrained,
            "exclude_filters": excluded,
            "name_matches_cfg": matches,
            "include_tags": tags,
        }
        for module in ("convit", ["resnet", "convit"], "resnet"):
            theirs = timm.list_models(pattern, module, **options)
            assert shared(list_models(pattern, module, **options)) == shared(theirs), (module, options)
    assert shared(list_pretrained(pattern, excluded)) == shared(timm.list_pretrained(pattern, excluded))


def test_lists_take_iterables_and_no_module() -> None:
    assert list_models(iter(["*base", "*small"])) == ["convit_base", "convit_small"]
    assert list_models() == list_models("", "convit")
    assert list_models("convit_tiny", "resnet") == []


@pytest.mark.parametrize(
    "name", ["convit_tiny", "convit_base.fb_in1k", "convit_tiny.fb_in22k", "resnetty", "convit", ""]
)
def test_questions_have_timms_answers(name: str) -> None:
    assert convit.is_model(name) == timm.is_model(name)
    assert convit.is_model_pretrained(name) == timm.is_model_pretrained(name)


def test_pretrained_cfg_is_timms() -> None:
    ours, theirs = get_pretrained_cfg("convit_small"), timm.get_pretrained_cfg("convit_small")
    assert ours is not None
    assert ours == get_pretrained_cfg("convit_small.fb_in1k")
    known_differences = {"url", "fixed_input_size", "license", "custom_load", "pool_size"}
    for key, value in theirs.to_dict().items():
        if key not in known_differences:
            assert getattr(ours, key) == ours[key] == value, key
    assert ours["license"].lower() == theirs.license
    assert json.loads(json.dumps(ours.to_dict()))["hf_hub_id"] == "timm/convit_small.fb_in1k"
    assert {"url", "source", "hf_hub_id"}.isdisjoint(ours.to_dict(remove_source=True))
    assert "file" in ours.to_dict(remove_null=False)
    assert "file" not in ours.to_dict()
    with pytest.raises(AttributeError, match=r"nothing is known of 'color'; there are architecture"):
        _ = ours.color


def test_pretrained_cfg_of_nothing() -> None:
    assert get_pretrained_cfg("resnet999") is None
    assert get_pretrained_cfg("convit_tiny_plus") is None
    for name in ("convit_tiny.fb_in22k", "resnet999"):
        with pytest.raises(RuntimeError):
            timm.get_pretrained_cfg(name, allow_unregistered=False)
        with pytest.raises(ValueError, match=r"there (is|are) no"):
            get_pretrained_cfg(name, allow_unregistered=False)
    with pytest.raises(ValueError, match="nothing is known of weights of convit_tiny_plus; list_pretrained"):
        get_pretrained_cfg("convit_tiny_plus", allow_unregistered=False)
    with pytest.raises(ValueError, match=r"there are no weights 'convit_tiny.fb_in22k'"):
        get_pretrained_cfg("convit_tiny.fb_in22k")


def test_entrypoints() -> None:
    entrypoint = convit.model_entrypoint("convit_nano_patch4_32.cifar10", "convit")
    assert entrypoint.__name__ == NANO
    assert entrypoint(num_classes=3).num_classes == 3
    assert entrypoint(True).pretrained_cfg["tag"] == "cifar10"
    with pytest.raises(ValueError, match="convit_tiny is in the module 'convit', not in 'resnet'; leave"):
        convit.model_entrypoint("convit_tiny", "resnet")
    with pytest.raises(ValueError, match="there is no model 'convit_tin'; did you mean 'convit_tiny'"):
        convit.model_entrypoint("convit_tin")


@pytest.fixture
def donor() -> torch.nn.Module:
    model = timm.create_model("convit_tiny", num_classes=5, **SMALL).eval()
    shake(model)
    return model


def test_a_state_dict_a_file_and_a_folder_as_timm_takes_them(donor: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(donor.state_dict(), tmp_path / "weights.pth")
    images = torch.randn(1, 3, 64, 64)
    expected = donor(images)
    for where in ({"state_dict": donor.state_dict()}, {"file": str(tmp_path / "weights.pth")}):
        described = {**where, "num_classes": 5, "input_size": (3, 64, 64), "mean": (0.5, 0.5, 0.5), "tag": "mine"}
        forms = ({"pretrained_cfg": described}, {"pretrained_cfg_overlay": described})
        for given in (*forms, {"pretrained_cfg": PretrainedCfg(**described)}):
            options = {**SMALL, **given}
            theirs = timm.create_model("convit_tiny", True, **options).eval()
            ours = create_model("convit_tiny", True, **options).eval()
            assert relative_error(theirs(images), expected) == 0
            assert relative_error(ours(images), expected) < 1e-5
            assert ours.num_classes == theirs.num_classes == 5
            card = convit.data.resolve_model_data_config(ours)
            assert card == timm.data.resolve_model_data_config(theirs)
            assert card["mean"] == (0.5, 0.5, 0.5)
            assert "state_dict" not in ours.pretrained_cfg


def test_what_the_source_says_wins_over_the_table_and_the_caller_over_both(donor: Any, tmp_path: Path) -> None:
    overlay = {"state_dict": donor.state_dict(), "test_input_size": (3, 96, 96)}
    model = create_model("convit_tiny", True, pretrained_cfg_overlay=overlay, **SMALL)
    assert model.num_classes == 5  # as the tensors have it
    assert (model.pretrained_cfg["label_names"], model.pretrained_cfg["license"]) == (None, None)
    assert model.pretrained_cfg["test_input_size"] == (3, 96, 96)
    own = tmp_path / "own.safetensors"
    save_weights(own, create_model(NANO, num_classes=3), {"crop_pct": 1.0, "mean": [0.1, 0.1, 0.1]})
    overlay = {"file": str(own), "mean": (0.2, 0.2, 0.2), "label_names": ("a", "b", "c")}
    card = create_model(NANO, True, pretrained_cfg_overlay=overlay).pretrained_cfg
    assert (card["crop_pct"], card["mean"], card["label_names"]) == (1.0, (0.2, 0.2, 0.2), ("a", "b", "c"))
    assert (card["source"], card["file"], card["tag"]) == ("file", str(own), None)
    with pytest.raises(ValueError, match=r"own.safetensors holds a convit_nano_patch4_32, but a convit_tiny was"):
        create_model("convit_tiny", True, pretrained_cfg={"file": str(own)})


def test_a_tag_and_a_model_s_own_card_name_the_published_weights() -> None:
    expected = create_model(f"{NANO}.cifar10", pretrained=True)
    for given in ("cifar10", get_pretrained_cfg(NANO), expected.pretrained_cfg):
        model = create_model(NANO, True, given)
        assert torch.equal(model.head.weight, expected.head.weight)
        assert model.pretrained_cfg == expected.pretrained_cfg
    changed = create_model(NANO, True, None, {"crop_pct": 0.5, "num_classes": 4})
    assert (changed.pretrained_cfg["crop_pct"], changed.num_classes) == (0.5, 4)
    assert torch.equal(changed.blocks[0].attn.qk.weight, expected.blocks[0].attn.qk.weight)
    card = create_model("convit_tiny", pretrained_cfg=timm.get_pretrained_cfg("convit_tiny"), **SMALL).pretrained_cfg
    assert (card["tag"], card["hf_hub_id"]) == ("fb_in1k", "timm/convit_tiny.fb_in1k")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"pretrained_cfg": "cifar1"}, ValueError, r"no weights 'convit_nano_patch4_32.cifar1'; did you mean"),
        ({"pretrained_cfg": {"mean": (0.5, 0.5, 0.5)}}, ValueError, r"names no weights .*: none of state_dict, file"),
        ({"pretrained_cfg": 3}, TypeError, r"pretrained_cfg is a int, but must be a tag, a dict or"),
        ({"pretrained_cfg_overlay": {"custom_load": True}}, ValueError, r"custom_load in pretrained_cfg is True, but"),
        ({"pretrained_cfg_overlay": {"label_offset": 1}}, ValueError, r"label_offset in pretrained_cfg is 1, but"),
        ({"pretrained_cfg_overlay": {"classifier": "fc"}}, ValueError, r"classifier .* is 'fc', but .* 'head'"),
        ({"pretrained_cfg_overlay": {"file": "no/such.pth"}}, FileNotFoundError, r"there is no weight file no/such"),
        ({"pretrained_cfg_overlay": {"state_dict": {"a": 1}}}, ValueError, r"state_dict holds a int under 'a'"),
        ({"scriptable": True}, ValueError, r"TorchScript is not supported; use torch.export or torch.jit.trace"),
        ({"feature_cls": "fx"}, ValueError, r"feature_cls is 'fx', but only 'getter' .*timm.models.FeatureHookNet"),
        ({"norm_layer": torch.nn.LayerNorm}, TypeError, r"'norm_layer' is not a ConViT option"),
    ],
)
def test_refusals_name_the_argument(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        create_model(NANO, True, **options)
    assert "\n" not in str(caught.value)


def test_sources_bring_their_own_cfg(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"local-dir:.* brings its own pretrained_cfg; .*pretrained_cfg_overlay"):
        create_model(f"local-dir:{tmp_path}", pretrained_cfg={"mean": (0.5,) * 3})
    save_weights(tmp_path / "model.safetensors", create_model(NANO, num_classes=3))
    model = create_model(f"LOCAL-DIR:{tmp_path}", True, pretrained_cfg_overlay={"crop_pct": 0.5})
    assert (model.num_classes, model.pretrained_cfg["crop_pct"]) == (3, 0.5)


def test_arguments_that_change_nothing() -> None:
    model = create_model(NANO, checkpoint_path="", scriptable=False, exportable=True, no_jit=True)
    assert isinstance(model, ConViT)


def test_weights_that_fit_in_part(donor: Any, caplog: pytest.LogCaptureFixture) -> None:
    tensors = {name: tensor for name, tensor in donor.state_dict().items() if name != "cls_token"}
    options: dict[str, Any] = {
        **SMALL,
        "num_classes": 5,
        "pretrained_cfg": {"state_dict": {**tensors, "x": tensors["norm.bias"]}},
    }
    with pytest.raises(ValueError, match=r"it lacks cls_token; it has x, which"):
        create_model("convit_tiny", True, **options)
    with caplog.at_level(logging.WARNING):
        model = create_model("convit_tiny", True, pretrained_strict=False, **options)
    assert "lacks cls_token: left as the model had it" in caplog.text
    assert "has x, which the model does not have: left out" in caplog.text
    assert 0 < model.cls_token.std() < 0.05  # as initialized
    theirs = timm.create_model("convit_tiny", True, pretrained_strict=False, **options)
    for name in tensors:
        assert torch.equal(model.state_dict()[name], theirs.state_dict()[name]), name
    options["pretrained_cfg"] = {"state_dict": {"x": tensors["norm.bias"]}}
    with pytest.raises(ValueError, match="has none of the model's weights"):
        create_model("convit_tiny", True, pretrained_strict=False, **options)


def test_feature_classes(donor: torch.nn.Module) -> None:
    options: dict[str, Any] = {**SMALL, "features_only": True, "out_indices": (0, 1), "pretrained": True}
    options["pretrained_cfg"] = {"state_dict": donor.state_dict()}
    assert isinstance(create_model("convit_tiny", feature_cls="getter", **options), FeatureExtractor)
    ours = create_model("convit_tiny", feature_cls=FeatureHookNet, **options).eval()
    theirs = timm.create_model("convit_tiny", feature_cls=FeatureHookNet, **{**options, "num_classes": 5}).eval()
    images = torch.randn(1, 3, 64, 64)
    for mine, expected in zip(ours(images)[:1], theirs(images)[:1], strict=True):
        assert relative_error(mine, expected) < 1e-5
