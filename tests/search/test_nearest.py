"""Exact and approximate searches, on made-up vectors."""

from pathlib import Path

import numpy as np
import pytest

from convit.search import nearest
from convit.search.nearest import build_index, has_index, mapped_vectors, search_approximately, search_exactly
from convit.search.store import Store
from tests.search.conftest import row_of

DIM = 24


def vectors_of(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fill(store: Store, vectors: np.ndarray, prefix: str = "") -> None:
    labels = ("even", "odd")
    store.put([row_of(f"{prefix}{n}", vector, width=n, label=labels[n % 2]) for n, vector in enumerate(vectors)])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, DIM, create=True)


def paths(store: Store, found: nearest.Found) -> list[str]:
    return [row["path"] for row in store.take([row for row, _ in found], ("path",))]


def test_exact_is_the_product_sorted(store: Store) -> None:
    vectors = vectors_of(300)
    fill(store, vectors)
    query = vectors_of(1, seed=9)[0]
    found = search_exactly(store, query, 10)
    order = np.argsort(-(vectors @ query))[:10]
    assert paths(store, found) == [str(number) for number in order]
    np.testing.assert_allclose([score for _, score in found], (vectors @ query)[order], atol=1e-6)
    assert len(search_exactly(store, query, 1000)) == 300


def test_exact_among_those_of_a_condition(store: Store) -> None:
    vectors = vectors_of(100)
    fill(store, vectors)
    query = vectors_of(1, seed=9)[0]
    odd = [number for number in np.argsort(-(vectors @ query)) if number % 2][:5]
    assert paths(store, search_exactly(store, query, 5, "label = 'odd'")) == [str(number) for number in odd]


def test_the_copy_follows_the_store(store: Store, tmp_path: Path) -> None:
    fill(store, vectors_of(20))
    assert len(mapped_vectors(store)[1]) == 20
    (first,) = tmp_path.glob("vectors-*.npy")
    assert isinstance(mapped_vectors(store)[1], np.memmap)
    fill(store, vectors_of(5, seed=1), "more")
    assert len(mapped_vectors(store)[1]) == 25
    assert not first.exists()
    store.remove([str(number) for number in range(20)])
    found = search_exactly(store, vectors_of(5, seed=1)[3], 1)
    assert paths(store, found) == ["more3"]


def test_newer_copies_are_left_alone(store: Store, tmp_path: Path) -> None:
    fill(store, vectors_of(20))
    older = Store(tmp_path, DIM, create=False)
    fill(store, vectors_of(5, seed=1), "more")
    assert len(mapped_vectors(store)[1]) == 25
    newer = {file.name for file in tmp_path.glob("*.npy")}
    other = tmp_path / "rows-notes.npy"
    other.touch()
    assert len(mapped_vectors(older)[1]) == 20
    assert newer < {file.name for file in tmp_path.glob("*.npy")}
    assert other.exists()


def test_a_copy_that_goes_meanwhile_is_made_again(store: Store, tmp_path: Path) -> None:
    vectors = vectors_of(20)
    fill(store, vectors)
    mapped_vectors(store)
    for what in ("rows", "vectors"):
        next(tmp_path.glob(f"{what}-*.npy")).unlink()
        assert isinstance(mapped_vectors(store)[1], np.memmap)
    next(tmp_path.glob("rows-*.npy")).write_bytes(b"")
    assert len(search_exactly(store, vectors[3], 20)) == 20


@pytest.mark.parametrize(
    "damage", ["other values", "other rows", "unknown rows", "fewer", "wider", "doubles", "no array"]
)
def test_a_copy_that_is_not_the_stores_is_not_believed(store: Store, tmp_path: Path, damage: str) -> None:
    vectors = vectors_of(40)
    fill(store, vectors)
    mapped_vectors(store)
    files = [next(tmp_path.glob(f"{what}-*.npy")) for what in ("rows", "vectors")]
    rows, copy = (np.load(file) for file in files)
    if damage in ("other values", "wider", "doubles"):
        copy = vectors_of(40, seed=5)
        copy = np.hstack([copy, copy]) if damage == "wider" else copy.astype(float) if damage == "doubles" else copy
    elif damage.endswith("rows"):
        rows = rows[::-1] if damage == "other rows" else rows + np.uint64(10**6)
    elif damage == "fewer":
        rows, copy = rows[:30], copy[:30]
    for file, values in zip(files, (rows, copy), strict=True):
        np.save(file, values)
    if damage == "no array":
        files[1].write_bytes(b"\x80\x04]." * 100)
    assert paths(store, search_exactly(store, vectors[3], 1)) == ["3"]
    assert np.array_equal(np.load(files[1]), vectors)


def test_a_store_that_cannot_be_written_is_searched_in_memory(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: Path, *, overwrite: bool) -> None:
        raise PermissionError(f"{name}: no permission")

    vectors = vectors_of(20)
    fill(store, vectors)
    # a test run as root may write everywhere
    monkeypatch.setattr(nearest, "whole_file", refuse)
    assert paths(store, search_exactly(store, vectors[3], 1)) == ["3"]
    assert not list(tmp_path.glob("*.npy"))


def test_an_empty_store(store: Store) -> None:
    assert search_exactly(store, vectors_of(1)[0], 10) == []


def test_the_index_finds_nearly_all(store: Store) -> None:
    fill(store, vectors_of(2000))
    assert not has_index(store)
    build_index(store)
    build_index(store)  # there is one
    assert has_index(store)
    shares = []
    for query in vectors_of(50, seed=3):
        exact = {row for row, _ in search_exactly(store, query, 10)}
        found = search_approximately(store, query, 10)
        assert found[0][1] == pytest.approx(search_exactly(store, query, 1)[0][1], abs=1e-5)
        shares.append(len(exact & {row for row, _ in found}) / 10)
    assert np.mean(shares) >= 0.98


@pytest.mark.parametrize("is_tidy", [False, True])
def test_new_rows_are_found_before_and_after_they_are_in_the_index(store: Store, is_tidy: bool) -> None:
    fill(store, vectors_of(500))
    build_index(store)
    fill(store, vectors_of(50, seed=1), "more")
    if is_tidy:
        store.tidy()
    assert paths(store, search_approximately(store, vectors_of(50, seed=1)[7], 1)) == ["more7"]
