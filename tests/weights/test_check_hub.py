"""`make check-hub`'s script: agreement, disagreement and no network, each with its row and exit code."""

import importlib.util
import json
from pathlib import Path

import pytest
import skimage.data
import timm
import torch
from PIL import Image
from safetensors.torch import save

NAME = "convit_tiny.fb_in1k"


@pytest.fixture
def script(monkeypatch):
    path = Path(__file__).parents[2] / "tools" / "check_hub.py"
    spec = importlib.util.spec_from_file_location("check_hub", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def unreachable(_):
        raise ConnectionError("cannot reach the authors' server (test)")

    monkeypatch.setitem(module.SOURCES, "authors", unreachable)
    return module


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(skimage.data.chelsea()).save(folder / "cat.png")
    return folder


def test_agreement_and_disagreement(script, hub, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    model = timm.create_model("convit_tiny")
    with torch.no_grad():
        model.head.weight.mul_(20)
    hub.repos[f"timm/{NAME}"] = {"model.safetensors": save(model.state_dict())}
    arguments = [str(photos), "--models", NAME, "--output", str(tmp_path / "report.json")]
    assert script.main(arguments) == 0
    fetched, unreachable = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert (fetched["status"], fetched["pictures"], fetched["preprocessing_equal"]) == ("agrees", 1, True)
    assert fetched["largest_difference"] < 1e-4
    assert unreachable == {
        "weights": NAME,
        "source": "authors",
        "status": "not measured",
        "reason": "cannot reach the authors' server (test)",
    }
    different = {**fetched, "status": "DIFFERS", "preprocessing_equal": False}
    monkeypatch.setattr(script, "compare", lambda *_: different)
    assert script.main(arguments) == 1
    assert "DIFFERS" in capsys.readouterr().out


def test_no_network_is_no_failure_but_said(script, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert script.main([str(photos)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("not measured" in line for line in lines) == 6
    assert lines[-1].startswith("nothing could be measured")
