"""`torch.hub` finds the variants, and asks for what they need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from convit.model import VARIANTS, ConViT
from convit.weights import save_weights

ROOT = Path(__file__).parents[2]
NANO = "convit_nano_patch4_32"
# modules of the packages that `pip install convit` brings
MODULES = (
    *(
        "torch",
        "torchvision",
        "numpy",
        "PIL",
        "safetensors",
        "huggingface_hub",
        "fsspec",
        "filelock",
        "pyarrow",
        "typer",
    ),
    *("typer", "rich", "jaxtyping", "lazy_loader"),
)


def test_every_variant_is_an_entry_point(tmp_path: Path) -> None:
    hubconf = torch.hub._import_module("hubconf", ROOT / "hubconf.py")
    # what `torch.hub.list` shows of a repository, and `torch.hub.help` of an entry
    entries = {name for name in dir(hubconf) if callable(getattr(hubconf, name)) and not name.startswith("_")}
    assert entries == {*VARIANTS, "create_model", "load_model"}
    assert all("create_model" in getattr(hubconf, name).__doc__ for name in VARIANTS)
    model = torch.hub.load(str(ROOT), NANO, source="local", num_classes=3)
    assert isinstance(model, ConViT)
    assert model.num_classes == 3
    save_weights(tmp_path / "a.safetensors", model)
    again = torch.hub.load(str(ROOT), "load_model", tmp_path / "a.safetensors", source="local")
    assert torch.equal(again.head.weight, model.head.weight)
    tagged = torch.hub.load(str(ROOT), "create_model", f"{NANO}.cifar10", source="local", pretrained=True)
    assert tagged.pretrained_cfg["tag"] == "cifar10"


def test_what_it_needs_is_what_it_asks_for() -> None:
    # what torch itself imports is no dependency of ours
    script = (
        f"import json, sys, torch.hub; before = set(sys.modules); torch.hub.load({str(ROOT)!r}, {NANO!r}, "
        f"source='local', pretrained=True); "
        f"import hubconf; print(json.dumps([[m for m in {MODULES} if m in sys.modules and m not in before], "
        f"hubconf.dependencies]))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded, asked = json.loads(run.stdout)
    assert "safetensors" in loaded
    assert set(loaded) <= set(asked) <= set(MODULES)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = torch.hub._check_module_exists
    monkeypatch.setattr(torch.hub, "_check_module_exists", lambda name: name != "jaxtyping" and find(name))
    with pytest.raises(RuntimeError, match="jaxtyping"):
        torch.hub.load(str(ROOT), NANO, source="local")
