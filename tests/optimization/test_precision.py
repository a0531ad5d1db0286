"""Precisions by name, and what is computed in what."""

import pytest
import torch

from convit.model import ConViT, ConViTConfig
from convit.optimization import precision
from convit.optimization.precision import (
    PRECISIONS,
    computed_in,
    default_precision,
    dtype_of,
    name_of,
    native_precisions,
)

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
