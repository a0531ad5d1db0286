"""What is chosen for which device."""

import pytest
import torch

from convit.model import processor
from convit.optimization import plan, precision
from convit.optimization.plan import choose_backend, choose_dtype, choose_precision
from convit.output import files

CPU, GPU, APPLE = torch.device("cpu"), torch.device("cuda", 0), torch.device("mps")


@pytest.fixture
def capability(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: request.param)


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")], indirect=["capability"]
)
@pytest.mark.usefixtures("capability")
def test_auto_on_gpus(expected: str) -> None:
    assert choose_precision("auto", GPU, calibrated=False).choice == expected


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)], indirect=True)
def test_fp8_from_ada_on(capability: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "find_spec", lambda name: object())
    if torch.cuda.get_device_capability(GPU) >= (8, 9):
        assert choose_precision("fp8", GPU, calibrated=False).choice == "fp8"
        assert choose_dtype("fp8", GPU).choice == "bf16"
    else:
        with pytest.raises(ValueError, match="fp8"):
            choose_precision("fp8", GPU, calibrated=False)


@pytest.mark.parametrize("calibrated", [True, False])
def test_auto_is_fp32_on_every_processor(calibrated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bfloat16_pays", lambda: True)
    assert choose_precision("auto", CPU, calibrated=calibrated).choice == "fp32"


def test_int8_needs_pictures_and_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="calibrated on images: give calibration="):
        choose_precision("int8", CPU, calibrated=False)
    with pytest.raises(ValueError, match="Apple's GPUs"):
        choose_precision("int8", APPLE, calibrated=True)
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"needs the package 'openvino'; .* pip install 'convit\[quantize\]'"):
        choose_precision("int8", CPU, calibrated=True)
    with pytest.raises(ModuleNotFoundError, match="needs the package 'torchao'"):
        choose_precision("int8", GPU, calibrated=False)


def test_compiled_fp32_is_left_out_where_it_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "is_amd_avx512", lambda: True)
    monkeypatch.setattr(precision, "bfloat16_pays", lambda: True)
    assert choose_backend("fp32", CPU, compile=True).choice == "torch"
    assert choose_backend("bf16", CPU, compile=True).choice == "compiled"
    assert choose_backend("fp32", GPU, compile=True).choice == "compiled"


@pytest.mark.parametrize(
    ("known", "lacks"),
    [
        ({"avx2": True, "avx_vnni": False, "avx512_vnni": False, "amx_int8": False}, True),
        ({"avx2": True, "avx_vnni": False, "avx512_vnni": True, "amx_int8": False}, False),
        ({"avx2": True, "avx_vnni": True, "avx512_vnni": False, "amx_int8": False}, False),
        ({"neon": True}, False),
        ({}, False),
    ],
)
def test_a_processor_that_is_slow_at_int8_is_named(
    known: dict[str, bool], lacks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "capabilities", lambda: known)
    monkeypatch.setattr(plan, "lacks_int8", processor.lacks_int8.__wrapped__)
    reason = choose_backend("int8", CPU, compile=False).reason
    assert ("this processor has neither VNNI nor AMX, without which int8 took as long as fp32" in reason) is lacks


def test_what_runs_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "is_amd_avx512", lambda: False)
    assert choose_backend("fp32", CPU, compile=False).choice == "torch"
    assert choose_backend("fp32", CPU, compile=True).choice == "compiled"
    assert choose_backend("int8", CPU, compile=False).choice == "openvino"
    assert choose_backend("bf16", GPU, compile=False).choice == "cuda graph"
    assert choose_backend("fp8", GPU, compile=True).choice == "compiled"
    with pytest.raises(ValueError, match="compiled by OpenVINO"):
        choose_backend("int8", CPU, compile=True)
