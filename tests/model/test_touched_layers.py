"""A layer that somebody adapts, wraps, hooks or parametrizes is called, as in the plain twin: shortcuts give way."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from convit.model import ConViT, ConViTConfig
from convit.optimization import optimize
from tests.shaken import relative_error, shake

CONFIG = ConViTConfig(img_size=32, patch_size=8, num_heads=4, embed_dim=4, depth=2, local_up_to_layer=1, num_classes=5)
LINEAR = [name for name, module in ConViT(CONFIG).named_modules() if isinstance(module, nn.Linear)]
PARTS = [name for name, _ in ConViT(CONFIG).named_modules() if name.startswith(("blocks.1", "norm"))]

Change = Callable[[ConViT, str], None]


class _Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.scale = inner, nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.inner(x)


class _Scaled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 1.5 * weight


def _wrap(model: ConViT, name: str) -> None:
    model.set_submodule(name, _Wrapped(model.get_submodule(name)))


def _exchange_forward(model: ConViT, name: str) -> None:
    layer = model.get_submodule(name)
    before = layer.forward
    layer.forward = lambda x: 1.5 * before(x)


def _prune(model: ConViT, name: str) -> None:
    from torch.nn.utils import prune

    prune.random_unstructured(model.get_submodule(name), "weight", amount=0.5)


def _adapt(kind: str, **options: Any) -> Change:
    def change(model: ConViT, name: str) -> None:
        import peft

        target = name if name == "all-linear" else [name]
        config = getattr(peft, kind)(target_modules=target, **options)
        peft.inject_adapter_in_model(config, model)
        model.double()

    return change


CHANGES: dict[str, Change] = {
    "wrapped": _wrap,
    "hooked": lambda model, name: model.get_submodule(name).register_forward_hook(lambda _, given, out: 1.5 * out),
    "hooked before": lambda model, name: model.get_submodule(name).register_forward_pre_hook(lambda _, x: 1.5 * x[0]),
    "hooked behind": lambda model, name: model.get_submodule(name).register_full_backward_pre_hook(
        lambda _, gradients: tuple(1.5 * gradient for gradient in gradients)
    ),
    "exchanged forward": _exchange_forward,
    "parametrized": lambda model, name: parametrize.register_parametrization(
        model.get_submodule(name), "weight", _Scaled()
    ),
    "pruned": _prune,
    "LoRA": _adapt("LoraConfig", r=2, init_lora_weights=False),
    "DoRA": _adapt("LoraConfig", r=2, init_lora_weights=False, use_dora=True),
    "IA3": _adapt("IA3Config", feedforward_modules=[], init_ia3_weights=False),
}


def _shaken(**options: object) -> ConViT:
    model = ConViT(CONFIG.replace(**options)).double()
    shake(model)
    return model


def _changed(change: Change, *names: str) -> ConViT:
    model = _shaken()
    torch.manual_seed(1)
    for name in names:
        change(model, name)
    return model


def _run(model: ConViT, images: Tensor) -> dict[str, Tensor]:
    """Logits and all gradients."""
    images = images.clone().requires_grad_()
    logits = model(images)
    logits.square().sum().backward()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {"logits": logits.detach(), "images": images.grad, **gradients}


def _assert_like_the_plain_twin(change: Change, *names: str) -> None:
    images = torch.randn(2, 3, 32, 24, dtype=torch.float64)
    fast, plain = _changed(change, *names), _changed(change, *names)
    plain.set_attention("plain")
    ours, reference, before = _run(fast, images), _run(plain, images), _run(_shaken(), images)
    assert ours.keys() == reference.keys()
    for name, value in reference.items():
        torch.testing.assert_close(ours[name], value, atol=1e-9, rtol=1e-7, msg=name)
    shared = [name for name in ours if name in before and not name.endswith("pos_proj.bias")]  # whose gradient is 0
    assert max(relative_error(ours[name], before[name]) for name in shared) > 1e-3
    added = [name for name in ours if "lora" in name or "ia3" in name or "scale" in name]
    assert all(ours[name].abs().max() > 1e-9 for name in added)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_layer_moves_output_and_gradient(kind: str, name: str) -> None:
    _assert_like_the_plain_twin(CHANGES[kind], name)


def test_quantized_layers_are_called() -> None:
    from torchao import quantization

    fast, plain = _shaken().float().eval(), _shaken().float().eval()
    for model in (fast, plain):
        quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    plain.set_attention("plain")
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert relative_error(fast(images), plain(images)) < 1e-5
        assert relative_error(fast(images), _shaken().float().eval()(images)) > 1e-4


@pytest.mark.parametrize("kind", ["LoRA", "DoRA", "IA3"])
def test_adapters_on_every_layer_at_once(kind: str) -> None:
    _assert_like_the_plain_twin(CHANGES[kind], "all-linear")


def test_merged_adapters_compute_what_they_did_before() -> None:
    import peft

    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    config = peft.LoraConfig(r=2, target_modules=["qkv", "qk", "v", "pos_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(_shaken(), config).double().eval()
    with torch.inference_mode():
        before = adapted(images)
        fast = optimize(adapted.get_base_model(), "fp32")(images.float())
        merged = adapted.merge_and_unload()
        assert relative_error(merged(images), before) < 1e-9
        assert relative_error(fast, before) < 1e-5
        assert relative_error(optimize(merged, "fp32")(images.float()), before) < 1e-5


@pytest.mark.parametrize("name", PARTS)
def test_a_hook_in_the_last_block_gets_every_token(name: str) -> None:
    model, seen = _shaken().eval(), []
    model.get_submodule(name).register_forward_hook(lambda _, given, out: seen.append(out.shape))
    model(torch.randn(2, 3, 32, 32, dtype=torch.float64))
    tokens = [17, 17] if name.endswith("attn_drop") else [17]
    assert seen
    assert all(list(shape[-1 - len(tokens) : -1]) == tokens or list(shape[-2:]) == tokens for shape in seen)


def test_a_global_hook_gets_every_token() -> None:
    seen = []
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, given, out: seen.append(out.shape[1]) if isinstance(module, nn.LayerNorm) else None
    )
    try:
        _shaken()(torch.randn(2, 3, 32, 32, dtype=torch.float64))
    finally:
        handle.remove()
    assert seen == [16, 16, 17, 17, 17]


@pytest.mark.parametrize("name", ["blocks.0.attn.pos_proj", "blocks.1.attn.qkv", "blocks.0.mlp.fc1", "patch_embed"])
def test_optimized_models_call_changed_layers(name: str) -> None:
    images = torch.randn(2, 3, 32, 32)
    model = _changed(CHANGES["hooked"], name).eval()
    fast = optimize(model, "fp32")
    kept = {step.name: step.choice for step in fast.plan.steps}.get("blocks not folded")
    assert kept == (None if name == "patch_embed" else name.split(".")[1])
    with torch.inference_mode():
        assert relative_error(fast(images), model(images.double())) < 1e-5


def test_int8_on_a_cpu_refuses_what_it_cannot_call() -> None:
    with pytest.raises(ValueError, match=r"layers in blocks 1 are adapted.*merge adapters and remove hooks"):
        optimize(_changed(CHANGES["hooked"], "blocks.1.mlp.fc1"), "int8", calibration=torch.randn(2, 3, 32, 32))
