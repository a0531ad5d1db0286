"""Embeddings of real photographs, in memory and kept."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convit import Embedder
from convit.data import open_samples
from convit.data.folders import FolderSamples
from convit.evaluation.probes import EmbeddingCache, embed_labeled, identify
from convit.evaluation.probes.embedded import TAG


class Counting(Embedder):
    """Counts the images that it is asked for."""

    seen = 0

    def iterate(self, sources):
        def counted():
            for source in sources:
                type(self).seen += 1
                yield source

        return super().iterate(counted())


@pytest.fixture
def embedder(weights: Path) -> Counting:
    Counting.seen = 0
    return Counting(weights=weights, apply_exif=False, workers=0)


@pytest.fixture
def made_by(embedder: Counting, weights: Path) -> dict:
    return identify(embedder, None, weights)


def test_vectors_are_the_embedders(splits: Path, embedder: Counting, made_by: dict) -> None:
    images = open_samples(splits / "train")
    found = embed_labeled(images, embedder, made_by)
    expected = embedder([image.content for image in images])
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)
    assert found.labels.tolist() == [image.label for image in images]
    assert found.names == [image.name for image in images]
    assert found.identity["data"] == images.identity()
    assert found.identity["fingerprint"].startswith("sha256:")


def test_what_is_kept_is_not_embedded_again(
    splits: Path, embedder: Counting, made_by: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = open_samples(splits / "train")
    cache = EmbeddingCache(tmp_path / "kept")
    first = embed_labeled(images, embedder, made_by, cache=cache)
    assert Counting.seen == len(images) == 12
    with caplog.at_level(logging.INFO):
        second = embed_labeled(
            open_samples(splits / "train"), embedder, made_by, cache=EmbeddingCache(tmp_path / "kept")
        )
    assert Counting.seen == 12
    assert "12 embeddings of an earlier run are taken from" in caplog.text
    np.testing.assert_array_equal(first.vectors, second.vectors)
    np.testing.assert_array_equal(first.vectors, embed_labeled(images, embedder, made_by).vectors)
    assert (first.names, first.labels.tolist()) == (second.names, second.labels.tolist())
    assert (tmp_path / "kept" / TAG).read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted([TAG, cache.place(first.identity).name])
    assert second.vectors.dtype == np.float32


def test_other_images_or_models_are_not_mixed_up(
    splits: Path, embedder: Counting, made_by: dict, tmp_path: Path
) -> None:
    cache = EmbeddingCache(tmp_path / "kept")
    embed_labeled(open_samples(splits / "train"), embedder, made_by, cache=cache)
    embed_labeled(open_samples(splits / "train"), embedder, {**made_by, "fingerprint": "sha256:1"}, cache=cache)
    assert Counting.seen == 24
    (splits / "train" / "cat" / "0.jpg").write_bytes((splits / "train" / "cat" / "1.jpg").read_bytes())
    changed = embed_labeled(open_samples(splits / "train"), embedder, made_by, cache=cache)
    assert Counting.seen == 36
    np.testing.assert_array_equal(
        changed.vectors[changed.names.index("cat/0.jpg")], changed.vectors[changed.names.index("cat/1.jpg")]
    )


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "replaced"])
def test_damage_is_noticed_and_mended(
    damage: str, splits: Path, embedder: Counting, made_by: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = open_samples(splits / "train")
    cache = EmbeddingCache(tmp_path / "kept")
    first = embed_labeled(images, embedder, made_by, cache=cache)
    expected = np.array(first.vectors)
    file = cache.place(first.identity)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(
        {"cut": content[:-7], "flipped": content, "emptied": b"", "replaced": b"another file"}[damage],
    )
    second = embed_labeled(images, embedder, made_by, cache=cache)
    assert "are damaged" in caplog.text
    assert Counting.seen == 24
    np.testing.assert_array_equal(second.vectors, expected)
    assert cache.find(second.identity) is not None


def test_what_lies_under_a_wrong_name_is_not_believed(
    splits: Path, embedder: Counting, made_by: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = EmbeddingCache(tmp_path / "kept")
    first = embed_labeled(open_samples(splits / "train"), embedder, made_by, cache=cache)
    other = {**first.identity, "fingerprint": "sha256:1"}
    cache.place(first.identity).rename(cache.place(other))
    assert cache.find(other) is None
    assert "it is of another model or of other images" in caplog.text


def test_a_run_that_breaks_off_leaves_nothing_to_be_believed(
    splits: Path, embedder: Counting, made_by: dict, tmp_path: Path
) -> None:
    cache = EmbeddingCache(tmp_path / "kept")

    def break_off() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_labeled(open_samples(splits / "train"), embedder, made_by, cache=cache, advance=break_off)
    assert not list((tmp_path / "kept").rglob("*.npz"))
    assert not list((tmp_path / "kept").rglob("*.tmp"))
    assert len(embed_labeled(open_samples(splits / "train"), embedder, made_by, cache=cache).names) == 12


@pytest.mark.parametrize("kept", [True, False])
def test_unreadable_images_are_named(
    splits: Path, embedder: Counting, made_by: dict, tmp_path: Path, kept: bool
) -> None:
    (splits / "train" / "cat" / "0.jpg").write_bytes(b"no picture")
    cache = EmbeddingCache(tmp_path / "kept") if kept else None
    found = embed_labeled(open_samples(splits / "train"), embedder, made_by, cache=cache)
    assert list(found.unreadable) == ["cat/0.jpg"]
    assert found.unreadable["cat/0.jpg"].startswith("cat/0.jpg: ")
    assert len(found.vectors) == len(found.names) == len(found.labels) == 11
    assert "cat/0.jpg" not in found.names


def test_many_vectors_become_their_mean(splits: Path, weights: Path) -> None:
    embedder = Embedder(weights=weights, kind="patches", workers=0)
    found = embed_labeled(open_samples(splits / "val"), embedder, identify(embedder, None, weights))
    contents = [image.content for image in open_samples(splits / "val")]
    np.testing.assert_allclose(found.vectors, embedder(contents).mean(1), atol=1e-5)


def test_foreign_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds other files and no embeddings"):
        EmbeddingCache(tmp_path)
    with pytest.raises(NotADirectoryError, match="is a file, but the cache is a folder"):
        EmbeddingCache(tmp_path / "notes.txt")


def test_what_is_known_of_a_model_is_plain_json(made_by: dict) -> None:
    named = {"model", "fingerprint", "exported", "kind", "normalize", "preprocessing", "precision", "convit"}
    assert named == set(made_by)
    assert json.loads(json.dumps(made_by))["preprocessing"]["apply_exif"] is False


def test_what_could_not_be_read_is_tried_again(
    splits: Path, embedder: Counting, made_by: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = splits / "train" / "cat" / "0.jpg"
    broken.write_bytes(b"no picture")
    cache = EmbeddingCache(tmp_path / "kept")
    first = embed_labeled(open_samples(splits / "train"), embedder, made_by, cache=cache)
    place = first.broken[0]
    assert [image.name for image in open_samples(splits / "train").take([place])] == ["cat/0.jpg"]
    second = embed_labeled(open_samples(splits / "train"), embedder, made_by, cache=cache)
    assert (Counting.seen, second.broken) == (13, (place,))
    # as if a decoder had been missing: the file is what it was
    read = type(open_samples(splits / "train")).labeled

    def repaired(self, number):
        image = read(self, number)
        return replace(image, content=(splits / "train" / "cat" / "1.jpg").read_bytes()) if number == place else image

    monkeypatch.setattr(type(open_samples(splits / "train")), "labeled", repaired)
    third = embed_labeled(open_samples(splits / "train"), embedder, made_by, cache=cache)
    assert (third.unreadable, len(third.vectors), Counting.seen) == ({}, 12, 13 + 1 + 12)


def test_images_that_change_meanwhile_are_not_kept(
    splits: Path, embedder: Counting, made_by: dict, tmp_path: Path
) -> None:
    class Changing(FolderSamples):
        def __iter__(self):
            for image in super().__iter__():
                if image.name.startswith("cat"):
                    (splits / "train" / "page" / "1.jpg").write_bytes(b"another")
                yield image

    cache = EmbeddingCache(tmp_path / "kept")
    with pytest.raises(OSError, match="images of train changed while they were embedded"):
        embed_labeled(Changing(splits / "train"), embedder, made_by, cache=cache)
    assert not list((tmp_path / "kept").rglob("*.npz"))


def test_the_folder_is_marked_before_it_holds_anything(
    splits: Path, embedder: Counting, made_by: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("convit.evaluation.probes.embedded.whole_file", break_off)
    with pytest.raises(KeyboardInterrupt):
        embed_labeled(open_samples(splits / "val"), embedder, made_by, cache=EmbeddingCache(tmp_path / "kept"))
    assert (tmp_path / "kept" / TAG).is_file()
    assert EmbeddingCache(tmp_path / "kept").find({}) is None
