"""transformers' timm wrapper on our class: the calls are those that read a timm folder, after one more import."""

from pathlib import Path

import pytest
import timm
import torch

import convit
from convit.model import ConViT
from convit.weights import save_weights
from tests.shaken import relative_error, shake


@pytest.mark.usefixtures("ours")
def test_a_folder_of_ours_becomes_our_class_in_timm_and_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForImageClassification

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = convit.create_model("convit_nano_patch4_32", in_chans=1).eval()
    shake(model)
    save_weights(tmp_path, model)
    made = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    wrapped = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    assert isinstance(made, ConViT)
    assert isinstance(wrapped.timm_model, ConViT)
    for size in ((32, 32), (16, 48)):
        images = torch.randn(2, 1, *size)
        with torch.inference_mode():
            assert relative_error(made(images), model(images)) < 1e-5
            assert relative_error(wrapped(pixel_values=images).logits, model(images)) < 1e-5
