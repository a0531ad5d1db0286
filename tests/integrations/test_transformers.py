"""transformers' timm wrapper on our class: the calls are those that read a timm folder, after one more import."""

from pathlib import Path
from typing import Any

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


class _Stripes(torch.utils.data.Dataset[dict[str, Any]]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": torch.full((3, 32, 32), float(index % 2)), "labels": index % 2}


@pytest.mark.usefixtures("ours")
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")
def test_trainer_checkpoints_activations_with_our_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's class refuses; ours ends with the weights of a training without."""
    from transformers import AutoModelForImageClassification, Trainer, TrainingArguments

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    save_weights(tmp_path / "start", convit.create_model("convit_nano_patch4_32", num_classes=2))
    ends: list[torch.Tensor] = []
    for asked in (False, True):
        model = AutoModelForImageClassification.from_pretrained(tmp_path / "start")
        arguments = TrainingArguments(
            str(tmp_path / "run"), max_steps=2, save_strategy="no", gradient_checkpointing=asked, report_to=[],
            disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False, seed=1,
        )  # fmt: skip
        Trainer(model, arguments, train_dataset=_Stripes()).train()
        assert model.timm_model.grad_checkpointing == asked
        ends.append(model.timm_model.head.weight.detach())
    torch.testing.assert_close(*ends)
