"""Precisions by name, and what is computed in what."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from convit.benchmark.comparing import relative_error
from convit.model import ConViT, ConViTConfig, processor
from convit.model.layers import PatchEmbedding
from convit.optimization import precision, products
from convit.optimization.blocks import embedding_of_levels
from convit.optimization.precision import (
    PRECISIONS,
    computed_in,
    default_precision,
    dtype_of,
    name_of,
    native_precisions,
)

CHECK = "_is_mkldnn_bf16_supported"
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_names_and_dtypes_stand_for_each_other() -> None:
    names = ("fp64", "fp32", "bf16", "fp16")
    assert [name_of(dtype_of(name)) for name in names] == list(names)
    assert dtype_of("bf16") is torch.bfloat16
    assert name_of(torch.uint8) == "uint8"
    for name in ("auto", "fastest", "fp8", "int8"):
        with pytest.raises(ValueError, match=f"precision is '{name}', which only a ConViT's fast form runs in"):
            dtype_of(name)
    with pytest.raises(
        ValueError, match="precision is 'fp12', but must be one of auto, fastest, fp32, bf16, fp16, fp8, int8"
    ):
        dtype_of("fp12")


@pytest.mark.parametrize("pays", [True, False])
def test_bf16_is_computed_in_fp32_where_that_is_faster(pays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bfloat16_pays", lambda: pays)
    names = PRECISIONS[2:]
    found = {name: computed_in(name, CPU) for name in names}
    assert found == dict.fromkeys(names, "fp32") | {"bf16": "bf16" if pays else "fp32"}
    assert [computed_in(name, GPU) for name in names] == ["fp32", "bf16", "fp16", "bf16", "bf16"]
    assert native_precisions(CPU) == (("fp32", "bf16") if pays else ("fp32",))


def test_this_processor_is_known() -> None:
    assert precision.bfloat16_pays() in (True, False)


@pytest.mark.parametrize(
    ("machine", "operators", "expected"),
    [("arm64", {}, False), ("aarch64", {CHECK: lambda: False}, False), ("aarch64", {CHECK: lambda: True}, True)],
)
def test_bf16_pays_on_arm_where_onednn_has_it(
    machine: str, operators: dict[str, Any], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(**operators))  # PyTorch for macOS has no oneDNN
    monkeypatch.setattr(precision.platform, "machine", lambda: machine)
    for asked in (processor.onednn_has, precision.bfloat16_pays):
        monkeypatch.setattr(precision, asked.__name__, asked.__wrapped__)
        monkeypatch.setattr(products, asked.__name__, asked.__wrapped__, raising=False)
    assert precision.bfloat16_pays() is expected
    assert precision.computed_in("bf16", CPU) == ("bf16" if expected else "fp32")
    assert products.fastest_product(CPU, torch.bfloat16) is products.PlainProduct  # there is no other operator


class _NoFloat64(TorchDispatchMode):
    """A device other than the CPU that has no float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type != "cpu":
            assert result.dtype != torch.float64, func
        return result


@torch.no_grad()
def test_float64_stays_off_devices_that_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convit.optimization.blocks.copy.deepcopy", lambda module: module)  # it would copy the mode too
    with FakeTensorMode(), torch.device("cuda"):
        patches = PatchEmbedding(8, 3, 12)
        with _NoFloat64():
            folded = embedding_of_levels(patches, (0.5, 0.4, 0.3), (0.2, 0.2, 0.3))
            with pytest.raises(DataDependentOutputException):  # it got as far as its one number
                relative_error(folded.proj.weight, patches.proj.weight)
        assert folded.proj.weight.device.type == "cuda"
    assert precision.widest_float(torch.device("mps")) is torch.float32
    assert precision.widest_float(CPU) is torch.float64


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16")])
def test_auto_of_the_commands(capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert (default_precision(CPU), default_precision(GPU)) == ("fp32", expected)
    assert native_precisions(GPU) == (("fp32", "bf16", "fp16") if expected == "bf16" else ("fp32", "fp16"))


@pytest.mark.parametrize("autocast", [True, False])
def test_a_plain_model_keeps_pytorchs_own_rules(autocast: bool) -> None:
    config = ConViTConfig(img_size=32, patch_size=8, num_heads=4, embed_dim=8, depth=4, local_up_to_layer=3)
    model, images = ConViT(config).eval(), torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        exact = model(images)
        if not autocast:
            model.bfloat16()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            rounded = model(images if autocast else images.bfloat16())
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).norm() < 0.1 * exact.norm()
