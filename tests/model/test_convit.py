"""The model's public calls: shapes, sizes, heads, features, errors."""

import pytest
import torch

from convit.model import ConViT, ConViTConfig, FeatureExtractor, GatedPositionalSelfAttention

CONFIG = ConViTConfig(img_size=32, patch_size=8, num_heads=4, embed_dim=8, depth=4, local_up_to_layer=3, num_classes=5)
IMAGES = torch.randn(2, 3, 32, 32)


def _model(**options: object) -> ConViT:
    return ConViT(CONFIG.replace(**options)).eval()


def test_logits_tokens_and_pre_logits() -> None:
    model = _model()
    tokens = model.forward_features(IMAGES)
    assert tokens.shape == (2, 17, 32)
    assert model.forward_head(tokens, pre_logits=True).shape == (2, 32)
    torch.testing.assert_close(model(IMAGES), model.forward_head(tokens))
    assert _model(num_classes=0)(IMAGES).shape == (2, 32)
    assert _model(global_pool="")(IMAGES).shape == (2, 17, 5)


def test_average_pooling_leaves_the_class_token_out() -> None:
    model = _model(global_pool="avg", num_classes=0)
    torch.testing.assert_close(model(IMAGES), model.forward_features(IMAGES)[:, 1:].mean(dim=1))
    without = _model(global_pool="avg", num_classes=0, local_up_to_layer=4)
    torch.testing.assert_close(without(IMAGES), without.forward_features(IMAGES).mean(dim=1))
    assert without.forward_features(IMAGES).shape == (2, 16, 32)


def test_sizes_change_from_call_to_call() -> None:
    model = _model()
    first = model(IMAGES)
    for height, width in ((64, 32), (8, 120), (8, 8)):
        assert model(torch.randn(1, 3, height, width)).shape == (1, 5)
    torch.testing.assert_close(model(IMAGES), first)


def test_a_size_that_patches_do_not_tile_is_refused_or_padded() -> None:
    odd = torch.randn(1, 3, 30, 37)
    with pytest.raises(ValueError, match=r"30 x 37 pixels .* patches of 8 .*dynamic_img_pad"):
        _model()(odd)
    model = _model(dynamic_img_pad=True)
    padded = torch.nn.functional.pad(odd, (0, 3, 0, 2))
    torch.testing.assert_close(model(odd), model(padded))
    assert ConViT(CONFIG.replace(dynamic_img_pad=True, img_size=30)).config.grid_size == (4, 4)


def test_intermediates_follow_timms_arguments() -> None:
    model = _model()
    features, maps = model.forward_intermediates(IMAGES)
    assert [tuple(m.shape) for m in maps] == [(2, 32, 4, 4)] * 4
    torch.testing.assert_close(features, model.forward_features(IMAGES))
    (last,) = model.forward_intermediates(IMAGES, indices=1, norm=True, intermediates_only=True, output_fmt="NLC")
    torch.testing.assert_close(last, features[:, 1:])
    pairs = model.forward_intermediates(IMAGES, indices=[0, -1], return_prefix_tokens=True, intermediates_only=True)
    assert [prefix.shape[1] for _, prefix in pairs] == [0, 1]
    calls = []
    model.blocks[2].register_forward_hook(lambda *_: calls.append(2))
    model.forward_intermediates(IMAGES, indices=[1], stop_early=True)
    assert not calls


def test_intermediates_refuse_what_does_not_exist() -> None:
    model = _model()
    with pytest.raises(ValueError, match=r"block 4 .* blocks 0 to 3"):
        model.forward_intermediates(IMAGES, indices=[4])
    with pytest.raises(ValueError, match=r"last 9 blocks .* has 4"):
        model.forward_intermediates(IMAGES, indices=9)
    with pytest.raises(ValueError, match="NHWC"):
        model.forward_intermediates(IMAGES, output_fmt="NHWC")  # type: ignore[arg-type]


def test_feature_extractor() -> None:
    backbone = FeatureExtractor(_model(), out_indices=(0, 2)).eval()
    maps = backbone(IMAGES)
    assert [tuple(m.shape) for m in maps] == [(2, 32, 4, 4)] * 2
    assert backbone.feature_info.channels() == [32, 32]
    assert backbone.feature_info.reduction() == [8, 8]
    assert backbone.feature_info.module_name() == ["blocks.0", "blocks.2"]


def test_reset_classifier() -> None:
    model = _model()
    model.reset_classifier(3, "avg")
    assert model(IMAGES).shape == (2, 3)
    assert (model.num_classes, model.global_pool) == (3, "avg")
    assert isinstance(model.get_classifier(), torch.nn.Linear)
    model.reset_classifier(0)
    assert model(IMAGES).shape == (2, 32)
    assert isinstance(model.get_classifier(), torch.nn.Identity)


def test_set_input_size_keeps_what_the_model_computes() -> None:
    model = _model()
    wide = torch.randn(1, 3, 16, 64)
    on_the_fly = model(wide)
    model.set_input_size((16, 64))
    assert model.config.grid_size == (2, 8)
    torch.testing.assert_close(model(wide), on_the_fly)
    model.set_input_size((32, 128), patch_size=16)
    assert model.patch_embed.proj.weight.shape[-2:] == (16, 16)
    # every second pixel of a smooth image says nearly what all of them say
    smooth = torch.nn.functional.interpolate(torch.randn(1, 3, 2, 4), size=(32, 128), mode="bicubic")
    half = torch.nn.functional.interpolate(smooth, size=(16, 64), mode="bilinear", antialias=True)
    small = _model()
    small.load_state_dict(
        model.state_dict() | {"patch_embed.proj.weight": small.patch_embed.proj.weight, "pos_embed": small.pos_embed}
    )
    small.set_input_size((16, 64))
    large = _model()
    large.load_state_dict(small.state_dict() | {"pos_embed": large.pos_embed})
    large.set_input_size((32, 128), patch_size=16)
    assert torch.nn.functional.cosine_similarity(large.patch_embed(smooth), small.patch_embed(half), dim=-1).min() > 0.9


def test_gradient_checkpointing_changes_memory_not_gradients() -> None:
    plain, saving = (ConViT(CONFIG) for _ in range(2))
    saving.load_state_dict(plain.state_dict())
    saving.set_grad_checkpointing()
    for model in (plain, saving):
        model(IMAGES).square().sum().backward()
    for ours, reference in zip(saving.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, reference.grad)


def test_hook_on_the_last_block_sees_the_class_token_alone() -> None:
    model = _model()
    seen = []
    model.blocks[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(tuple(output.shape)))
    model(IMAGES)
    model.forward_features(IMAGES)
    model.set_attention("plain")
    model(IMAGES)
    assert seen == [(2, 1, 32), (2, 17, 32), (2, 17, 32)]
    with pytest.raises(ValueError, match="'flash'"):
        model.set_attention("flash")  # type: ignore[arg-type]


def test_parameter_groups() -> None:
    model = _model()
    names = [name for name, _ in model.named_parameters()]
    assert model.no_weight_decay() <= set(names)
    import re

    matcher = model.group_matcher()
    patterns = [matcher["stem"], *(pattern for pattern, _ in matcher["blocks"])]
    unmatched = [name for name in names if not any(re.match(p, name) for p in patterns)]
    assert unmatched == ["head.weight", "head.bias"]


def test_hybrid_backbone() -> None:
    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, stride=8, padding=1))
    hybrid = ConViT(CONFIG, hybrid_backbone=backbone).eval()
    assert hybrid(IMAGES).shape == (2, 5)
    assert "patch_embed.backbone.0.weight" in hybrid.state_dict()
    with pytest.raises(ValueError, match="stride 16; choose a multiple"):
        ConViT(CONFIG, hybrid_backbone=torch.nn.Conv2d(3, 6, 3, stride=16, padding=1))
    with pytest.raises(ValueError, match="hybrid backbone was built for 8"):
        hybrid.set_input_size(patch_size=16)


def test_attention_dropout_takes_the_plain_path_in_training_only() -> None:
    model = ConViT(CONFIG.replace(attn_drop_rate=0.5))
    layer = next(m for m in model.modules() if isinstance(m, GatedPositionalSelfAttention))
    matrices = []
    layer.attn_drop.register_forward_hook(lambda _module, _inputs, output: matrices.append(output))
    model.train()(IMAGES)
    assert matrices[0].shape == (2, 4, 16, 16)
    assert 0.3 < (matrices[0] == 0).float().mean() < 0.7
    model.eval()(IMAGES)
    assert len(matrices) == 1


def test_dropout_and_drop_path_act_in_training_only() -> None:
    model = ConViT(CONFIG.replace(drop_path_rate=0.5, drop_rate=0.2, pos_drop_rate=0.1, proj_drop_rate=0.1))
    assert [round(block.drop_path.rate, 3) for block in model.blocks] == [0.0, 0.167, 0.333, 0.5]
    model.train()
    assert not torch.equal(model(IMAGES), model(IMAGES))
    model.eval()
    torch.testing.assert_close(model(IMAGES), model(IMAGES))


def test_head_counts_that_are_no_square_say_so() -> None:
    with pytest.warns(UserWarning, match=r"6 heads are not a square number: 4 of them .* the other 2"):
        model = ConViT(CONFIG.replace(num_heads=6, depth=1, local_up_to_layer=1, global_pool="avg"))
    assert not model.blocks[0].attn.pos_proj.weight[4:].any()


def test_tokens_are_carried_with_channels_last() -> None:
    """The patch convolution's layout would otherwise follow the residual sums, and every norm would copy."""
    model = ConViT(ConViTConfig(depth=3, local_up_to_layer=2)).eval()
    seen: list[bool] = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, given: seen.append(given[0].is_contiguous()))
    model(torch.zeros(2, 3, 224, 224))
    assert seen == [True] * 3
