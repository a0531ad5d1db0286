"""The table of weight sets, the bundled ones read from their own files, and the class names."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from convit.finetuning.options import is_weight_file
from convit.transforms import TransformSettings
from convit.weights import (
    WEIGHT_SETS,
    class_names,
    class_wnids,
    create_model,
    default_weight_set,
    find_weight_set,
    is_cached,
    list_pretrained,
    load_model,
    save_weights,
)
from convit.weights import weight_sets as table
from convit.weights.weight_sets import bundled_weight_set, local_weights

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
RELEASED = {"convit_tiny": (73.14, 91.70), "convit_small": (81.41, 95.74), "convit_base": (82.30, 95.94)}
NANO = "convit_nano_patch4_32.cifar10"


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    """A folder as the package ships it, with made-up weights and figures."""
    model = create_model("convit_nano_patch4_32")
    description = {
        "classes": list(class_names("cifar10")),
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.2, 0.25],
        "crop_pct": 1.0,
        "trained_on": "nothing at all",
        "license": "as you like",
    }
    file = tmp_path / f"{NANO}.safetensors"
    save_weights(file, model, description)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    report = {
        "top1": 12.5,
        "top5": 50.0,
        "loss": 2.3,
        "count": 8000,
        "weights_sha256": digest,
        "data_sha256": "ba07" * 16,
    }
    (tmp_path / f"{NANO}.json").write_text(json.dumps(report))
    monkeypatch.setattr(table, "BUNDLED_FOLDER", tmp_path)
    table.all_weight_sets.cache_clear()
    yield tmp_path
    table.all_weight_sets.cache_clear()


@pytest.mark.parametrize("architecture", RELEASED)
def test_released_files(architecture):
    weight_set = find_weight_set(f"{architecture}.fb_in1k")
    assert find_weight_set(architecture) is weight_set
    assert weight_set.hub_repo == f"timm/{architecture}.fb_in1k"
    assert weight_set.url == f"https://dl.fbaipublicfiles.com/convit/{architecture}.pth"
    assert (weight_set.top1, weight_set.top5) == RELEASED[architecture]
    assert weight_set.preprocessing == TransformSettings((3, 224, 224), "bicubic", *IMAGENET, 0.875, "center")
    assert weight_set.license == "Apache-2.0"
    assert "timm" in weight_set.measured_by
    assert all(each.source.startswith("timm") for each in weight_set.published)
    assert weight_set.published[1].data == "imagenet-real"
    assert weight_set.label_names == class_names("imagenet1k")


def test_bundled_set_is_read_from_its_files(bundled):
    weight_set = WEIGHT_SETS[NANO]
    assert weight_set.source == "bundled"
    assert weight_set.published == ()
    assert weight_set.file == bundled / f"{NANO}.safetensors"
    assert weight_set.sha256 == hashlib.sha256(weight_set.file.read_bytes()).hexdigest()
    assert (weight_set.top1, weight_set.top5) == (12.5, 50.0)
    assert weight_set.measured_by == "`convit evaluate` on 8000 images (data sha256 ba07ba07ba07)"
    preprocessing = weight_set.preprocessing
    assert (preprocessing.mean, preprocessing.crop_pct, weight_set.input_size) == ((0.5, 0.4, 0.3), 1.0, (3, 32, 32))
    assert (weight_set.classes, weight_set.num_classes) == ("cifar10", 10)
    assert (weight_set.trained_on, weight_set.license) == ("nothing at all", "as you like")
    assert is_cached(weight_set)
    assert default_weight_set("convit_nano_patch4_32") is weight_set
    assert NANO in list_pretrained()


def test_bundled_model_needs_no_network(bundled):
    model = create_model(NANO, pretrained=True)
    card = model.pretrained_cfg
    assert (card["source"], card["tag"], card["label_names"][3]) == ("bundled", "cifar10", "cat")
    assert (card["mean"], card["crop_pct"], card["input_size"]) == ((0.5, 0.4, 0.3), 1.0, (3, 32, 32))
    assert (card["license"], card["trained_on"]) == ("as you like", "nothing at all")


def test_labels_of_a_bare_state_dict_are_guessed_for_imagenet_only(bundled, tmp_path):
    torch.save(create_model("convit_nano_patch4_32").state_dict(), tmp_path / "ten.pth")
    assert load_model(tmp_path / "ten.pth").pretrained_cfg["label_names"] is None
    torch.save(create_model("convit_tiny").state_dict(), tmp_path / "thousand.pth")
    assert load_model(tmp_path / "thousand.pth").pretrained_cfg["label_names"][281] == "tabby"


def test_bundled_set_without_figures_says_none(bundled):
    (bundled / f"{NANO}.json").unlink()
    weight_set = bundled_weight_set(NANO, bundled)
    assert (weight_set.top1, weight_set.sha256, weight_set.measured_by) == (None, None, "")
    (bundled / f"{NANO}.json").write_text("{")
    with pytest.raises(ValueError, match=r"is not valid JSON \(.*\); write it again with `convit evaluate`"):
        bundled_weight_set(NANO, bundled)


def test_bundled_file_that_is_missing_or_says_too_little(bundled):
    create = create_model("convit_nano_patch4_32")
    save_weights(bundled / f"{NANO}.safetensors", create)
    with pytest.raises(ValueError, match=r"lacks 'classes'; install convit again"):
        bundled_weight_set(NANO, bundled)
    (bundled / f"{NANO}.safetensors").unlink()
    table.all_weight_sets.cache_clear()
    assert NANO not in WEIGHT_SETS
    with pytest.raises(FileNotFoundError, match="missing from this installation; install convit again"):
        find_weight_set(NANO)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convit_bse.fb_in1k", r"did you mean 'convit_base.fb_in1k' or "),
        ("convit_base.fb_in22k", r"did you mean 'convit_base.fb_in1k'"),
        ("convit_base_plus", r"the authors released convit_tiny, convit_small and convit_base only"),
        ("???", r"there are convit_tiny.fb_in1k, convit_small.fb_in1k, convit_base.fb_in1k"),
    ],
)
def test_weights_that_do_not_exist(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        find_weight_set(name)
    assert "\n" not in str(caught.value)


def test_table_and_labels_need_no_torch():
    code = (
        "import sys; from convit.weights import WEIGHT_SETS, class_names, is_cached; "
        "[is_cached(each) for each in WEIGHT_SETS.values()]; class_names('imagenet1k'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_labels():
    names = class_names("imagenet1k")
    assert len(names) == len({name.lower() for name in names}) == 1000
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")
    assert (names[134], names[517]) == ("crane (bird)", "crane (machine)")
    assert (names[638], names[639]) == ("maillot (tights)", "maillot (tank suit)")
    wnids = class_wnids("imagenet1k")
    assert list(wnids) == sorted(wnids)
    assert wnids[134] == "n02012849"
    assert class_names("cifar10")[3] == "cat"
    assert class_wnids("cifar10") == (None,) * 10
    with pytest.raises(ValueError, match="there is no label set 'coco'; there are imagenet1k, cifar10"):
        class_names("coco")


def test_a_published_name_is_no_file_and_a_file_may_be_called_like_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "convit_tiny").mkdir()
    (tmp_path / "convit_tiny.pth").touch()
    for name, path in (
        ("convit_tiny", None),
        ("./convit_tiny", Path("convit_tiny")),
        ("convit_tiny.pth", Path("convit_tiny.pth")),
        ("convit_tiny.fb_in1k", None),
        ("hf-hub:convit_tiny", None),
        ("nowhere", None),
    ):
        assert local_weights(name) == path
        assert is_weight_file(name) is (path is not None)
    with pytest.raises(FileNotFoundError, match=r"there is no weight file convit_small\.pth"):
        is_weight_file("convit_small.pth")
