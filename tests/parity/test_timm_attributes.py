"""What timm's users read off a model: same names, same values."""

from typing import Any

import pytest
import timm
import torch
from timm.models import FeatureInfo as TimmFeatureInfo

from convit.model import ConViT, ConViTConfig
from convit.model.attention import attended_distance
from convit.model.features import FeatureInfo
from convit.weights import create_model
from tests.shaken import relative_error, shake

SMALL: dict[str, Any] = {"depth": 3, "local_up_to_layer": 2, "img_size": 64}
ATTRIBUTES = [
    "num_classes",
    "in_chans",
    "global_pool",
    "local_up_to_layer",
    "num_features",
    "head_hidden_size",
    "embed_dim",
    "locality_strength",
    "use_pos_embed",
    "num_patches",
    "num_prefix_tokens",
]


def _pair() -> tuple[Any, ConViT]:
    theirs, ours = timm.create_model("convit_tiny", **SMALL), create_model("convit_tiny", **SMALL)
    shake(theirs)
    ours.load_state_dict(theirs.state_dict())
    return theirs.double().eval(), ours.double().eval()


def test_attributes_have_timms_values() -> None:
    theirs, ours = _pair()
    for name in ATTRIBUTES:
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("img_size", "patch_size", "grid_size", "num_patches"):
        assert getattr(ours.patch_embed, name) == getattr(theirs.patch_embed, name), name
    for as_scalar in (True, False):
        assert ours.patch_embed.feat_ratio(as_scalar) == theirs.patch_embed.feat_ratio(as_scalar)
    assert ours.default_cfg is ours.pretrained_cfg
    ours.default_cfg = {"tag": "other"}
    assert ours.pretrained_cfg == {"tag": "other"}


def test_sizes_follow_the_model() -> None:
    model = create_model("convit_tiny", **SMALL)
    model.set_input_size((64, 96), patch_size=32)
    embedding = model.patch_embed
    assert (model.num_patches, embedding.num_patches, embedding.grid_size) == (6, 6, (2, 3))
    assert (embedding.img_size, embedding.patch_size, embedding.feat_ratio()) == ((64, 96), (32, 32), 32)
    tokens = torch.randn(1, 6, model.embed_dim)
    torch.testing.assert_close(model.blocks[0](tokens), model.blocks[0](tokens, (2, 3)))


def test_parts_run_by_themselves_as_timms_do() -> None:
    theirs, ours = _pair()
    for patches in (16, 25):  # the model's grid, and another square
        tokens = torch.randn(2, patches, ours.embed_dim, dtype=torch.float64)
        assert relative_error(ours.blocks[0](tokens), theirs.blocks[0](tokens)) < 1e-9
        assert relative_error(ours.blocks[0].attn(tokens), theirs.blocks[0].attn(tokens)) < 1e-9
        assert relative_error(ours.blocks[2](tokens), theirs.blocks[2](tokens)) < 1e-9
    with pytest.raises(ValueError, match=r"28 patches make no square nor the model's 4 x 4; pass their grid"):
        ours.blocks[0](torch.randn(1, 28, ours.embed_dim, dtype=torch.float64))


def test_attention_maps_and_distances_are_timms() -> None:
    theirs, ours = _pair()
    tokens = torch.randn(2, 16, ours.embed_dim, dtype=torch.float64)
    for index in (0, 2):
        expected = theirs.blocks[index].attn
        if index == 0:
            expected(tokens)  # timm makes its table of offsets when it is called
        for ours_part, theirs_part in zip(
            ours.blocks[index].attn.get_attention_map(tokens, return_map=True),
            expected.get_attention_map(tokens, return_map=True),
            strict=True,
        ):
            assert relative_error(ours_part, theirs_part) < 1e-6  # timm takes distances in fp32
    torch.testing.assert_close(
        ours.blocks[0].attn.get_attention_map(tokens),
        ours.blocks[0].attn.get_attention_map(tokens, return_map=True)[0],
    )


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch's own, of forward mode
def test_second_derivatives_and_forward_mode_of_the_plain_form_are_timms() -> None:
    theirs, ours = _pair()
    ours.set_attention("plain")
    images, tangent = torch.randn(2, 2, 3, 64, 64, dtype=torch.float64)
    found = []
    for model in (ours, theirs):
        given = images.clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(given).sin().sum(), given, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.square().sum(), model.head.weight)
        found.append((curvature, torch.func.jvp(model, (images,), (tangent,))[1]))
    for mine, expected in zip(*found, strict=True):
        assert relative_error(mine, expected) < 1e-9


def test_distances_leave_the_class_token_out() -> None:
    layer: Any = ConViT(ConViTConfig(**SMALL)).blocks[2].get_submodule("attn")
    layer.qkv.weight.data.zero_()  # attends everywhere alike
    tokens = torch.randn(1, 17, 192)
    distance, matrix = layer.get_attention_map(tokens, return_map=True)
    assert matrix.shape == (4, 17, 17)
    torch.testing.assert_close(distance, layer.get_attention_map(tokens[:, 1:]))


def test_patches_one_more_than_the_models_hold_no_class_token_for_gpsa() -> None:
    layer: Any = ConViT(ConViTConfig(**{**SMALL, "img_size": (48, 80)})).blocks[0].get_submodule("attn")  # 3 x 5
    tokens = torch.randn(1, 16, 192)
    distance, matrix = layer.get_attention_map(tokens, return_map=True)
    torch.testing.assert_close(distance, attended_distance(matrix, (4, 4)))


@pytest.mark.parametrize("out_indices", [2, (0, 2), (-1,)])
def test_feature_info_is_timms(out_indices: Any) -> None:
    entries = [{"num_chs": 8 * index, "reduction": 4, "module": f"blocks.{index}"} for index in (1, 2, 3)]
    theirs = TimmFeatureInfo([dict(entry) for entry in entries], out_indices)
    ours = FeatureInfo(entries, out_indices)
    for each in (ours, ours.from_other(out_indices)):
        assert (each.out_indices, each.info, len(each), each[1]) == (theirs.out_indices, theirs.info, 3, theirs[1])
        for idx in (None, 1, [2, 0]):
            for name in ("channels", "reduction", "module_name"):
                assert getattr(each, name)(idx) == getattr(theirs, name)(idx)
            assert each.get("num_chs", idx) == theirs.get("num_chs", idx)
            assert each.get_dicts(None, idx) == theirs.get_dicts(None, idx)
            assert each.get_dicts(["module"], idx) == theirs.get_dicts(["module"], idx)


def test_intermediates_take_timms_positions() -> None:
    theirs, ours = _pair()
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    positional = (images, [0, 2], True, True, "NLC", True)
    for mine, expected in zip(
        ours.forward_intermediates(*positional), theirs.forward_intermediates(*positional), strict=True
    ):
        assert relative_error(mine, expected) < 1e-9
