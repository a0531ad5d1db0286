"""What a result depends on tells kept results apart, wherever they are kept."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from convit import Classifier, Embedder
from convit.evaluation.probes import EmbeddingCache, identify
from convit.evaluation.weights_used import made_by
from convit.inference.exported import ExportedModel
from convit.model import ConViT, ConViTConfig
from convit.scale.destination import Destination
from convit.scale.manifest import check_job
from convit.search import Vectors
from convit.search.identity import identity_of
from convit.search.vectors import check_vectors
from convit.transforms import EvaluationTransform, TransformSettings

CONFIG = ConViTConfig(depth=2, local_up_to_layer=1, num_classes=3, img_size=32, patch_size=8, embed_dim=48)
CARD = {"num_classes": 3, "label_names": ["a", "b", "c"], "calibration": {"temperature": 1.5}}


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(1)  # not the seed of each test, whatever ran before
    return ConViT(CONFIG)


def _cropped(embedder: Any) -> None:
    embedder.transform = EvaluationTransform(TransformSettings(input_size=(3, 32, 32), crop_pct=0.5))


def _exported(embedder: Any) -> None:
    embedder.model = object.__new__(ExportedModel)
    embedder.model.export = SimpleNamespace(sha256={"model.onnx": "f00"})
    embedder._runner = SimpleNamespace(precision="int8")


# what differs → options that make it so, or what is done to an embedder where options alone cannot
DIFFERING: dict[str, Any] = {
    "apply_exif": {"apply_exif": False},
    "fast_decode": {"fast_decode": True},
    "crop_pct": _cropped,
    "input_size": {"img_size": 64},
    "kind": {"kind": "pre_logits"},
    "precision": {"precision": "bf16"},
    "exported": _exported,
    "fingerprint": {},
}


@pytest.mark.parametrize("name", DIFFERING)
def test_vectors_that_were_made_otherwise_are_others(name: str, model: Any, tmp_path: Path) -> None:
    change = DIFFERING[name]
    first = Embedder(model)
    used = ConViT(CONFIG) if name == "fingerprint" else model
    other = Embedder(used, **(change if isinstance(change, dict) else {}))
    if callable(change):
        change(other)
    made, others = made_by(first, model, None), {"command": "embed", **made_by(other, used, None)}
    with pytest.raises(ValueError, match=f"holds results with {name} "):
        check_job(Destination(tmp_path), {"command": "embed", **made}, others)
    check_job(Destination(tmp_path), others, others)
    if name != "exported":  # as int8, which probes refuse
        cache = EmbeddingCache(tmp_path / "cache")
        assert cache.place(identify(first, model)) != cache.place(identify(other, used))
    place = {"root": "/", "made_from": "vectors"}
    vectors = Vectors("vectors", {**others}, [], [], lambda _: None)
    with pytest.raises(ValueError, match="holds vectors of ConViT with "):
        check_vectors(tmp_path, identity_of(first, place, model, None), vectors)
    if name != "exported":
        check_vectors(tmp_path, identity_of(other, place, used, None), vectors)


def test_vectors_of_other_lengths_are_others_but_to_an_index(model: Any, tmp_path: Path) -> None:
    first, scaled = Embedder(model), Embedder(model, normalize=True)
    cache = EmbeddingCache(tmp_path / "cache")
    assert cache.place(identify(first, model)) != cache.place(identify(scaled, model))
    vectors = Vectors("vectors", {"command": "embed", **made_by(scaled, model, None)}, [], [], lambda _: None)
    check_vectors(tmp_path, identity_of(first, {"root": "/", "made_from": "vectors"}, model, None), vectors)


def test_vectors_of_an_earlier_version_are_refused(tmp_path: Path) -> None:
    old = Vectors("vectors", {"command": "embed", "kind": "pooled", "weights": "sha256:f00"}, [], [], lambda _: None)
    with pytest.raises(ValueError, match="vectors was written by an earlier version of convit"):
        check_vectors(tmp_path, None, old)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("temperature", {"calibration": {"temperature": 2.0}}),
        ("classes", {"label_names": ["a", "b", "d"]}),
        ("top_k", {}),
    ],
)
def test_classes_of_another_model_are_others(name: str, change: dict[str, Any], tmp_path: Path) -> None:
    model = ConViT(CONFIG)
    jobs: list[dict[str, Any]] = []
    for card, top_k in ((CARD, 2), ({**CARD, **change}, 1 if name == "top_k" else 2)):
        model.pretrained_cfg = card
        jobs.append({"command": "classify", **made_by(Classifier(model, top_k=top_k), model, None)})
    with pytest.raises(ValueError, match=f"holds results with {name} "):
        check_job(Destination(tmp_path), *jobs)
