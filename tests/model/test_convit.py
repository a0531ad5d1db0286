"""The model's public calls: shapes, sizes, heads, features, errors."""

import copy
from collections.abc import Iterator

import pytest
import torch

from convit.model import ConViT, ConViTConfig, FeatureExtractor, GatedPositionalSelfAttention, count_operations

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


@pytest.mark.parametrize("frozen", [True, False])
def test_what_is_rebuilt_keeps_mode_precision_and_freezing(frozen: bool) -> None:
    model = _model().double().requires_grad_(not frozen)
    model.set_input_size((32, 128), patch_size=16)
    assert {name for name, value in model.named_parameters() if value.requires_grad == frozen} == set()
    model.reset_classifier(3)
    assert all(value.requires_grad for value in model.head.parameters())  # fresh weights are there to be learned
    assert {value.dtype for value in model.parameters()} == {torch.float64}
    assert not any(module.training for module in model.modules())
    assert model.train()(torch.randn(1, 3, 32, 128).double()).shape == (1, 3)
    model.reset_classifier(4)
    assert all(module.training for module in model.modules())
    model.to("meta").reset_classifier(5)
    assert {value.device.type for value in model.parameters()} == {"meta"}


def test_an_adapted_patch_kernel_is_not_resampled() -> None:
    model = _model()
    model.patch_embed.proj.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"patch_size is 16, but patch_embed\.proj is adapted.*remove"):
        model.set_input_size((32, 128), patch_size=16)


def test_pruning_leaves_what_the_maps_need() -> None:
    whole = _model(depth=6, drop_path_rate=0.5)
    maps = whole.forward_intermediates(IMAGES, intermediates_only=True)
    for chosen, depth, has_class_token in (([1], 2, False), ([0, 2], 3, False), ([-3], 4, True), (1, 6, True)):
        model = copy.deepcopy(whole)
        kept = model.prune_intermediate_layers(chosen)
        assert (len(model.blocks), model.config.depth, model.cls_token is not None) == (depth, depth, has_class_token)
        assert (model.num_classes, model.global_pool) == (0, "")
        assert model.config.drop_path_rate == pytest.approx(model.blocks[-1].drop_path.rate)
        for ours, index in zip(model.forward_intermediates(IMAGES, kept, intermediates_only=True), kept, strict=True):
            torch.testing.assert_close(ours, maps[index])
        assert model(IMAGES).shape == (2, 16 + has_class_token, 32)
    model = copy.deepcopy(whole)
    model.prune_intermediate_layers(1, prune_head=False)
    torch.testing.assert_close(model(IMAGES), whole(IMAGES))
    model.prune_intermediate_layers([0], prune_norm=True, prune_head=False)  # a head that reads the class token goes
    assert isinstance(model.norm, torch.nn.Identity)
    assert model.num_classes == 0
    with pytest.raises(ValueError, match="no block sees a class token"):
        model.reset_classifier(0, "token")


@pytest.fixture
def process_group() -> Iterator[None]:
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("out_indices", [None, 1, 4, (0,), (2,), (0, -1), (3,)])
@pytest.mark.parametrize("saving", [True, False])
def test_features_train_under_ddp(out_indices: object, norm: bool, saving: bool) -> None:
    backbone = FeatureExtractor(ConViT(CONFIG), out_indices, norm=norm)
    backbone.model.set_grad_checkpointing(saving)
    parallel = torch.nn.parallel.DistributedDataParallel(backbone)
    for _ in range(2):  # the second step fails where the first left a parameter without gradient
        sum(values.square().sum() for values in parallel(IMAGES)).backward()
    assert all(value.grad is not None for value in backbone.parameters())


@pytest.mark.usefixtures("process_group")
def test_ddp_minds_what_is_not_pruned() -> None:
    backbone = FeatureExtractor(ConViT(CONFIG), (0,))
    backbone.unused = torch.nn.Linear(1, 1)
    parallel = torch.nn.parallel.DistributedDataParallel(backbone)
    parallel(IMAGES)[0].sum().backward()
    with pytest.raises(RuntimeError, match="Expected to have finished reduction in the prior iteration"):
        parallel(IMAGES)


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("options", [{}, {"global_pool": "avg"}, {"global_pool": "avg", "local_up_to_layer": 4}])
def test_models_train_under_ddp(options: dict[str, object]) -> None:
    parallel = torch.nn.parallel.DistributedDataParallel(ConViT(CONFIG.replace(**options)))
    for _ in range(2):
        parallel(IMAGES).square().sum().backward()


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_torchscript_is_refused_in_one_line() -> None:
    for scripted in (_model(), FeatureExtractor(_model()), torch.nn.Sequential(_model())):
        with pytest.raises(
            TypeError, match=r"^TorchScript .* torch\.export\.export.* torch\.jit\.trace\(model, images\)$"
        ):
            torch.jit.script(scripted)


def test_gradient_checkpointing_changes_memory_not_gradients() -> None:
    plain, saving = (ConViT(CONFIG) for _ in range(2))
    saving.load_state_dict(plain.state_dict())
    saving.set_grad_checkpointing()
    for model in (plain, saving):
        model(IMAGES).square().sum().backward()
    for ours, reference in zip(saving.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, reference.grad)


def test_the_last_block_is_computed_for_the_class_token_alone() -> None:
    model = _model()
    alone, whole = (count_operations(_model(global_pool=pool), form="fused").macs for pool in ("token", "avg"))
    dim, tokens = model.config.dim, 17
    # queries, projection and MLP of 16 tokens, and their attention, are left out
    assert whole - alone == (tokens - 1) * (10 * dim * dim + 2 * tokens * dim)
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


def test_attention_dropout_takes_the_plain_path_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ConViT(CONFIG.replace(attn_drop_rate=0.5))
    layer = next(m for m in model.modules() if isinstance(m, GatedPositionalSelfAttention))
    matrices, forward = [], torch.nn.Dropout.forward

    def drop(self: torch.nn.Dropout, values: torch.Tensor) -> torch.Tensor:
        dropped = forward(self, values)
        if self is layer.attn_drop:
            matrices.append(dropped)
        return dropped

    monkeypatch.setattr(torch.nn.Dropout, "forward", drop)
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
