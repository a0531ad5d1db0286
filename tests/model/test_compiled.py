"""torch.compile and torch.export without a break."""

import pytest
import torch
from torch.nn.utils import parametrize

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


def test_trains_on_larger_images_after_compiling() -> None:
    # as a recipe's `final_img_size` asks; the second size is compiled with sizes that vary
    eager, compiled = ConViT(CONFIG), ConViT(CONFIG)
    compiled.load_state_dict(eager.state_dict())
    compiled.compile()
    for side in (32, 48):
        images = torch.randn(2, 3, side, side)
        for model in (eager, compiled):
            model.zero_grad()
            model(images).square().sum().backward()
        torch.testing.assert_close(compiled.pos_embed.grad, eager.pos_embed.grad, atol=1e-5, rtol=1e-4)


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


def test_a_hook_or_an_adapter_after_compiling_is_followed() -> None:
    model = ConViT(CONFIG).eval()
    images = torch.randn(2, 3, 32, 32)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.inference_mode():
        before = compiled(images)
        hook = model.blocks[-1].attn.qkv.register_forward_hook(lambda _, given, out: 2 * out)
        torch.testing.assert_close(compiled(images), model(images))
        assert not torch.allclose(model(images), before)
        hook.remove()
        torch.testing.assert_close(compiled(images), before)
        parametrize.register_parametrization(model.blocks[0].attn.pos_proj, "weight", torch.nn.Softplus())
        torch.testing.assert_close(compiled(images), model(images))
        assert not torch.allclose(model(images), before)


@pytest.mark.parametrize("strict", [True, False])
def test_shortcuts_survive_compilation_and_export(strict: bool) -> None:
    model, graphs = ConViT(CONFIG).eval(), []
    images = torch.randn(2, 3, 32, 32)
    torch.compile(model, backend=lambda graph, _: graphs.append(graph) or graph.forward)(images)
    graphs.append(torch.export.export(model, (images,), strict=strict).graph_module)
    for graph in graphs:
        values = [node.meta.get("val", node.meta.get("example_value")) for node in graph.graph.nodes]
        shapes = [tuple(value.shape) for value in values if isinstance(value, torch.Tensor)]
        wide = 4 * model.config.dim
        assert (2, 1, wide) in shapes  # the last block's MLP, for the class token alone
        assert (2, 17, wide) not in shapes
