"""Clients that others wrote: OpenAI's package, Triton's, curl."""

import base64
import io
import json
import subprocess
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import tritonclient.http as triton
from PIL import Image

from convit.inference import Classifier, Embedder
from tests.serving.conftest import NANO, PHOTOS, Running


@pytest.mark.parametrize("form", ["float", "base64", None])
def test_openai(running: Running, cat: bytes, form: str | None) -> None:
    url = "data:image/jpeg;base64," + base64.b64encode(cat).decode()
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", http_client=running.client()) as client:
        options = {} if form is None else {"encoding_format": form}
        answer = client.embeddings.create(model=NANO, input=[url, url], **options)
        assert [each.id for each in client.models.list()] == [NANO]
        assert client.models.retrieve(NANO).labels[3] == "cat"
        with pytest.raises(openai.NotFoundError, match="there is no such model") as refused:
            client.embeddings.create(model="other", input=url)
        assert refused.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError, match="is text, not an image"):
            client.embeddings.create(model=NANO, input="data:text/plain;base64,aGVsbG8=")
    expected = Embedder(NANO)(PHOTOS / "cat.jpg")
    assert len(answer.data) == 2
    found = answer.data[1].embedding
    found = np.frombuffer(base64.b64decode(found), "<f4") if isinstance(found, str) else found
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("as_binary", [True, False])
def test_triton(running: Running, cat: bytes, as_binary: bool) -> None:
    with triton.InferenceServerClient(running.url.removeprefix("http://")) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(NANO)
        assert client.get_model_metadata(NANO)["inputs"] == [{"name": "images", "datatype": "BYTES", "shape": [-1]}]
        files = np.array([cat, (PHOTOS / "coffee.jpg").read_bytes()], dtype=object)
        images = triton.InferInput("images", [2], "BYTES")
        images.set_data_from_numpy(files)
        outputs = [triton.InferRequestedOutput(n, binary_data=as_binary) for n in ("probabilities", "embedding")]
        answer = client.infer(NANO, [images], outputs=outputs)
        with pytest.raises(triton.InferenceServerException, match="there is no such model"):
            client.infer("other", [images])
    scores = answer.as_numpy("probabilities")
    assert scores.shape == (2, 10)
    best = Classifier(NANO)(PHOTOS / "cat.jpg")[0]
    assert scores[0].argmax() == best.index
    assert scores[0].max() == pytest.approx(best.score, abs=1e-5)
    np.testing.assert_allclose(answer.as_numpy("embedding")[0], Embedder(NANO)(PHOTOS / "cat.jpg"), atol=2e-4)


def test_curl(running: Running) -> None:
    command = ["curl", "-sS", "-F", "images=@cat.jpg", f"{running.url}/v1/classify?top_k=1"]
    done = subprocess.run(command, cwd=PHOTOS, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["results"][0]["predictions"][0]["label"] == "cat"


def test_explanations(client: httpx.Client, cat: bytes, tmp_path: Path) -> None:
    found = client.post("/v1/explain", content=cat).json()
    rows, columns = found["grid"]
    assert (rows, columns) == (8, 8)
    why = np.frombuffer(base64.b64decode(found["predictions"][0]["map"]), "<f4")
    assert why.size == rows * columns
    assert why.sum() == pytest.approx(1, abs=1e-4)
    gated = [each["number"] for each in found["layers"] if each["gates"] is not None]
    assert {"content", "position", "blended"} == set(found["layers"][gated[0] - 1]["maps"])
    assert "class_token" in found["layers"][-1]["maps"]
    for show in ("class", "rollout", "attention"):
        drawn = client.post("/v1/explain", params={"format": "png", "show": show, "layer": 2, "head": 1}, content=cat)
        assert Image.open(io.BytesIO(drawn.content)).size == (32, 32)


@pytest.mark.parametrize(
    ("query", "status"),
    [("query=9,0", 422), ("query=up", 422), ("class=unicorn", 422), ("format=png&show=attention&layer=99", 422)],
)
def test_explanations_of_what_is_not_there(client: httpx.Client, cat: bytes, query: str, status: int) -> None:
    answer = client.post(f"/v1/explain?{query}", content=cat)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == "invalid_request"
