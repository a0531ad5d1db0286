"""Attention matrices and non-locality against plain loops, against timm, and where the answer is known."""

import math

import pytest
import timm
import torch
from timm.models.convit import ConVit
from torch import Tensor, nn

from convit.analysis import attention_matrices, nonlocality
from convit.model import ConViT, ConViTConfig
from tests.shaken import shake

SMALL = ConViTConfig(
    img_size=(12, 20), patch_size=4, embed_dim=4, num_heads=4, depth=4, local_up_to_layer=2, num_classes=3
)


def _model(**changes: object) -> ConViT:
    model = ConViT(SMALL.replace(**changes)).double()
    shake(model)
    return model


def _images(height: int = 12, width: int = 20, count: int = 3) -> Tensor:
    return torch.randn(count, 3, height, width, dtype=torch.float64)


def _looped_distance(matrix: Tensor, columns: int) -> Tensor:
    """Eq. 8 for one (tokens, tokens) matrix, one pair of patches after the other; the class token left out."""
    prefix = matrix.shape[0] % 5  # 15 patches, or 16 tokens with the class token
    patches, total = matrix.shape[0] - prefix, torch.zeros((), dtype=torch.float64)
    for query in range(patches):
        row = matrix[prefix + query, prefix:]
        for key in range(patches):
            length = math.hypot(key // columns - query // columns, key % columns - query % columns)
            total += row[key] / row.sum() * length / patches
    return total


@pytest.mark.parametrize("form", ["fused", "plain"])
def test_nonlocality_is_equation_8_pair_by_pair(form: str) -> None:
    model, images = _model(), _images()
    model.set_attention(form)
    matrices = list(attention_matrices(model, images))
    assert [tuple(matrix.shape[1:]) for matrix in matrices] == [(4, 15, 15)] * 2 + [(4, 16, 16)] * 2
    expected = torch.stack(
        [
            torch.stack([sum(_looped_distance(one[head], columns=5) for one in matrix) / 3 for head in range(4)])
            for matrix in matrices
        ]
    )
    torch.testing.assert_close(nonlocality(model, images), expected)


@pytest.mark.parametrize("form", ["fused", "plain"])
@pytest.mark.parametrize("size", [(12, 20), (8, 8), (16, 4)])
def test_the_matrices_give_what_the_layers_read(form: str, size: tuple[int, int]) -> None:
    """Matrix times values, projected, is the layer's own output in the forward pass."""
    model, images = _model().eval(), _images(*size)
    model.set_attention(form)
    seen: list[tuple[Tensor, Tensor]] = []
    hooks = [
        block.attn.register_forward_hook(lambda layer, arguments, output: seen.append((arguments[0], output)))
        for block in model.blocks
    ]
    model.forward_features(images)
    for hook in hooks:
        hook.remove()
    for block, matrix, (x, output) in zip(model.blocks, attention_matrices(model, images), seen, strict=True):
        torch.testing.assert_close(matrix.sum(-1), torch.ones_like(matrix[..., 0]))
        value = block.attn.v(x) if block.is_local else block.attn.qkv(x).chunk(3, dim=-1)[2]
        read = matrix @ value.unflatten(-1, (4, -1)).transpose(1, 2)
        torch.testing.assert_close(block.attn.proj(read.transpose(1, 2).flatten(2)), output)


def test_timm_attends_alike() -> None:
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 4, "num_heads": 4, "depth": 4, "num_classes": 3}
    theirs = ConVit(local_up_to_layer=2, **options).double().eval()
    shake(theirs)
    ours = ConViT(ConViTConfig(local_up_to_layer=2, **options)).double()
    ours.load_state_dict(theirs.state_dict())
    images, inputs = _images(32, 32), []
    for block in theirs.blocks:
        block.attn.register_forward_pre_hook(lambda layer, arguments: inputs.append(arguments[0]))
    theirs(images)
    for index, (matrix, x) in enumerate(zip(attention_matrices(ours, images), inputs, strict=True)):
        layer = theirs.blocks[index].attn
        torch.testing.assert_close(matrix, _timm_attention(layer, x), msg=f"layer {index}, timm {timm.__version__}")
        if index < 2:
            distance = nonlocality(ours, images)[index]
            torch.testing.assert_close(distance, layer.get_attention_map(x))


def _timm_attention(layer: nn.Module, x: Tensor) -> Tensor:
    if hasattr(layer, "gating_param"):
        return layer.get_attention(x)
    query, key, _ = (part.unflatten(-1, (4, -1)).transpose(1, 2) for part in layer.qkv(x).chunk(3, dim=-1))
    return (query @ key.transpose(-2, -1) * layer.scale).softmax(dim=-1)


def test_a_narrow_convolution_looks_as_far_as_its_kernel_reaches() -> None:
    """9 heads, gates at 1: away from the border each head reads the one patch at its kernel's offset."""
    side, strength = 40, 100.0
    model = ConViT(
        ConViTConfig(
            img_size=side,
            patch_size=1,
            embed_dim=2,
            num_heads=9,
            depth=2,
            local_up_to_layer=1,
            locality_strength=strength,
        )
    ).double()
    nn.init.constant_(model.blocks[0].attn.gating_param, 1e3)
    image = _images(side, side, count=1)
    place = torch.arange(side * side)
    inside = ((place // side) % (side - 1) > 0) & ((place % side) % (side - 1) > 0)
    matrix = next(attention_matrices(model, image))[0, :, inside]
    reached = place[matrix.argmax(dim=-1)] - place[inside]
    kernel = [side * row + column for column in (-1, 0, 1) for row in (-1, 0, 1)]
    assert matrix.amax(dim=-1).min() > 1 - 1e-9
    assert (reached == torch.tensor(kernel)[:, None]).all()
    # at the border the nearest patch stands in: a share 1/side of the steps along an axis has length 0
    step, corner = (side - 1) / side, math.sqrt(2) * ((side - 1) / side) ** 2 + 2 * (side - 1) / side**2
    expected = torch.tensor([corner, step, corner, step, 0.0, step, corner, step, corner], dtype=torch.float64)
    torch.testing.assert_close(nonlocality(model, image)[0], expected)


def test_attention_that_is_everywhere_alike_looks_the_mean_distance_far() -> None:
    model = ConViT(SMALL.replace(local_up_to_layer=0)).double()
    for block in model.blocks:
        nn.init.zeros_(block.attn.qkv.weight)
    place = torch.cartesian_prod(torch.arange(3.0), torch.arange(5.0)).double()
    mean = torch.cdist(place, place).mean()
    torch.testing.assert_close(nonlocality(model, _images()), mean.expand(4, 4))


def test_padded_images_have_the_padded_grid() -> None:
    model = _model(dynamic_img_pad=True)
    assert [matrix.shape[-1] for matrix in attention_matrices(model, _images(11, 18))] == [15, 15, 16, 16]
    assert nonlocality(model, _images(11, 18)).isfinite().all()


def test_the_model_is_left_as_it_was() -> None:
    model, images = _model(drop_path_rate=0.5, proj_drop_rate=0.5).train(), _images()
    model.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    model(images).sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    state = torch.get_rng_state()
    first, found = next(attention_matrices(model, images)), nonlocality(model, images)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert all(torch.equal(parameter.grad, old) for parameter, old in zip(model.parameters(), gradients, strict=True))
    assert (first.requires_grad, found.requires_grad, torch.is_grad_enabled()) == (False, False, True)
    torch.testing.assert_close(nonlocality(model.eval(), images), found)


def test_images_that_do_not_fit_are_refused_and_leave_no_trace() -> None:
    model = _model().train()
    with pytest.raises(ValueError, match="patch"):
        nonlocality(model, _images(11, 18))
    with pytest.raises(ValueError, match="no image"):
        nonlocality(model, _images(count=0))
    assert all(module.training for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_bf16_is_measured_in_fp32() -> None:
    model, images = _model(), _images()
    expected = nonlocality(model, images).float()
    found = nonlocality(model.bfloat16(), images.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1)
