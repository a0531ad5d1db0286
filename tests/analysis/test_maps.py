"""Attention maps layer by layer against the layers' own matrices, and rollout against plain loops."""

import pytest
import torch
from torch import Tensor, nn

from convit.analysis import attention_maps, attention_matrices, attention_rollout, class_rollout
from convit.model import ConViT, ConViTConfig
from tests.shaken import shake

SMALL = ConViTConfig(img_size=12, patch_size=4, embed_dim=4, num_heads=4, depth=4, local_up_to_layer=2, num_classes=3)
SIZES = [(12, 12), (12, 20), (4, 8)]


def _model(**changes: object) -> ConViT:
    model = ConViT(SMALL.replace(**changes)).double()
    shake(model)
    return model


def _images(height: int = 12, width: int = 12, count: int = 2) -> Tensor:
    return torch.randn(count, 3, height, width, dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
def test_maps_are_the_layers_matrices_and_blend_as_equation_7(size: tuple[int, int]) -> None:
    model, images = _model(), _images(*size)
    found = list(attention_maps(model, images))
    assert [maps.index for maps in found] == [0, 1, 2, 3]
    for maps, matrix in zip(found, attention_matrices(model, images), strict=True):
        torch.testing.assert_close(maps.blended, matrix)
        assert maps.grid == (size[0] // 4, size[1] // 4)
        if maps.index < 2:
            gate = maps.gate[:, None, None]
            torch.testing.assert_close((1 - gate) * maps.content + gate * maps.position, matrix)
            rows, columns = model.blocks[maps.index].attn.position_factors(maps.grid)
            kronecker = torch.stack([torch.kron(*pair) for pair in zip(rows, columns, strict=True)])
            torch.testing.assert_close(maps.position, kronecker)
            assert not maps.has_class_token
        else:
            assert maps.position is maps.gate is None
            assert maps.has_class_token


def test_a_query_patch_reads_its_own_row_of_the_matrix() -> None:
    maps = list(attention_maps(_model(), _images(12, 20)))
    gated, ordinary = maps[1], maps[3]
    for kind in ("content", "blended"):
        expected = getattr(gated, kind)[:, :, 2 * 5 + 3].reshape(2, 4, 3, 5)
        torch.testing.assert_close(gated.from_patch(2, 3, kind), expected)
    torch.testing.assert_close(gated.from_patch(2, 3, "position")[1], gated.position[:, 13].reshape(4, 3, 5))
    row = ordinary.blended[:, :, 1 + 13, 1:]
    torch.testing.assert_close(ordinary.from_patch(2, 3), (row / row.sum(-1, keepdim=True)).reshape(2, 4, 3, 5))
    torch.testing.assert_close(ordinary.among_patches().sum(-1), torch.ones(2, 4, 15, dtype=torch.float64))


def test_the_class_token_reads_the_patches_and_itself() -> None:
    *_, gated, ordinary = list(attention_maps(_model(), _images(12, 20)))[1:3]
    read = ordinary.class_attention()
    assert read.shape == (2, 4, 3, 5)
    torch.testing.assert_close(read.sum((-1, -2)) + ordinary.blended[:, :, 0, 0], torch.ones(2, 4).double())
    with pytest.raises(ValueError, match="layer 2 has no class token"):
        gated.class_attention()


def test_what_is_not_there_is_refused() -> None:
    gated, _, ordinary, _ = attention_maps(_model(), _images())
    for place in ((3, 0), (0, 3), (-1, 0)):
        with pytest.raises(ValueError, match=r"outside of the image's 3 x 3 patches; rows go from 0 to 2"):
            gated.from_patch(*place)
    with pytest.raises(ValueError, match="layer 3 has no position attention"):
        ordinary.among_patches("position")
    with pytest.raises(ValueError, match="'queries', but must be"):
        gated.among_patches("queries")
    with pytest.raises(ValueError, match="patch"):
        attention_maps(_model(), _images(11, 12))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("local", [0, 2, 4])
def test_rollout_is_the_product_with_an_identity_class_row(size: tuple[int, int], local: int) -> None:
    model, images = _model(local_up_to_layer=local, global_pool="avg"), _images(*size)
    tokens = (size[0] // 4) * (size[1] // 4) + (local < 4)
    for image, found in zip(images, attention_rollout(model, images), strict=True):
        expected = torch.eye(tokens, dtype=torch.float64)
        for matrix in attention_matrices(model, image[None]):
            whole = torch.eye(tokens, dtype=torch.float64)
            whole[-matrix.shape[-1] :, -matrix.shape[-1] :] = matrix[0].mean(0)
            expected = (0.5 * whole + 0.5 * torch.eye(tokens)) @ expected
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(found.sum(-1), torch.ones(tokens, dtype=torch.float64))


def test_published_shape_has_196_patches_and_197_tokens() -> None:
    model = ConViT(ConViTConfig(embed_dim=4, depth=3, local_up_to_layer=2, num_classes=2))
    images = torch.randn(1, 3, 224, 224)
    assert [maps.blended.shape[-1] for maps in attention_maps(model, images)] == [196, 196, 197]
    assert attention_rollout(model, images).shape == (1, 197, 197)


def test_bf16_maps_are_fp32_and_the_model_is_left_as_it_was() -> None:
    model, images = _model(drop_path_rate=0.5).train(), _images()
    expected = next(attention_maps(model, images)).blended
    assert model.training
    assert not expected.requires_grad
    assert not any(module._forward_pre_hooks for module in model.modules() if isinstance(module, nn.Module))
    found = next(attention_maps(model.bfloat16(), images.bfloat16())).blended
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.float(), rtol=0.1, atol=0.1)


def _nudged(model: ConViT, image: Tensor, label: int, layer: int, place: tuple[int, ...], by: float) -> float:
    """The class's logit with one number of one attention matrix moved."""

    def nudge(_: nn.Module, arguments: tuple[Tensor]) -> Tensor:
        changed = arguments[0].clone()
        changed[place] += by
        return changed

    hook = model.blocks[layer].attn.attn_drop.register_forward_pre_hook(nudge)
    logit = model(image)[0, label].item()
    hook.remove()
    return logit


@pytest.mark.parametrize(("pool", "local"), [("token", 1), ("avg", 1), ("avg", 2)])
def test_class_rollout_is_chefers_with_the_gradient_measured(pool: str, local: int) -> None:
    """Element by element: every number of every matrix is moved, and the rule is written out as plain products."""
    model, image = _model(global_pool=pool, depth=2, local_up_to_layer=local).eval(), _images(4, 8, 1)
    found = class_rollout(model, image, [2])
    matrices = [matrix[0] for matrix in attention_matrices(model, image)]
    tokens = 2 + model.num_prefix_tokens
    expected = torch.eye(tokens, dtype=torch.float64)
    model.set_attention("plain")
    for layer, matrix in enumerate(matrices):
        weighted = torch.zeros(tokens, tokens, dtype=torch.float64)
        shift = tokens - matrix.shape[-1]
        for head, query, key in torch.cartesian_prod(*(torch.arange(size) for size in matrix.shape)).tolist():
            ends = (_nudged(model, image, 2, layer, (0, head, query, key), by) for by in (1e-5, -1e-5))
            gradient = (next(ends) - next(ends)) / 2e-5
            weighted[shift + query, shift + key] += max(0.0, gradient * matrix[head, query, key].item()) / 4
        expected = expected + weighted @ expected
    first = model.num_prefix_tokens
    pooled = expected[0, 1:] if pool == "token" else (expected - torch.eye(tokens))[first:, first:].mean(0)
    torch.testing.assert_close(found[0].flatten(), pooled, rtol=1e-4, atol=1e-9)
    assert found.max() > 0


def test_class_rollout_leaves_the_model_alone_and_tells_classes_apart() -> None:
    model, images = _model().train().requires_grad_(False), _images()
    model.set_attention("fused")
    maps = class_rollout(model, images, [0, 1])
    assert maps.shape == (2, 3, 3)
    assert not maps.requires_grad
    assert not images.requires_grad
    torch.testing.assert_close(maps[1:], class_rollout(model, images[1:], [1]))
    assert not torch.allclose(maps[0], class_rollout(model, images[:1], [2])[0])
    assert model.training
    assert not any(layer.plain for layer in (block.attn for block in model.blocks))
    assert not any(module._forward_pre_hooks for module in model.modules())
    model.requires_grad_(True)
    class_rollout(model, images, [0, 1])
    assert all(parameter.grad is None for parameter in model.parameters())
    for classes in ([0], [0, 3], [0, -1]):
        with pytest.raises(ValueError, match="must be one of 0 to 2 for each"):
            class_rollout(model, images, classes)
    with pytest.raises(ValueError, match="gives no logits"):
        class_rollout(_model(num_classes=0), images, [0, 1])
