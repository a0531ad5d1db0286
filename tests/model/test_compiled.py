"""torch.compile and torch.export without a break."""

import pytest
import torch

from convit.model import ConViT, ConViTConfig

pytestmark = [pytest.mark.compiled, pytest.mark.slow]

CONFIG = ConViTConfig(img_size=32, patch_size=8, num_heads=4, embed_dim=8, depth=3, local_up_to_layer=2, num_classes=5)


def test_compiles_as_one_graph_and_trains() -> None:
    eager, model = ConViT(CONFIG), ConViT(CONFIG)
    model.load_state_dict(eager.state_dict())
    compiled = torch.compile(model, fullgraph=True)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(compiled(images), eager(images))
    compiled(images).square().sum().backward()
    eager(images).square().sum().backward()
    for ours, reference in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, reference.grad, atol=1e-5, rtol=1e-4)


def test_compiles_in_bf16() -> None:
    model = ConViT(CONFIG).bfloat16().eval()
    images = torch.randn(2, 3, 32, 32, dtype=torch.bfloat16)
    with torch.inference_mode():
        logits = torch.compile(model, fullgraph=True)(images)
        assert logits.dtype == torch.bfloat16
        torch.testing.assert_close(logits, model(images), atol=0.02, rtol=0.05)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_exports_with_a_dynamic_batch(pool: str) -> None:
    model = ConViT(CONFIG.replace(global_pool=pool)).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(model, (torch.randn(2, 3, 32, 32),), dynamic_shapes=({0: batch},)).module()
    for count in (1, 3, 17):
        images = torch.randn(count, 3, 32, 32)
        torch.testing.assert_close(exported(images), model(images))
