"""Models as a service holds them: one copy of the weights until somebody asks for an explanation."""

from pathlib import Path

import httpx
import pytest

from convit.cli import main
from convit.inference.models import find_exported
from convit.serving import load_served
from convit.serving.models import name_or_path
from convit.weights import create_model, save_weights
from tests.serving.conftest import NANO, serving


def test_the_model_that_explains_is_loaded_when_it_is_asked_for(tmp_path: Path, cat: bytes) -> None:
    file = tmp_path / "mine.safetensors"
    save_weights(file, create_model(NANO, True))
    (tmp_path / "link.safetensors").hardlink_to(file)
    model = load_served(str(file))
    model.warm_up()
    assert model.weights == (None, file)
    assert "plain" not in vars(model)
    with serving(tmp_path, "--model", str(file), "--model", str(tmp_path / "link.safetensors")) as service:
        save_weights(file, create_model("convit_nano_patch4_32", num_classes=10))
        with service.client() as client:
            assert _explain(client, "link.safetensors", cat).status_code == 200
            refused = _explain(client, "mine.safetensors", cat)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "weights_changed")
    with pytest.raises(ValueError, match="are no longer those it started with"):
        assert model.plain


def _explain(client: httpx.Client, model: str, image: bytes) -> httpx.Response:
    return client.post("/v1/explain", params={"model": model}, content=image)


def test_a_published_name_stands_for_itself_whatever_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (NANO, "convit_tiny", "mine"):
        Path(name).mkdir()
    for exported in ("convit_small", "theirs"):
        Path(exported).mkdir()
        Path(exported, "config.json").write_text('{"export": {}}')
    for name in (NANO, "convit_tiny", "convit_small", "hf-hub:mine", "nowhere"):
        assert (name_or_path(name), find_exported(name)) == ((name, None), None)
    for name in (f"./{NANO}", "convit_tiny/", "mine", f"file:{tmp_path}/mine"):
        assert name_or_path(name) == (None, Path(name.removeprefix("file:")))
    for name in ("./convit_small", "theirs"):
        assert (name_or_path(name), find_exported(name)) == ((name, None), Path(name))


@pytest.mark.compiled
def test_an_exported_file_of_tokens_is_served(tmp_path: Path, cat: bytes) -> None:
    folder = tmp_path / "tokens"
    assert main(["export", NANO, "--outputs", "tokens", "--output", str(folder), "--quiet"]) == 0
    with serving(tmp_path, "--model", str(folder)) as service, service.client() as client:
        found = client.post("/v1/embed?kind=tokens", content=cat).json()
        assert found["shape"] == [65, len(found["results"][0]["embedding"][0])]
        assert client.post("/v1/embed", content=cat).json()["error"]["code"] == "unknown_kind"
        assert client.post("/v1/classify", content=cat).json()["error"]["code"] == "no_classes"
        assert client.get("/v2/models/tokens").json()["outputs"] == []
        assert "This model was exported" in client.get("/").text
