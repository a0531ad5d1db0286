"""The fast form through torch.compile."""

import pytest
import torch

import convit
from convit.model import ConViT, ConViTConfig
from convit.optimization import plan
from tests.shaken import shake

pytestmark = [pytest.mark.compiled, pytest.mark.slow]

CONFIG = ConViTConfig(img_size=32, patch_size=8, num_heads=4, embed_dim=8, depth=3, local_up_to_layer=2, num_classes=5)


@pytest.fixture(autouse=True)
def _not_amd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "is_amd_avx512", lambda: False)  # where fp32 is not compiled


def test_compiled_for_one_batch_and_right_for_any() -> None:
    model = ConViT(CONFIG).eval()
    shake(model)
    fast = convit.optimize(model, "fp32", compile=True, batch_size=4)
    assert fast.plan.backend == "compiled"
    for count in (4, 3, 9):
        images = torch.randn(count, 3, 32, 32)
        torch.testing.assert_close(fast(images), model(images), atol=2e-5, rtol=2e-5)
    levels = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    eager = convit.optimize(model, "fp32")
    torch.testing.assert_close(fast(levels), eager(levels), atol=2e-5, rtol=2e-5)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="weights are laid out by MKL")
def test_compiled_code_lays_weights_out() -> None:
    from torch._inductor.utils import run_and_get_code

    fast = convit.optimize(ConViT(CONFIG).eval(), "fp32", compile=True)
    _, code = run_and_get_code(fast, torch.zeros(2, 3, 32, 32))
    assert "mkl_linear" in "".join(code)
