"""Weight files that are damaged, made to harm, or hold more than a model: one documented error, or the model."""

import io
import json
import logging
import struct
import zipfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import convit
from convit.model import ConViT, ConViTConfig, FeatureExtractor
from convit.weights import create_model, load_model, load_weights, save_weights
from convit.weights.header import read_metadata

CONFIG = ConViTConfig(img_size=16, patch_size=8, num_classes=3, embed_dim=4, depth=2, local_up_to_layer=1)


@pytest.fixture
def model() -> ConViT:
    return ConViT(CONFIG)


def write_description(path: Path, model: ConViT, text: str) -> Path:
    path.write_bytes(save(model.state_dict(), {"format": "pt", "convit": text}))
    return path


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("config.depth", 2**64, "depth is 18446744073709551616, but must be a whole number"),
        ("config.depth", 1000, "states 1000 as depth, but the tensors have 2"),
        ("config.depth", 1001, "depth is 1001, but must be a whole number of at least 1 and at most 1,000"),
        ("config.depth", 2.0, "depth is 2.0, but must be a whole number"),
        ("config.embed_dim", 10**6, "states 4000000 as dim, but the tensors have 16"),
        ("config.embed_dim", "wide", "embed_dim is 'wide'"),
        ("config.num_heads", [4], r"num_heads is \(4,\)"),
        ("config.num_classes", 10**6, "as num_classes, but the tensors have 3"),
        ("config.local_up_to_layer", 0, "as local_up_to_layer, but the tensors have 1"),
        ("config.mlp_ratio", 10**400, "mlp_ratio is 1000"),
        ("config.drop_rate", 10**400, "drop_rate is 1000"),
        ("config.mlp_ratio", 1e9, "mlp_ratio is 1000000000.0, but must lie in"),
        ("config.mlp_ratio", 1e5, "states 1600000 as hidden, but the tensors have 64"),
        ("config.mlp_ratio", float("nan"), "mlp_ratio is nan"),
        ("config.drop_rate", "0.1", "drop_rate is '0.1'"),
        ("config.img_size", [2**19, 2**19], "as patches, but the tensors have 4"),
        ("config.img_size", [16, 16, 16], "must be a side or"),
        ("config.img_size", {"height": 16}, "must be a side or"),
        ("config.patch_size", 4, "states 4 as patch_size, but the tensors have 8"),
        ("config.use_pos_embed", "", None),
        ("config.wings", 2, "'wings' is not a ConViT option"),
        ("config", [1, 2], r"its config is \[1, 2\], but must be an object"),
        ("architecture", ["convit_tiny"], "its architecture is .'convit_tiny'., but must be text"),
        ("license", 7, "its license is 7, but must be text"),
        ("classes", "abc", "must be a list of names"),
        ("classes", ["a", ["b"], "c"], "must be a list of names"),
        ("input_size", [3, 16], "input_size is .*, but must be"),
        ("input_size", [3, 2**40, 2**40], "input_size is .*, but must be"),
        ("mean", ["a", "b", "c"], "mean is .*, but must be numbers"),
        ("mean", [10**400] * 3, "mean is .*, but must be numbers"),
        ("std", [float("inf")] * 3, "std is .*, but must be numbers"),
        ("crop_pct", 1e-320, "crop_pct is .*, but must lie in"),
        ("calibration", {"temperature": 10**400}, "holds the temperature 1000"),
        ("calibration", [1.0], "holds the temperature None"),
        ("interpolation", {}, "interpolation is {}, but must be one of"),
    ],
)
def test_descriptions_that_are_not_the_tensors(
    model: ConViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, value: Any, words: str | None
) -> None:
    save_weights(tmp_path / "a.safetensors", model)
    card = read_metadata(tmp_path / "a.safetensors")
    section, _, name = place.rpartition(".")
    (card[section] if section else card)[name] = value
    path = write_description(tmp_path / "b.safetensors", model, json.dumps(card))
    if words is None:
        load_weights(path)
        return
    monkeypatch.setattr("convit.weights.factory.ConViT", pytest.fail)  # refused before anything is built
    with pytest.raises(ValueError, match=rf"the description inside .*b\.safetensors is not that .*{words}") as caught:
        load_model(path)
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["[" * 100_000, '{"config": ' + "9" * 5000 + "}", "null", '{"a": "b"', "\ud800"])
def test_descriptions_that_are_not_json(model: ConViT, tmp_path: Path, text: str) -> None:
    path = write_description(tmp_path / "a.safetensors", model, "")
    header = json.dumps({"__metadata__": {"convit": text}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ValueError, match=r"is not a (JSON object|safetensors file)"):
        load_model(path)
    with pytest.raises(ValueError, match="is not a JSON object"):
        read_metadata(path)


def test_headers_that_are_not_headers(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for text in (
        b"[" * 100_000,
        b'{"__metadata__": 3}',
        b'{"a": {"dtype": "F3", "shape": [], "data_offsets": [0, 0]}}',
    ):
        path.write_bytes(struct.pack("<Q", len(text)) + text)
        with pytest.raises(ValueError, match="is not a safetensors file"):
            load_weights(path)


def repacked(content: bytes, changes: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive with some members (by the end of their names) changed."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(result, "w", compression) as after:
        for name in before.namelist():
            changed = [new for end, new in changes.items() if name.endswith(end)]
            after.writestr(name, changed[0] if changed else before.read(name))
    return result.getvalue()


def pickled(content: object, *, is_zip: bool = True) -> bytes:
    torch.save(content, buffer := io.BytesIO(), _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


def test_damaged_pickles_end_in_one_error(model: ConViT, tmp_path: Path) -> None:
    whole, old = pickled(model.state_dict()), pickled(model.state_dict(), is_zip=False)
    damaged = {
        "directory": whole.replace(b"PK\x01\x02", b"PK\x01\x03"),
        "version": repacked(whole, {"version": b"no number\n"}),
        "byteorder": repacked(whole, {"byteorder": b"middle"}),
        "storage": repacked(whole, {"data/3": b"1"}),
        "no pickle": repacked(whole, {"data.pkl": b""}),
        "cut pickle": repacked(whole, {"data.pkl": b"\x80\x02}q\x00(X\xff\xff\xff\x7f"}),
        "frame": b"\x80\x04\x95" + b"\xff" * 8,
        "long integer": b"\x80\x02\x8b\xff\xff\xff\x7f",
        "old and cut": old[: len(old) - 700],
        "old and short": old[:30],
    }
    for name, content in damaged.items():
        (path := tmp_path / "a.pth").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.pth (is not a PyTorch file|holds more than tensors)") as caught:
            load_weights(path)
        assert type(caught.value) is ValueError, name
        assert "\n" not in str(caught.value)


def test_archives_that_unfold_without_end_are_refused(tmp_path: Path) -> None:
    whole = pickled({"cls_token": torch.zeros(1, 1, 1 << 20)})
    (path := tmp_path / "a.pth").write_bytes(repacked(whole, {}, zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match="is not a PyTorch file"):
        load_weights(path)


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("pos_embed", torch.zeros(1).expand(1, 10**7, 16), "without all its numbers"),
        ("cls_token", torch.zeros(1, 1, 16).to_sparse(), "without all its numbers"),
        ("cls_token", torch.zeros(1, 1, 16, dtype=torch.complex64), r"holds torch.complex64 in cls_token"),
        ("norm.bias", torch.zeros(16, dtype=torch.int8), r"holds torch.int8 in norm.bias"),
        ("cls_token", torch.tensor(1.0), "cls_token is a single number, but the model's is 1 x 1 x 16"),
        ("patch_embed.proj.weight", torch.zeros(16, 0, 8, 8), "in_chans is 0"),
        ("patch_embed.proj.weight", torch.zeros(1, 1, 900, 900), "patch_embed.proj.weight is 1 x 1 x 900 x 900"),
        ("pos_embed", torch.zeros(1, 0, 16), "pos_embed is 1 x 0 x 16"),
        ("pos_embed", torch.zeros(2, 4, 16), "pos_embed is 2 x 4 x 16"),
        ("blocks.0.attn.gating_param", torch.tensor(1.0), "gating_param is a single number"),
        ("head.bias", torch.zeros(2, 2), "head.bias is 2 x 2"),
        ("x" * 100_000, torch.zeros(1), "which the model does not have"),
    ],
)
def test_tensors_that_no_model_has(tmp_path: Path, name: str, tensor: Tensor, words: str) -> None:
    from convit.weights import adapt_weights
    from convit.weights.adapt import infer_config, recognize

    model = ConViT(CONFIG)
    (path := tmp_path / "a.pth").write_bytes(pickled({**model.state_dict(), name: tensor}))

    def load() -> None:
        tensors, _ = load_weights(path)
        recognize(tensors)
        infer_config(tensors, CONFIG)
        adapt_weights(tensors, model)

    with pytest.raises(ValueError, match=words) as caught:
        load()
    assert len(str(caught.value)) < 1000


def test_a_key_may_not_fill_the_message(tmp_path: Path) -> None:
    key: Any = ("x",) * 8
    for _ in range(6):
        key = (key,) * 8
    (path := tmp_path / "a.pth").write_bytes(pickled({key: torch.zeros(1)}))
    with pytest.raises(ValueError, match="must hold tensors by name") as caught:
        load_weights(path)
    assert len(str(caught.value)) < 2000


def test_float8_files_are_read(model: ConViT, tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", model, dtype=torch.float8_e4m3fn)
    resized = load_model(tmp_path / "a.safetensors", img_size=32, in_chans=1)
    assert resized.pos_embed is not None
    assert resized.pos_embed.dtype == torch.float32


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "holds a list, not a JSON object; copy or fetch it again"),
        ('{"architecture": ["convit_tiny"]}', "which is not a ConViT"),
        ('{"architecture": "' + "convit_" * 50_000 + '"}', "which is not a ConViT"),
        ('{"architecture": "convit_tiny", "pretrained_cfg": [1]}', "is not as timm writes it"),
        ('{"architecture": "convit_tiny", "model_args": "depth=3"}', "is not as timm writes it"),
        ('{"architecture": "convit_tiny", "model_args": {"wings": 2}}', "'wings' is not a ConViT option"),
        ('{"architecture": "convit_tiny", "model_args": {"depth": 1e99}}', "depth is 1e.99, but must be"),
        ('{"architecture": "convit_tiny", "pretrained_cfg": {"input_size": [3, 224]}}', "is not as timm writes it"),
        ('{"architecture": "convit_tiny", "pretrained_cfg": {"mean": "gray"}}', "mean is 'gray'"),
        ('{"architecture": "convit_tiny", "label_names": {"a": 1}, "num_classes": 1}', None),
        ('{"architecture": "convit_tiny", "label_names": [1, 2], "num_classes": 2}', "must be a list of names"),
    ],
)
def test_hub_configurations_that_are_damaged(tmp_path: Path, content: str, words: str | None) -> None:
    from convit.weights.timm_config import read_hub_config

    (path := tmp_path / "config.json").write_text(content)
    if words is None:
        assert read_hub_config(path)["classes"] == ["a"]
        return
    with pytest.raises(ValueError, match=words) as caught:
        read_hub_config(path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("options", [{"depth": 999}, {"embed_dim": 2**19}, {"mlp_ratio": 1e5}, {"num_classes": 10**6}])
def test_hub_configurations_are_checked_against_the_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    torch.save(create_model("convit_nano_patch4_32").state_dict(), tmp_path / "pytorch_model.bin")
    config = {"architecture": "convit_nano_patch4_32", "num_classes": 10, "model_args": options}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("convit.weights.factory.ConViT", pytest.fail)
    files = {"config.json": tmp_path / "config.json"}
    monkeypatch.setattr(
        "convit.weights.resolving.fetch_hub_file",
        lambda repo, names=("pytorch_model.bin",), cache_dir=None: files.get(names[0], tmp_path / "pytorch_model.bin"),
    )
    for load in (load_model, lambda path: create_model("hf-hub:some/one", pretrained=True)):
        with pytest.raises(
            ValueError, match=r"the description inside .*config\.json.* is not that .* states .* tensors"
        ):
            load(tmp_path)


class Trained(nn.Module):
    """What a training script may have around a model."""

    def __init__(self, model: ConViT) -> None:
        super().__init__()
        self.net = model
        self.criterion = nn.Linear(2, 2)
        self.register_buffer("steps", torch.tensor(7))


def test_what_surrounds_a_complete_model_is_taken_off_and_named(
    model: ConViT, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state, path = model.state_dict(), tmp_path / "a.pth"
    trained = Trained(deepcopy(model))
    surrounded: list[tuple[object, str]] = [
        (AveragedModel(deepcopy(model)).state_dict(), "left out what stands beside the model: 'n_averaged'"),
        (trained.state_dict(), "'steps', 'criterion.weight', 'criterion.bias'"),
        ({"state_dict": AveragedModel(trained).state_dict(), "epoch": 3}, "'n_averaged', 'module.steps', "),
        ({"net": state, "optimizer": {"lr": 0.1}, "epoch": 3}, ""),
        ({"model": {"depth": 2}, "swa_model": AveragedModel(deepcopy(model)).state_dict()}, "'n_averaged'"),
        ({f"a.b.{name}": each for name, each in state.items()} | {"epoch": 3}, "'epoch'"),
    ]
    for content, words in surrounded:
        caplog.clear()
        path.write_bytes(pickled(content))
        with caplog.at_level(logging.WARNING):
            tensors, _ = load_weights(path)
        assert tensors.keys() == state.keys()
        assert all(torch.equal(tensors[name], each) for name, each in state.items())
        assert words in caplog.text
        assert bool(words) == bool(caplog.records)


def test_a_file_of_an_averaged_variant_is_rebuilt(tmp_path: Path) -> None:
    nano = create_model("convit_nano_patch4_32", num_classes=3)
    torch.save(AveragedModel(nano).state_dict(), tmp_path / "a.pth")
    assert torch.equal(load_model(tmp_path / "a.pth").head.weight, nano.head.weight)


def test_several_models_in_one_file_are_not_chosen_from(model: ConViT, tmp_path: Path) -> None:
    state = model.state_dict()
    flat = {f"{owner}.{name}": each for owner in ("student", "teacher") for name, each in state.items()}
    for content in (flat, {"student": state, "teacher": state}):
        (path := tmp_path / "a.pth").write_bytes(pickled(content))
        with pytest.raises(ValueError, match=r"holds several models, under 'student\.?', 'teacher\.?'; save"):
            load_weights(path)


def test_what_reading_would_refuse_is_not_written(model: ConViT, tmp_path: Path) -> None:
    for metadata, words in (({"license": {"name": "mit"}}, "its license is"), ({"classes": "abc"}, "list of names")):
        with pytest.raises(ValueError, match=words):
            save_weights(tmp_path / "a.safetensors", model, metadata)
    with pytest.raises(TypeError, match=r"model is a OptimizedConViT, .* save the one that it was made from"):
        save_weights(tmp_path / "a.safetensors", convit.optimize(model))
    adapted = deepcopy(model)
    torch.nn.utils.parametrizations.weight_norm(adapted.blocks[0].mlp.fc1)
    pruned = FeatureExtractor(deepcopy(model)).model
    for other, words in ((adapted, r"fc1\.weight.* merge adapters"), (pruned, r"norm\.")):
        with pytest.raises(ValueError, match=words):
            save_weights(tmp_path / "a.safetensors", other)
    assert list(tmp_path.iterdir()) == []
