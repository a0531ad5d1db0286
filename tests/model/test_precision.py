"""bf16 on processors that are slower at it: the same weights, less rounding."""

import pytest
import torch

from convit.benchmark.shaken import relative_error, shake
from convit.model import ConViT, ConViTConfig, precision

CONFIG = ConViTConfig(img_size=32, patch_size=8, num_heads=4, embed_dim=8, depth=4, local_up_to_layer=3, num_classes=5)


@pytest.mark.parametrize("pays", [True, False])
def test_both_ways_of_bf16_give_bf16_and_near_values(pays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bfloat16_pays", lambda: pays)
    model = ConViT(CONFIG).double().eval()
    shake(model)
    images = torch.randn(8, 3, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        exact = model(images)
        model.bfloat16()
        logits, tokens = model(images.bfloat16()), model.forward_features(images.bfloat16())
    assert logits.dtype == tokens.dtype == torch.bfloat16
    assert relative_error(logits, exact) < 0.05


def test_linear_layers_see_the_precision_that_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ConViT(CONFIG).bfloat16().eval()
    seen = []
    model.blocks[0].mlp.fc1.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].dtype))
    for pays in (True, False):
        monkeypatch.setattr(precision, "bfloat16_pays", lambda pays=pays: pays)
        model(torch.randn(1, 3, 32, 32, dtype=torch.bfloat16))
    assert seen == [torch.bfloat16, torch.float32]


def test_gradients_of_bf16_weights_are_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bfloat16_pays", lambda: False)
    model = ConViT(CONFIG).bfloat16()
    model(torch.randn(2, 3, 32, 32, dtype=torch.bfloat16)).sum().backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.bfloat16}


def test_autocast_keeps_its_own_rules() -> None:
    model = ConViT(CONFIG).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        exact = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(images)
    assert rounded.dtype == torch.bfloat16
    assert relative_error(rounded, exact) < 0.1


def test_wider_inputs_widen_the_weights() -> None:
    layer = precision.Linear(4, 3).bfloat16()
    x = torch.randn(2, 4)
    expected = x @ layer.weight.float().T + layer.bias.float()
    torch.testing.assert_close(layer(x), expected)
    norm = precision.LayerNorm(4).bfloat16()
    assert norm(x).dtype == torch.float32
