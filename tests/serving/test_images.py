"""Labels and vectors over HTTP are those of the Python calls, however the images come."""

import base64
import io

import httpx
import numpy as np
import pyarrow as pa
import pytest

from convit.inference import Classifier, Embedder
from tests.serving.conftest import NANO, PHOTOS


def _ways(image: bytes) -> dict[str, dict[str, object]]:
    text = base64.b64encode(image).decode()
    return {
        "raw": {"content": image, "headers": {"content-type": "image/jpeg"}},
        "untyped": {"content": image},
        "form": {"files": {"images": ("cat.jpg", image)}},
        "base64": {"json": {"images": [text]}},
        "data URL": {"json": {"images": [f"data:image/jpeg;base64,{text}"]}},
    }


@pytest.mark.parametrize("way", _ways(b""))
def test_labels_are_the_classifiers(client: httpx.Client, cat: bytes, way: str) -> None:
    answer = client.post("/v1/classify?top_k=3", **_ways(cat)[way])
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["results"]
    expected = Classifier(NANO, top_k=3)(PHOTOS / "cat.jpg")
    assert [each["label"] for each in found["predictions"]] == [each.label for each in expected]
    assert [each["score"] for each in found["predictions"]] == pytest.approx(
        [each.score for each in expected], abs=1e-5
    )


def test_several_images_keep_their_order_and_a_bad_one_its_place(client: httpx.Client, cat: bytes) -> None:
    files = [("images", ("a.jpg", cat)), ("images", ("b.txt", b"no image")), ("images", ("c.jpg", cat))]
    results = client.post("/v1/classify", files=files).json()["results"]
    assert [each["name"] for each in results] == ["a.jpg", "b.txt", "c.jpg"]
    assert [each["error"] is None for each in results] == [True, False, True]
    assert results[1]["error"]["code"] == "invalid_image"
    assert results[0]["predictions"] == results[2]["predictions"]


@pytest.mark.parametrize("kind", ["pooled", "tokens", "layer:2"])
@pytest.mark.parametrize("form", ["json", "base64", "npy", "arrow"])
def test_vectors_are_the_embedders(client: httpx.Client, cat: bytes, kind: str, form: str) -> None:
    answer = client.post("/v1/embed", params={"kind": kind, "format": form}, content=cat)
    assert answer.status_code == 200, answer.text
    expected = Embedder(NANO, kind=kind)(PHOTOS / "cat.jpg")
    if form == "npy":
        found = np.load(io.BytesIO(answer.content))[0]
    elif form == "arrow":
        found = np.array(pa.ipc.open_stream(answer.content).read_all()["embedding"].to_pylist()[0])
    else:
        body = answer.json()
        assert tuple(body["shape"]) == expected.shape
        found = body["results"][0]["embedding"]
        if form == "base64":
            found = np.frombuffer(base64.b64decode(found), "<f4").reshape(body["shape"])
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_models_probes_and_metrics(client: httpx.Client, cat: bytes) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["classes"], model["input_size"]) == (NANO, 10, [3, 32, 32])
    client.post("/v1/classify", content=cat)
    assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}
    counted = client.get("/metrics").text
    for name in ("requests_total", "batch_images_sum", "queue_seconds_sum", "model_seconds_sum"):
        assert f"convit_{name}{{" in counted
