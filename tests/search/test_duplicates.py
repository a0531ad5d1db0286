"""Copies and near-copies are found in a made-up set, and nothing else."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
from jinja2.filters import do_filesizeformat as filesizeformat
from PIL import Image

from convit import Embedder
from convit.data import open_samples
from convit.images import open_image
from convit.search import (
    Duplicate,
    Hit,
    Index,
    ListedImage,
    duplicates,
    duplicates_page,
    embed_images,
    find_duplicates,
    list_images,
    search_page,
)
from tests.data.making import encoded, write_parquet, write_samples

MODEL = "convit_nano_patch4_32.cifar10"


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(MODEL, normalize=True, workers=0)


@pytest.fixture
def made_up(tmp_path: Path, photographs: dict[str, Image.Image]) -> Path:
    """Six images in train; of three of them a copy, under another label, recompressed in val, and cropped."""
    root = tmp_path / "set"
    for name, image in photographs.items():
        (root / "train" / name).mkdir(parents=True)
        image.save(root / "train" / name / "1.png")
    for name in ("cat", "rocket"):
        (root / "val" / name).mkdir(parents=True)
    (root / "train" / "rocket" / "copy.png").write_bytes((root / "train" / "cat" / "1.png").read_bytes())
    photographs["rocket"].save(root / "val" / "rocket" / "recompressed.jpg", quality=70)
    coffee = photographs["coffee"]
    width, height = coffee.size
    coffee.crop((2, 2, width - 2, height - 2)).save(root / "val" / "cat" / "cropped.png")
    return root


def names(pairs: list[Duplicate]) -> list[tuple[str, str, str]]:
    return [(pair.kind, pair.first.name, pair.second.name) for pair in pairs]


IDENTICAL = ("identical", "train/cat/1.png", "train/rocket/copy.png")
CROPPED = ("near", "train/coffee/1.png", "val/cat/cropped.png")
RECOMPRESSED = ("near", "train/rocket/1.png", "val/rocket/recompressed.jpg")


def test_all_kinds_and_nothing_else(made_up: Path, embedder: Embedder) -> None:
    found = embed_images(list_images(made_up), embedder)
    pairs = find_duplicates(found.images, found.vectors)
    assert names(pairs) == [CROPPED, IDENTICAL, RECOMPRESSED]
    assert [pair.labels_differ for pair in pairs] == [True, True, False]
    assert [pair.across_splits for pair in pairs] == [True, False, True]
    assert pairs[1].difference == 0
    assert pairs[1].similarity == pytest.approx(1, abs=1e-5)


def test_across_splits_only(made_up: Path, embedder: Embedder) -> None:
    found = embed_images(list_images(made_up), embedder)
    pairs = find_duplicates(found.images, found.vectors, splits=("train", "val"))
    assert names(pairs) == [CROPPED, RECOMPRESSED]
    with pytest.raises(ValueError, match="splits is 'train,test', but must be two or more of: train, val"):
        find_duplicates(found.images, found.vectors, splits=("train", "test"))


def test_an_index_gives_the_same(made_up: Path, embedder: Embedder, tmp_path: Path) -> None:
    index = Index.open(tmp_path / "db", create=True, model=MODEL, workers=0)
    index.update(made_up)
    found = embed_images(list_images(made_up), embedder)
    assert sorted(names(index.duplicates())) == sorted(names(find_duplicates(found.images, found.vectors)))
    assert len(index.duplicates(splits=("val", "train"))) == 2


def test_thresholds(made_up: Path, embedder: Embedder) -> None:
    found = embed_images(list_images(made_up), embedder)
    assert names(find_duplicates(found.images, found.vectors, difference=0)) == [IDENTICAL]
    everything = {"similarity": -1.0, "difference": 255.0, "correlation": -1.0}
    assert len(find_duplicates(found.images, found.vectors, **everything)) == 9 - 1, "one group"
    with pytest.raises(ValueError, match="similarity is 2, but must be -1 to 1 as it is a cosine"):
        find_duplicates(found.images, found.vectors, similarity=2)
    with pytest.raises(ValueError, match="difference is -1, but must be 0 to 255"):
        find_duplicates(found.images, found.vectors, difference=-1)


def _made(name: str, levels: np.ndarray) -> ListedImage:
    content = encoded(Image.fromarray(levels.astype(np.uint8)))
    return ListedImage(name, None, None, name, lambda: content)


def test_images_of_little_contrast_are_no_copies_by_that_alone() -> None:
    rows, columns = np.mgrid[:64, :64] / 8
    level = 30 + 6 * np.sin(rows)
    images = [
        _made("waves", level),
        _made("brighter", 1.1 * level),
        _made("other waves", 30 + 6 * np.sin(columns)),
        *(_made(name, np.full((64, 64), 30.0 + number)) for number, name in enumerate(("gray", "a little lighter"))),
    ]
    alike = np.ones((5, 1), dtype=np.float32)
    pairs = find_duplicates(images[:3], alike[:3])
    assert [(pair.first.name, pair.second.name) for pair in pairs] == [("waves", "brighter")]
    assert len(find_duplicates(images[:3], alike[:3], correlation=-1)) == 2
    assert len(find_duplicates(images[3:], alike[3:])) == 1, "flat areas have no structure to tell them apart"
    with pytest.raises(ValueError, match="correlation is 2, but must be -1 to 1"):
        find_duplicates(images, alike, correlation=2)


def test_many_copies_are_one_group_not_all_pairs() -> None:
    shades = [_made(f"{number:04d}", np.full((8, 8), 100 + number % 9)) for number in range(900)]
    pairs = find_duplicates(shades, np.ones((900, 1), np.float32))
    assert [(pair.first.name, pair.second.name) for pair in pairs[:2]] == [("0000", "0009"), ("0000", "0018")]
    assert {pair.second.name for pair in pairs} == {image.name for image in shades[1:]}
    assert len(pairs) == 899


def test_a_copy_of_a_copy_joins_its_group() -> None:
    images = [_made(str(level), np.full((8, 8), level)) for level in (10, 30, 20, 99)]
    alike = np.ones((4, 1), np.float32)
    pairs = find_duplicates(images, alike)
    assert sorted((pair.first.name, pair.second.name) for pair in pairs) == [("10", "20"), ("30", "20")]


def test_shards_are_read_too(made_up: Path, embedder: Embedder, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for split in ("train", "val"):
        files = sorted((made_up / split).rglob("*.*"))
        samples = ((f"{file.parent.name}_{file.name}", file.read_bytes(), number) for number, file in enumerate(files))
        write_samples(shards / f"{split}-000000.tar.gz", samples)
    images = list_images(shards)
    assert {image.split for image in images} == {"train", "val"}
    found = embed_images(images, embedder)
    pairs = find_duplicates(found.images, found.vectors)
    assert sorted((pair.kind, pair.first.place, pair.second.place) for pair in pairs) == [
        ("identical", "train/cat_1", "train/rocket_copy"),
        ("near", "train/coffee_1", "val/cat_cropped"),
        ("near", "train/rocket_1", "val/rocket_recompressed"),
    ]


@pytest.mark.parametrize("name", ["train.parquet", "train-7.parquet", "train-00000-of-00001.parquet"])
def test_the_split_of_a_file_is_its_name_without_numbers(tmp_path: Path, name: str) -> None:
    write_parquet(tmp_path / name, [0])
    assert [image.split for image in list_images(tmp_path / name)] == ["train"]


def test_shards_need_no_labels(tmp_path: Path, photographs: dict[str, Image.Image]) -> None:
    labels = {"cat": 3, "coffee": None, "clock": None}
    samples = ((f"{name}.png", encoded(photographs[name]), label) for name, label in labels.items())
    write_samples(tmp_path / "x.tar", samples)
    images = list_images(tmp_path)
    assert [(image.name, image.label) for image in images] == [("cat", "3"), ("coffee", None), ("clock", None)]
    assert open_image(images[2].read()).size == photographs["clock"].size
    with pytest.raises(ValueError, match=r"'coffee' of .*needs an image .* and a \.cls"):
        open_samples(tmp_path)


def test_unreadable_images_take_no_part(made_up: Path, embedder: Embedder) -> None:
    (made_up / "train" / "cat" / "broken.jpg").write_bytes(b"")
    found = embed_images(list_images(made_up), embedder)
    assert len(found.images) == len(found.vectors) == 9
    assert list(found.unreadable) == ["train/cat/broken.jpg"]
    assert found.unreadable["train/cat/broken.jpg"].startswith("train/cat/broken.jpg: is empty")


def test_an_image_that_goes_meanwhile_is_said(caplog: pytest.LogCaptureFixture) -> None:
    def gone() -> bytes:
        raise FileNotFoundError("it went")

    images = [ListedImage(name, None, None, name, gone) for name in ("a", "b")]
    with caplog.at_level(logging.WARNING):
        assert find_duplicates(images, np.ones((2, 1), np.float32)) == []
    assert "a cannot be compared any more: it went" in caplog.text


def test_blocks_miss_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_ROWS", 3)
    monkeypatch.setattr(duplicates, "_COLUMNS", 7)
    vectors = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    everyone, alone = np.arange(20), duplicates._Groups(20)
    expected = {
        (one, other) for one in range(20) for other in range(one + 1, 20) if vectors[one] @ vectors[other] >= 0.5
    }
    found = [pair[:2] for pair in duplicates._alike(vectors, everyone, None, 0.5, alone)]
    assert len(found) == len(set(found))
    assert set(found) == expected
    across = {pair[:2] for pair in duplicates._alike(vectors, everyone[:8], everyone[8:], 0.5, alone)}
    assert across == {(one, other) for one, other in expected if one < 8 <= other}


def test_what_is_unknown_does_not_differ() -> None:
    def pair(first: str | None, second: str | None) -> Duplicate:
        one, other = (ListedImage("a", known, known, "", bytes) for known in (first, second))
        return Duplicate("near", one, other, 1.0, 0.0)

    for first, second, differ in [("a", "b", True), ("a", "a", False), (None, "a", False), (None, None, False)]:
        assert pair(first, second).labels_differ is pair(second, first).labels_differ is differ
        assert pair(first, second).across_splits is pair(second, first).across_splits is differ


def test_the_page_stands_alone_and_escapes(made_up: Path, embedder: Embedder) -> None:
    strange = made_up / "train" / "<b>&"
    strange.mkdir()
    (strange / "1.png").write_bytes((made_up / "train" / "cat" / "1.png").read_bytes())
    found = embed_images(list_images(made_up), embedder)
    page = duplicates_page(find_duplicates(found.images, found.vectors), "what was done", made_up)
    assert page.count("data:image/jpeg;base64,") == 2 * 4
    assert "<b>&/" not in page
    assert "&lt;b&gt;&amp;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count(" alt=") == page.count("<img ") == 8


def test_pages_say_what_the_files_are_and_link_to_them(photographs: dict[str, Image.Image], tmp_path: Path) -> None:
    root, page_folder = tmp_path / "my images", tmp_path / "pages" / "new"
    root.mkdir()
    page_folder.mkdir(parents=True)
    bidi = "cat\u202egnp.png"
    for name in (bidi, "file:x#?.png"):
        photographs["cat"].save(root / name, "PNG")
    first, second = list_images(root)
    width, height = photographs["cat"].size
    page = duplicates_page([Duplicate("near", first, second, 1.0, 0.0)], "", root, folder=page_folder)
    size = filesizeformat((root / bidi).stat().st_size)
    assert page.count(f"</bdi></a>, {width} × {height}, {size}</span>") == 2
    assert "file://" not in page
    assert str(tmp_path) not in page
    links = re.findall(r'<a href="([^"]*)">', page)
    assert links == ["../../my%20images/cat%E2%80%AEgnp.png", "../../my%20images/file%3Ax%23%3F.png"]
    hit = Hit(1, bidi, 0.5, "<b>\u2067", width, height)
    page = search_page([hit], root / bidi, root, "", folder=root)
    assert 'href="cat%E2%80%AEgnp.png"' in page
    assert page.count(f"{width} × {height}, {size}") == 2
    assert "<bdi>&lt;b&gt;\u2067</bdi>" in page
    assert "<title>Images like cat\\u202egnp.png</title>" in page
