"""Weight files: what `save_weights` writes is read back, pickles stay harmless, and every wrong file has its line."""

import argparse
import errno
import json
import os
import pickle
import struct

import pytest
import torch
from safetensors.torch import load_file

from convit.model import ConViT, ConViTConfig
from convit.weights import create_model, load_model, load_weights, save_weights
from convit.weights.header import read_header, read_metadata


@pytest.fixture
def nano():
    return create_model("convit_nano_patch4_32", num_classes=3)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_saved_file_describes_the_model_fully(tmp_path):
    config = ConViTConfig(
        img_size=(24, 40),
        patch_size=8,
        in_chans=1,
        num_classes=2,
        depth=3,
        local_up_to_layer=2,
        embed_dim=8,
    )
    model = ConViT(config)
    model.pretrained_cfg = {"mean": (0.5,), "std": (0.25,), "crop_mode": "squash", "label_names": ("no", "yes")}
    path = tmp_path / "made" / "mine.safetensors"
    save_weights(path, model, {"trained_on": "two pictures", "license": "none", "note": [1, 2.5, None]})
    loaded = load_model(path)
    assert loaded.config == config
    assert same(loaded.state_dict(), model.state_dict())
    card = loaded.pretrained_cfg
    assert (card["mean"], card["std"], card["crop_mode"], card["crop_pct"]) == ((0.5,), (0.25,), "squash", 0.875)
    assert (card["label_names"], card["trained_on"], card["license"]) == (("no", "yes"), "two pictures", "none")
    assert (card["input_size"], card["source"], card["file"]) == ((1, 24, 40), "file", str(path))
    assert read_metadata(path)["note"] == [1, 2.5, None]
    save_weights(tmp_path / "again.safetensors", loaded)
    assert (
        read_metadata(tmp_path / "again.safetensors").items()
        >= {"trained_on": "two pictures", "license": "none"}.items()
    )


def test_half_precision_file_is_half_the_size_and_loads_as_fp32(tmp_path, nano):
    save_weights(tmp_path / "full.safetensors", nano)
    save_weights(tmp_path / "half.safetensors", nano, dtype=torch.float16)
    sizes = [(tmp_path / name).stat().st_size for name in ("half.safetensors", "full.safetensors")]
    assert sizes[0] < 0.52 * sizes[1]
    loaded = load_model(tmp_path / "half.safetensors").state_dict()
    for name, tensor in nano.state_dict().items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], tensor.half().float())


def test_drop_rates_of_training_stay_behind(tmp_path):
    save_weights(tmp_path / "a.safetensors", create_model("convit_nano_patch4_32", drop_path_rate=0.3, drop_rate=0.1))
    assert load_model(tmp_path / "a.safetensors").config.drop_path_rate == 0.0
    assert load_model(tmp_path / "a.safetensors", drop_path_rate=0.2).config.drop_path_rate == 0.2


def test_compiled_model_is_saved_under_its_own_names(tmp_path, nano):
    compiled = torch.nn.Module()  # as torch.compile wraps a model, without the seconds that its import takes
    compiled._orig_mod = nano
    save_weights(tmp_path / "a.safetensors", compiled)
    assert load_file(tmp_path / "a.safetensors").keys() == nano.state_dict().keys()


def test_saving_what_cannot_be_saved(tmp_path, nano):
    with pytest.raises(ValueError, match=r"weights are written as safetensors, but .*; name it .*a.safetensors"):
        save_weights(tmp_path / "a.pth", nano)
    with pytest.raises(TypeError, match="metadata cannot be written as JSON"):
        save_weights(tmp_path / "a.safetensors", nano, {"when": object()})
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_the_old_file(tmp_path, nano, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        OSError, match=r"a\.safetensors: no space left on the device; free some, or write to another place"
    ) as caught:
        save_weights(path, nano)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_saving_in_a_place_without_permission(nano):
    with pytest.raises((PermissionError, FileNotFoundError)):
        save_weights("/proc/convit/a.safetensors", nano)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrap", [None, "model", "state_dict", "model_ema", "state_dict_ema"])
def test_pytorch_files_and_their_wrappers(tmp_path, nano, wrap, legacy):
    state = nano.state_dict()
    content = state if wrap is None else {wrap: state, "epoch": 3, "optimizer": {}, "args": argparse.Namespace(lr=0.1)}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    tensors, metadata = load_weights(tmp_path / "a.pth")
    assert same(tensors, state)
    assert metadata == {}


def test_averaged_weights_come_first(tmp_path, nano):
    averaged = {
        name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in nano.state_dict().items()
    }
    torch.save({"model": nano.state_dict(), "model_ema": averaged}, tmp_path / "a.pth")
    assert same(load_weights(tmp_path / "a.pth")[0], averaged)
    torch.save({"model": nano.state_dict(), "model_ema": None}, tmp_path / "a.pth")
    assert same(load_weights(tmp_path / "a.pth")[0], nano.state_dict())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_prefixes_are_taken_off(tmp_path, nano, prefix):
    torch.save({prefix + name: tensor for name, tensor in nano.state_dict().items()}, tmp_path / "a.ckpt")
    assert same(load_weights(tmp_path / "a.ckpt")[0], nano.state_dict())


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_pickle_that_would_run_code_is_refused(tmp_path, nano, capsys):
    torch.save({"model": nano.state_dict(), "extra": Evil()}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(ValueError, match=r"holds more than tensors.*is refused; if you trust it") as caught:
            load_weights(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert "code ran" not in capsys.readouterr().out


def test_wrong_files(tmp_path, nano):
    whole, pickled = tmp_path / "whole.safetensors", tmp_path / "whole.pth"
    save_weights(whole, nano)
    torch.save(nano.state_dict(), pickled)
    files = {
        "cut.safetensors": whole.read_bytes()[:5000],
        "cut2.safetensors": whole.read_bytes()[:-10],
        "text.safetensors": b"version https://git-lfs.github.com/spec/v1",
        "empty.safetensors": b"",
        "cut.pth": pickled.read_bytes()[:50_000],
        "text.bin": b"hello, I am a text",
        "empty.pth": b"",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            ValueError, match=rf"{name} is not a (safetensors|PyTorch) file, or it was cut off"
        ) as caught:
            load_weights(tmp_path / name)
        assert "\n" not in str(caught.value)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(
        ValueError, match=r"photo.jpg is not a weight file that can be read here; those end in .safetensors, .pth"
    ):
        load_weights(tmp_path / "photo.jpg")
    for name in ("model.onnx", "predict.py"):  # an exported folder
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"model.onnx is not a weight .*; an exported folder holds none: name what it"):
        load_weights(tmp_path / "model.onnx")
    with pytest.raises(FileNotFoundError, match=r"there is no weight file .*nowhere.pth; check the path"):
        load_weights(tmp_path / "nowhere.pth")


def test_contents_that_are_no_state_dict(tmp_path):
    for content, message in (
        ([torch.zeros(1)], "holds a list, but must hold tensors by name"),
        ({}, "holds nothing, but must hold tensors by name"),
        (
            {"epoch": 3},
            r"holds a int under 'epoch', but must hold tensors by name .a state dict, or one under state_dict_ema",
        ),
    ):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(ValueError, match=message):
            load_weights(tmp_path / "a.pth")


def test_folders(tmp_path, nano):
    with pytest.raises(FileNotFoundError, match="there is no weight file in"):
        load_weights(tmp_path)
    torch.save({"head.bias": torch.ones(3)}, tmp_path / "b.pth")
    assert load_weights(tmp_path)[0].keys() == {"head.bias"}
    torch.save({"head.bias": torch.ones(3)}, tmp_path / "c.pth")
    with pytest.raises(ValueError, match=r"holds several weight files .b.pth, c.pth.; name one of them"):
        load_weights(tmp_path)
    save_weights(tmp_path / "model.safetensors", nano)
    assert same(load_weights(tmp_path)[0], nano.state_dict())


def test_folder_with_a_hub_configuration(tmp_path):
    model = create_model("convit_nano_patch4_32", num_classes=2, img_size=(16, 64))
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    config = {
        "architecture": "convit_nano_patch4_32",
        "num_classes": 2,
        "label_names": ["no", "yes"],
        "model_args": {"img_size": [16, 64]},
        "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.1, 0.2, 0.3], "crop_mode": "border"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    file = tmp_path / "pytorch_model.bin"
    for loaded in (
        load_model(tmp_path),
        load_model(file),
        create_model(f"local-dir:{tmp_path}", pretrained=True),
        create_model("convit_nano_patch4_32", checkpoint_path=file),
    ):
        assert same(loaded.state_dict(), model.state_dict())
        card = loaded.pretrained_cfg
        assert (card["input_size"], card["mean"], card["crop_mode"]) == ((3, 16, 64), (0.1, 0.2, 0.3), "border")
        assert card["label_names"] == ("no", "yes")
    assert load_weights(file, alone=True)[1] == {}
    file.rename(tmp_path / "mine.bin")  # not known to belong together
    assert load_weights(tmp_path / "mine.bin")[1] == {}
    (tmp_path / "config.json").write_text('{"architectures": ["other"]}')
    with pytest.raises(ValueError, match=r"has no config.json that names an architecture"):
        create_model(f"local-dir:{tmp_path}", pretrained=True)


def test_header_is_read_without_the_tensors(tmp_path, nano):
    save_weights(tmp_path / "a.safetensors", nano)
    header = read_header(tmp_path / "a.safetensors")
    assert header["head.weight"]["shape"] == [3, nano.num_features]
    text = json.dumps({"__metadata__": {"convit": "[1]"}}).encode()
    (tmp_path / "b.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(ValueError, match="is not a JSON object; the file is damaged"):
        read_metadata(tmp_path / "b.safetensors")
