"""`convit embed` on real photographs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from convit import VARIANTS, Embedder

DIM = VARIANTS["convit_nano_patch4_32"].config.dim
DEPTH = VARIANTS["convit_nano_patch4_32"].config.depth


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("pooled", (DIM,)), ("pre_logits", (DIM,)), ("tokens", (65, DIM)), ("patches", (64, DIM)), ("layer:2", (64, DIM))],
)
def test_kinds_as_an_archive(
    kind: str, shape: tuple[int, ...], convit: Callable[..., Any], photos: Path, nano: Path, tmp_path: Path
) -> None:
    file = tmp_path / "vectors.npz"
    run = convit("embed", photos, "--weights", nano, "--kind", kind, "--output", file)
    assert (run.code, run.out) == (0, "")
    with np.load(file) as stored:
        assert [Path(path).name for path in stored["paths"]] == ["cat.jpg", "coffee.png", "astronaut.png", "rocket.jpg"]
        assert stored["embeddings"].dtype == np.float32
        assert stored["embeddings"].shape == (4, *shape)
        assert set(stored["errors"]) == {""}


def test_parquet_holds_what_python_gives(convit: Callable[..., Any], photos: Path, nano: Path, tmp_path: Path) -> None:
    file = tmp_path / "vectors.parquet"
    assert convit("embed", photos / "cat.jpg", "--weights", nano, "--normalize", "--output", file).code == 0
    (row,) = pq.read_table(file).to_pylist()
    assert row["path"] == str(photos / "cat.jpg")
    assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-6)
    expected = Embedder(weights=nano, normalize=True)(photos / "cat.jpg")
    np.testing.assert_allclose(row["embedding"], expected, rtol=1e-5, atol=1e-6)


def test_json_lines_in_a_pipe(convit: Callable[..., Any], photos: Path, nano: Path) -> None:
    run = convit("embed", photos, "--weights", nano, "--quiet")
    assert [len(row["embedding"]) for row in run.rows] == [DIM] * 4


def test_an_unknown_kind_is_refused_at_once(
    convit: Callable[..., Any], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Embedder, "__init__", _never)
    convit("embed", photos, "--kind", "everything").fails("error: kind is 'everything', but must be one of pooled, ")


@pytest.mark.parametrize("kind", [f"layer:{DEPTH}", "layer:77"])
def test_a_layer_that_there_is_not(kind: str, convit: Callable[..., Any], photos: Path, nano: Path) -> None:
    convit("embed", photos, "--weights", nano, "--kind", kind).fails(repr(kind))


def _never(*_: object, **__: object) -> None:
    raise AssertionError("a model was loaded")
