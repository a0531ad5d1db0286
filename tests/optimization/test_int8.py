"""int8: OpenVINO on the CPU, torchao's quantizer, on the weights in the package."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

import convit
from convit.optimization import plan
from convit.optimization.products import PlainProduct, quantize
from convit.transforms import TransformSettings, normalize_batch

# torch.export cannot read through functions whose shapes are checked
pytestmark = [pytest.mark.compiled, pytest.mark.slow]


@pytest.fixture(scope="module")
def model() -> convit.ConViT:
    return convit.create_model("convit_nano_patch4_32.cifar10", pretrained=True).eval()


def _pictures(count: int, size: int = 32) -> Tensor:
    """Smooth color fields as 8-bit levels: nearer to photographs than noise is."""
    coarse = torch.rand(count, 3, 5, 5)
    return (255 * torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)).to(torch.uint8)


def test_nothing_is_sent_to_anyone(model: convit.ConViT, monkeypatch: pytest.MonkeyPatch) -> None:
    from openvino_telemetry import Telemetry
    from openvino_telemetry.utils.sender import TelemetrySender

    sent: list[object] = []
    monkeypatch.setattr(TelemetrySender, "send", lambda *given: sent.append(given))
    fast, levels = convit.optimize(model, "int8", calibration=_pictures(2)), _pictures(3)
    torch.testing.assert_close(copy.deepcopy(fast)(levels), fast(levels))  # quantized once more
    assert sent == []
    assert not Telemetry().consent


def test_openvino_gives_nearly_the_same(
    model: convit.ConViT, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plan, "lacks_int8", lambda: True)
    with caplog.at_level("INFO", "convit"):
        fast = convit.optimize(model, "int8", calibration=_pictures(24))
    assert caplog.messages == [f"int8 is hardly faster here: {plan.WITHOUT_INT8}"]
    assert (fast.plan.precision, fast.plan.backend) == ("int8", "openvino")
    levels = _pictures(64)
    images = normalize_batch(levels.permute(0, 2, 3, 1), TransformSettings.from_model(model))
    with torch.inference_mode():
        exact = model(images)
    found = fast(images)
    torch.testing.assert_close(fast(levels), found)
    assert (found - exact).square().mean().sqrt() <= 0.1 * exact.square().mean().sqrt()
    features, reference = fast.forward_features(images[:8]), model.forward_features(images[:8])
    assert features.shape == reference.shape
    assert (features - reference).square().mean().sqrt() <= 0.2 * reference.square().mean().sqrt()
    times = fast.layer_times(images)
    assert sum(times.values()) > 0
    assert list(times.values()) == sorted(times.values(), reverse=True)
    with pytest.raises(ValueError, match=r"calibrated for \(3, 32, 32\)"):
        fast(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="no intermediate layers"):
        fast.forward_intermediates(images)


def test_rare_large_values_are_not_cut_off() -> None:
    """The channels of these weights differ more; ranges that are means over images cost 13 % instead of 8."""
    model = convit.create_model("convit_mini_patch8_64.tiny_imagenet", pretrained=True).eval()
    fast, levels = convit.optimize(model, "int8", calibration=_pictures(24, 64)), _pictures(64, 64)
    with torch.inference_mode():
        exact = convit.optimize(model, "fp32")(levels)
    found = fast(levels)
    assert (found - exact).square().mean().sqrt() <= 0.1 * exact.square().mean().sqrt()
    first, second = exact.topk(2).values.unbind(1)
    is_clear = first - second > 1
    assert is_clear.sum() >= 8
    torch.testing.assert_close(found.argmax(1)[is_clear], exact.argmax(1)[is_clear])


def test_calibration_images_must_agree(model: convit.ConViT) -> None:
    with pytest.raises(ValueError, match="4 images of 2 sizes"):
        convit.optimize(model, "int8", calibration=[torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 64, 64)])
    with pytest.raises(ValueError, match="0 images"):
        convit.optimize(model, "int8", calibration=[])


def test_torchao_quantizes_the_products_alone(model: convit.ConViT, tmp_path: Path) -> None:
    fast = convit.optimize(
        model, "fp32", compile=True
    )  # with PyTorch's own products; nothing is compiled before a call
    folded, images = fast.model, torch.randn(16, 3, 32, 32)
    exact = folded(images)
    quantize(folded, "int8")
    kinds = {type(module.weight).__name__ for module in folded.modules() if isinstance(module, PlainProduct)}
    assert kinds.isdisjoint({"Parameter", "Tensor"})
    assert type(folded.head.weight).__name__ == "Parameter"
    assert (folded(images) - exact).square().mean().sqrt() <= 0.05 * exact.square().mean().sqrt()
