"""The fast form against its plain twin: outputs and gradients, on any grid, for each pooling."""

import pytest
import torch

from convit.model import VARIANTS, ConViT, ConViTConfig
from tests.shaken import relative_error, shake

SMALL = ConViTConfig(img_size=64, patch_size=8, num_heads=4, embed_dim=12, depth=5, local_up_to_layer=3, num_classes=11)


def _twins(config: ConViTConfig) -> tuple[ConViT, ConViT]:
    fast, plain = (ConViT(config).double() for _ in range(2))
    shake(fast)
    plain.load_state_dict(fast.state_dict())
    plain.set_attention("plain")
    return fast, plain


@pytest.mark.parametrize("pool", ["token", "avg", ""])
@pytest.mark.parametrize("size", [(64, 64), (8, 8), (8, 88), (56, 24), (104, 120)])
def test_outputs_and_gradients_on_any_grid(pool: str, size: tuple[int, int]) -> None:
    fast, plain = _twins(SMALL.replace(global_pool=pool))
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    results = [model(images) for model in (fast, plain)]
    assert relative_error(*results) < 1e-9
    for result in results:
        result.square().sum().backward()
    for (name, ours), reference in zip(fast.named_parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None, name
        if name.endswith("pos_proj.bias"):
            assert max(ours.grad.abs().max(), reference.grad.abs().max()) < 1e-9
        elif reference.grad.abs().max() < 1e-12:
            # one patch attends to itself alone: nothing to learn for queries, keys and places
            assert ours.grad.abs().max() < 1e-9, name
        else:
            assert relative_error(ours.grad, reference.grad) < 1e-9, name


@pytest.mark.parametrize("name", ["convit_tiny", "convit_small", "convit_base"])
def test_the_7_by_28_grid(name: str) -> None:
    # 196 patches like 14 x 14, which makes timm take one grid for the other without a word.
    fast, plain = _twins(VARIANTS[name].config.replace(img_size=(112, 448)))
    images = torch.randn(1, 3, 112, 448, dtype=torch.float64)
    with torch.inference_mode():
        assert relative_error(fast.eval()(images), plain.eval()(images)) < 1e-9


def test_7_by_28_gradients() -> None:
    fast, plain = _twins(VARIANTS["convit_tiny"].config.replace(img_size=(112, 448)))
    images = torch.randn(1, 3, 112, 448, dtype=torch.float64)
    for model in (fast, plain):
        model(images).square().sum().backward()
    for (name, ours), reference in zip(fast.named_parameters(), plain.parameters(), strict=True):
        if not name.endswith("pos_proj.bias"):
            assert relative_error(ours.grad, reference.grad) < 1e-9, name


def test_7_by_28_is_not_14_by_14() -> None:
    square = ConViT(VARIANTS["convit_tiny"].config).double().eval()
    shake(square)
    wide = ConViT(square.config.replace(img_size=(112, 448))).double().eval()
    wide.load_state_dict(square.state_dict())
    grid_as_square = torch.randn(1, 196, square.config.dim, dtype=torch.float64)
    block = square.blocks[0]
    with torch.inference_mode():
        assert relative_error(block(grid_as_square, (7, 28)), block(grid_as_square, (14, 14))) > 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_stays_near_the_plain_twins(dtype: torch.dtype) -> None:
    fast, plain = _twins(SMALL)
    images = torch.randn(64, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        exact = plain.eval()(images)
        ours, reference = (relative_error(m.eval().to(dtype)(images.to(dtype)), exact) for m in (fast, plain))
    assert ours <= (2.0 if dtype == torch.float32 else 1.25) * reference


def test_no_tokens_by_tokens_tensor_is_made() -> None:
    model = ConViT(SMALL)
    tokens = 16 * 16
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for value in result if isinstance(result, tuple) else (result,):
                if isinstance(value, torch.Tensor) and list(value.shape[-2:]).count(tokens) == 2:
                    largest = max(largest, value.numel())
            return result

    with Watch():
        model(torch.randn(2, 3, 128, 128)).sum().backward()
    assert largest == 0
