"""A folder that we write is a timm repository: timm and transformers read it without anything of ours."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

import convit
from convit.images import open_image
from convit.model import VARIANTS, ConViT
from convit.weights import class_names, save_weights
from tests.shaken import shake

NANO = "convit_nano_patch4_32"
SMALL = [name for name in VARIANTS if "patch" in name]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def logits_by_all(model: ConViT, folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """What we, timm and transformers compute from the same folder, for one image."""
    from transformers import AutoModelForImageClassification

    config = model.config
    image = torch.randn(1, config.in_chans, config.image_height, config.image_width)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    wrapped = AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model.eval()(image), theirs(image), wrapped(pixel_values=image).logits


def check_equal(folder: Path, name: str, **options: Any) -> None:
    torch.manual_seed(0)
    model = convit.create_model(name, **options)
    shake(model)
    save_weights(folder, model)
    ours, by_timm, by_transformers = logits_by_all(model, folder)
    assert ours.abs().max() > 0.05
    torch.testing.assert_close(by_timm, ours, rtol=0, atol=1e-5)
    torch.testing.assert_close(by_transformers, ours, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_small_variants_give_equal_logits(tmp_path: Path, name: str) -> None:
    check_equal(tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in SMALL])
def test_the_papers_variants_give_equal_logits(tmp_path: Path, name: str) -> None:
    check_equal(tmp_path, name)


@pytest.mark.parametrize(
    "options",
    [
        {"img_size": 64},
        {"in_chans": 1},
        {"in_chans": 5, "num_classes": 3},
        {"global_pool": "avg", "qkv_bias": True, "mlp_ratio": 2.5},
        {"depth": 3, "local_up_to_layer": 0, "use_pos_embed": False},
        {"num_heads": 1, "embed_dim": 20, "patch_size": 8, "locality_strength": 0.5},
        {"global_pool": "", "local_up_to_layer": 6},
        {"img_size": 4},
    ],
    ids=str,
)
def test_other_shapes_give_equal_logits(tmp_path: Path, options: dict[str, Any]) -> None:
    check_equal(tmp_path, NANO, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model of ten classes, as `save_weights` writes one."""
    folder = tmp_path_factory.mktemp("bundled")
    save_weights(folder, convit.create_model(f"{NANO}.cifar10", pretrained=True))
    return folder


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    from skimage.data import chelsea

    return Image.fromarray(chelsea())


def test_classes_preprocessing_and_terms_reach_timm(folder: Path) -> None:
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    ours = convit.create_model(f"{NANO}.cifar10", pretrained=True)
    card = ours.pretrained_cfg
    assert tuple(model.pretrained_cfg["label_names"]) == class_names("cifar10")
    found = timm.data.resolve_model_data_config(model)
    assert convit.data.resolve_model_data_config(ours) == {
        key: tuple(value) if isinstance(value, list) else value for key, value in found.items()
    }
    assert (model.pretrained_cfg["license"], model.pretrained_cfg["description"]) == (
        card["license"],
        card["trained_on"],
    )
    assert timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0, in_chans=1).num_classes == 0


def test_image_processor_prepares_as_we_do(folder: Path, photo: Image.Image) -> None:
    from transformers import AutoImageProcessor

    ours = convit.data.create_transform(**convit.data.resolve_model_data_config(convit.load_model(folder)))
    found = AutoImageProcessor.from_pretrained(folder)(photo)["pixel_values"]
    torch.testing.assert_close(found[0], ours(photo))


def test_pipelines_label_and_embed_as_we_do(folder: Path, photo: Image.Image, tmp_path: Path) -> None:
    from transformers import pipeline

    deep = tmp_path / "16 bits.png"
    Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * 257).save(deep)
    label = pipeline("image-classification", model=str(folder))
    own = convit.Classifier(convit.create_model(f"{NANO}.cifar10", pretrained=True))
    own.temperature = 1.0
    for image, opened in ((photo, photo), (deep, open_image(deep))):
        best, expected = label(opened)[0], own(image)[0]
        assert (best["label"], best["score"]) == (expected.label, pytest.approx(expected.score, abs=1e-5))
    found = pipeline("image-feature-extraction", model=str(folder), pool=True)(photo)
    vector = convit.Embedder(weights=folder)(photo)
    torch.testing.assert_close(torch.tensor(found).flatten(), torch.as_tensor(vector).flatten(), rtol=1e-4, atol=1e-4)


def test_auto_model_and_backbone_give_our_features(folder: Path) -> None:
    from transformers import AutoModel, TimmBackbone

    ours, images = convit.load_model(folder), torch.randn(2, 3, 32, 32)
    backbone = TimmBackbone.from_pretrained(f"local-dir:{folder}", out_indices=(2, 5)).eval()
    with torch.inference_mode():
        found = AutoModel.from_pretrained(folder).eval()(images, output_hidden_states=True)
        maps = backbone(images).feature_maps
        tokens, expected = ours.forward_intermediates(images, indices=[2, 5])
    torch.testing.assert_close(found.last_hidden_state, tokens, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.pooler_output, tokens[:, 0], rtol=0, atol=1e-4)
    assert len(found.hidden_states) == ours.config.depth
    torch.testing.assert_close(maps, tuple(expected), rtol=0, atol=1e-4)


def test_half_precision_files_compute_in_full_precision(tmp_path: Path) -> None:
    model = convit.create_model(NANO)
    shake(model)
    save_weights(tmp_path, model, dtype=torch.float16)
    ours, by_timm, by_transformers = logits_by_all(convit.load_model(tmp_path), tmp_path)
    torch.testing.assert_close(by_timm, ours, rtol=0, atol=1e-5)
    torch.testing.assert_close(by_transformers, ours, rtol=0, atol=1e-5)


def test_a_thousand_classes_without_names_are_not_taken_for_imagenets(tmp_path: Path) -> None:
    from transformers import AutoConfig

    save_weights(tmp_path, convit.create_model(NANO, num_classes=1000))
    assert AutoConfig.from_pretrained(tmp_path).id2label[455] == "class 455"


class Stripes(torch.utils.data.Dataset[dict[str, Any]]):
    """Two classes that are told apart at once."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": torch.full((3, 32, 32), float(index % 2)), "labels": index % 2}


def test_trainer_trains_resumes_and_leaves_a_folder_for_us(tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification, Trainer, TrainingArguments

    model = convit.create_model(NANO, num_classes=2, depth=2, local_up_to_layer=1)
    save_weights(tmp_path / "start", model, {"classes": ["dark", "light"]})

    def trainer(epochs: int) -> Trainer:
        own = AutoModelForImageClassification.from_pretrained(tmp_path / "start")
        arguments = TrainingArguments(
            str(tmp_path / "run"), num_train_epochs=epochs, save_strategy="epoch", per_device_train_batch_size=8,
            report_to=[], disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False, seed=1,
        )  # fmt: skip
        return Trainer(own, arguments, train_dataset=Stripes())

    trainer(1).train()
    resumed = trainer(2)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 4
    resumed.save_model(str(tmp_path / "end"))
    ours = convit.load_model(tmp_path / "end")
    assert ours.pretrained_cfg["label_names"] == ("dark", "light")
    images = torch.stack([Stripes()[index]["pixel_values"] for index in range(2)])
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), resumed.model.eval()(images).logits, rtol=0, atol=1e-5)


CANNOT = [
    ({"img_size": (32, 64)}, "grid of patches for square, but this one has 8 x 16"),
    ({"img_size": (8, 32)}, "has 2 x 8"),
    ({"img_size": 30, "dynamic_img_pad": True}, "pads no images"),
    ({"global_pool": "avg", "local_up_to_layer": 6}, "leaves the first patch out"),
]


@pytest.mark.parametrize(("options", "words"), CANNOT, ids=str)
def test_what_timm_cannot_compute_is_said_and_not_described(
    tmp_path: Path, options: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    save_weights(tmp_path, convit.create_model(NANO))
    assert (tmp_path / "config.json").is_file()
    model = convit.create_model(NANO, **options)
    save_weights(tmp_path, model)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    (record,) = caplog.records
    assert words in record.getMessage()
    assert "\n" not in record.getMessage()
    assert convit.load_model(tmp_path).config == model.config


def test_a_cnn_under_the_patches_is_said_and_not_described(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cnn = torch.nn.Conv2d(3, 8, 3, stride=4, padding=1)
    save_weights(tmp_path, convit.create_model(NANO, hybrid_backbone=cnn))
    assert "cannot hold the CNN" in caplog.text
    assert not (tmp_path / "config.json").exists()


def test_weights_that_are_written_over_a_runs_bring_their_description(tmp_path: Path) -> None:
    model = convit.create_model(NANO)
    save_weights(tmp_path, model)
    (tmp_path / "model.safetensors").rename(tmp_path / "weights.safetensors")
    (tmp_path / "model.safetensors").symlink_to("weights.safetensors")  # as runs have it
    model.reset_classifier(3)
    save_weights(tmp_path / "weights.safetensors", model)
    assert timm.create_model(f"local-dir:{tmp_path}", pretrained=True).num_classes == 3


def test_where_a_folder_is_written(tmp_path: Path) -> None:
    model = convit.create_model(NANO)
    for path in (tmp_path / "new", f"{tmp_path}/convit.mine/", tmp_path / "named" / "model.safetensors"):
        save_weights(path, model)
        folder = Path(path).parent if str(path).endswith(".safetensors") else Path(path)
        assert sorted(each.name for each in folder.iterdir()) == ["config.json", "model.safetensors"]
    save_weights(tmp_path / "single.safetensors", model)
    assert not (tmp_path / "config.json").exists()


def test_published_folders_keep_their_class_names(tmp_path: Path) -> None:
    # as timm's repositories are: the weights do not describe themselves, and config.json names no classes
    donor = convit.create_model("convit_tiny", img_size=32)
    torch.save(donor.state_dict(), tmp_path / "pytorch_model.bin")
    card = {"tag": "fb_in1k", "input_size": [3, 32, 32]}
    config = {"architecture": "convit_tiny", "num_classes": 1000, "pretrained_cfg": card}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for model in (convit.load_model(tmp_path), convit.create_model(f"local-dir:{tmp_path}", pretrained=True)):
        assert model.pretrained_cfg["label_names"] == class_names("imagenet1k")


def test_timms_identifiers_are_shown_in_words(tmp_path: Path) -> None:
    torch.save(convit.create_model(NANO, num_classes=2).state_dict(), tmp_path / "pytorch_model.bin")
    config = {
        "architecture": NANO,
        "num_classes": 2,
        "label_names": {"1": "n02", "0": "n01"},
        "label_descriptions": {"n01": "ant", "n02": "bee"},
        "pretrained_cfg": {"input_size": [3, 32, 32]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert convit.load_model(tmp_path).pretrained_cfg["label_names"] == ("ant", "bee")


def test_a_variant_keeps_its_name_without_our_description(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_weights(tmp_path, convit.create_model("convit_mini_patch8_64"))
    save_file(load_file(tmp_path / "model.safetensors"), tmp_path / "model.safetensors")
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == "convit_tiny"
    assert convit.load_model(tmp_path).pretrained_cfg["architecture"] == "convit_mini_patch8_64"


LIES = [
    ({"num_classes": 7, "label_names": None}, "it states 7 as num_classes, but the tensors have 10"),
    ({"label_names": ["a", "b"]}, "it names 2 classes, but num_classes is 10"),
    ({"model_args": {"img_size": 64}}, "patches"),
    ({"model_args": {"num_heads": 4}}, "but the tensors have"),
    ({"model_args": None}, "but the tensors have"),
    ({"architecture": "resnet50"}, "'resnet50', which is not a ConViT"),
    ({"architecture": None}, "names an architecture"),
]


@pytest.mark.parametrize(("changes", "words"), LIES, ids=lambda each: str(each)[:40])
def test_a_config_that_lies_or_lacks_a_field_is_one_line(
    tmp_path: Path, folder: Path, changes: dict[str, Any], words: str
) -> None:
    from safetensors.torch import load_file, save_file

    save_file(load_file(folder / "model.safetensors"), tmp_path / "model.safetensors")  # without our description
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
        if value is None:
            del config[key]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        convit.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
