"""`convit info` of a weight file, a folder and a hub repository: what they say and show of themselves."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from convit.weights import create_model, save_weights

Command = Callable[..., Any]
NANO = "convit_nano_patch4_32"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    model = create_model(NANO, num_classes=3, in_chans=1, img_size=(32, 48))
    file = tmp_path / "own.safetensors"
    about = {"classes": ["ant", "bee", "cat"], "crop_pct": 1.0, "license": "CC0", "trained_on": "three insects"}
    save_weights(file, model, about)
    return file


def test_a_file_that_describes_itself(own: Path, convit: Command) -> None:
    run = convit("info", own)
    assert (run.code, run.err) == (0, "")
    facts = json.loads(run.out)
    assert facts["model"]["architecture"] == NANO
    assert facts["cost"]["image"] == facts["preprocessing"]["input_size"] == [1, 32, 48]
    assert facts["cost"]["parameters"] == sum(
        each.numel() for each in create_model(NANO, num_classes=3, in_chans=1, img_size=(32, 48)).parameters()
    )
    assert facts["preprocessing"]["crop_pct"] == 1.0
    assert facts["classes"] == {"number": 3, "set": None, "names": ["ant", "bee", "cat"]}
    weights = facts["weights"]
    assert (weights["license"], weights["trained_on"], weights["source"]) == ("CC0", "three insects", "file")
    assert weights["sha256"] == hashlib.sha256(own.read_bytes()).hexdigest()
    assert weights["file"] == str(own)
    assert facts["configuration"]["img_size"] == [32, 48]
    lines = {line.strip() for line in convit("info", own, terminal={"out"}).out.splitlines()}
    assert {"architecture  convit_nano_patch4_32", "names   ant, bee, cat"} <= lines


def test_names_do_not_drive_a_terminal(tmp_path: Path, convit: Command) -> None:
    names = ["\x1b[2Jant", "bee\u202e", "two\nlines\x85"]
    save_weights(tmp_path / "own.safetensors", create_model(NANO, num_classes=3), {"classes": names})
    for arguments in ((), ("--format", "json")):
        shown = convit("info", tmp_path / "own.safetensors", *arguments, terminal={"out"}).out
        assert shown.replace("\n", "").isprintable()
    assert json.loads(shown)["classes"]["names"] == names


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_a_folder(own: Path, prefix: str, convit: Command) -> None:
    facts = json.loads(convit("info", f"{prefix}{own.parent}").out)
    assert (facts["classes"]["number"], facts["weights"]["file"]) == (3, str(own))


def test_a_bare_state_dict_is_told_by_its_shapes(tmp_path: Path, convit: Command) -> None:
    torch.save(create_model(NANO, num_classes=4).state_dict(), tmp_path / "bare.pth")
    facts = json.loads(convit("info", tmp_path / "bare.pth").out)
    assert (facts["model"]["architecture"], facts["classes"]["number"]) == (NANO, 4)
    assert (facts["classes"]["names"], facts["weights"]["license"]) == (None, None)


def test_a_hub_repository(own: Path, convit: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    card = {"input_size": [3, 40, 40], "mean": [0.5, 0.5, 0.5], "license": "mit", "num_classes": 2}
    config.write_text(json.dumps({"architecture": NANO, "num_classes": 2, "pretrained_cfg": card}))
    asked: list[tuple[str, ...]] = []

    def fetch(repo: Any, names: tuple[str, ...], cache_dir: Path | None = None) -> Path:
        asked.append((repo.name, *names))
        return config

    monkeypatch.setattr("convit.weights.resolving.fetch_hub_file", fetch)
    monkeypatch.setattr("convit.weights.hub.cached_file", lambda *_: None)
    facts = json.loads(convit("info", "HF-HUB:someone/nano@v2").out)
    assert asked == [("someone/nano", "config.json")]  # and no weights
    assert facts["model"]["architecture"] == NANO
    assert facts["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    assert facts["cost"]["image"] == [3, 40, 40]
    weights = facts["weights"]
    assert (weights["license"], weights["hub_repository"], weights["source"]) == ("mit", "someone/nano@v2", "hf-hub")
    assert (weights["sha256"], weights["cached"], weights["file"]) == (None, False, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/file.safetensors", "there is no weight file no/such/file.safetensors; check the path"),
        ("local-dir:no/such", "there is no weight file no/such; check the path"),
        ("hf-hub:nobody", "'nobody' is not a hub repository; write hf-hub:owner/name"),
    ],
)
def test_what_is_not_there(name: str, message: str, convit: Command) -> None:
    convit("info", name).fails(message)


def test_a_damaged_file(tmp_path: Path, convit: Command) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    convit("info", tmp_path / "a.safetensors").fails("a.safetensors is not a safetensors file")
    torch.save({"cls_token": torch.zeros(1, 1, 7)}, tmp_path / "b.pth")
    convit("info", tmp_path / "b.pth").fails("does not say which model it holds")
