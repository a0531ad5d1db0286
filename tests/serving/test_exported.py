"""An exported folder as a model: the same answers, without torch, and a page that says what is missing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from convit.cli import main
from convit.inference import Classifier, Embedder
from tests.serving.conftest import NANO, PHOTOS, Running, serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small weights, exported."""
    folder = tmp_path_factory.mktemp("exported") / "small"
    assert main(["export", NANO, "--output", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def exported(folder: Path) -> Iterator[Running]:
    with serving(folder.parent, "--model", str(folder)) as service:
        yield service


@pytest.mark.compiled
def test_it_answers_as_the_weights_do(exported: Running, cat: bytes) -> None:
    expected = Classifier(NANO)(PHOTOS / "cat.jpg")
    with exported.client() as client:
        found = client.post("/v1/classify", content=cat).json()
        assert found["model"] == "small"
        assert found["results"][0]["predictions"][0]["label"] == expected[0].label
        assert found["results"][0]["predictions"][0]["score"] == pytest.approx(expected[0].score, abs=1e-4)
        assert client.post("/v1/embed", content=cat).json()["shape"] == list(Embedder(NANO).shape)
        _check_what_is_missing(client, cat)


def _check_what_is_missing(client: httpx.Client, cat: bytes) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert not model["can_explain"]
    refused = client.post("/v1/explain", content=cat)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "cannot_explain")
    refused = client.post("/v1/embed?kind=layer:1", content=cat)
    assert refused.json()["error"]["code"] == "unknown_kind"
    assert "/" not in refused.json()["error"]["message"]
    page = client.get("/").text
    assert "This model was exported" in page
    assert '"explains": false' in page


@pytest.mark.compiled
def test_torch_is_not_imported(folder: Path) -> None:
    program = """if True:
        import sys
        from convit.serving import create_app, load_served
        model = load_served(sys.argv[1])
        model.warm_up()
        create_app([model])
        print("torch" in sys.modules, "matplotlib" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
