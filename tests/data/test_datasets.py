import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from convit.data import check_trainable, hold_out, open_dataset, take_share
from convit.data.datasets import DecodedSamples
from tests.data.making import encoded, picture, write_folder, write_members, write_shard


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_shards_give_their_pictures_in_order(tmp_path: Path, name: str) -> None:
    write_shard(tmp_path / name, range(5))
    (tmp_path / "classes.json").write_text(json.dumps(["even", "odd"]))
    dataset = open_dataset(tmp_path / name)
    assert len(dataset) == 5
    assert dataset.classes == ("even", "odd")
    for number in range(5):
        image, label = dataset[number]
        assert label == number % 2
        assert np.array_equal(np.asarray(image), np.asarray(picture(number)))


def test_photographs_are_turned_upright_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    stored = Image.fromarray(np.arange(72, dtype=np.uint8).reshape(4, 6, 3))
    (tmp_path / "a").mkdir()
    stored.save(tmp_path / "a" / "x.png", exif=exif)
    image, _ = open_dataset(tmp_path)[0]
    assert np.array_equal(np.asarray(image), np.rot90(np.asarray(stored), -1))
    assert ImageOps.exif_transpose(image).size == image.size


def test_decoded_once_is_the_same_as_decoded_each_time(tmp_path: Path) -> None:
    dataset = open_dataset(write_shard(tmp_path / "x.tar", range(4)))
    decoded = DecodedSamples(dataset.samples)
    assert all(np.array_equal(decoded.image(n), np.asarray(dataset[n][0])) for n in range(4))


def test_only_what_is_asked_for_is_decoded(tmp_path: Path) -> None:
    members = [("a.png", b"broken"), ("a.cls", b"0"), ("b.png", encoded(picture(1))), ("b.cls", b"1")]
    dataset = open_dataset(write_members(tmp_path / "x.tar", members))
    assert np.array_equal(DecodedSamples(dataset.samples, only=[1]).image(1), np.asarray(picture(1)))


def test_decoding_once_needs_one_size(tmp_path: Path) -> None:
    members = [("a.png", encoded(picture(0, 8))), ("a.cls", b"0"), ("b.png", encoded(picture(1, 9))), ("b.cls", b"0")]
    dataset = open_dataset(write_members(tmp_path / "x.tar", members))
    with pytest.raises(ValueError, match="9 x 9"):
        DecodedSamples(dataset.samples)


def test_folders_number_their_classes_in_sorted_order(tmp_path: Path) -> None:
    dataset = open_dataset(write_folder(tmp_path / "data", ["dog", "cat"]))
    assert dataset.classes == ("cat", "dog")
    assert [dataset[n][1] for n in range(4)] == [0, 0, 1, 1]
    assert [dataset.label(n) for n in range(4)] == [0, 0, 1, 1]
    given = open_dataset("data", classes=["dog", "bird", "cat"], root=tmp_path)
    assert [given.label(n) for n in range(4)] == [2, 2, 0, 0]


def test_a_seed_fixes_the_augmentation_and_leaves_the_process_alone(tmp_path: Path) -> None:
    dataset = open_dataset(write_shard(tmp_path / "x.tar", range(2)), lambda image: torch.rand(3))
    before = torch.get_rng_state()
    first, again, other = dataset[(0, 7)][0], dataset[(1, 7)][0], dataset[(0, 8)][0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_broken_data_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("no archive")
    with pytest.raises(ValueError, match=r"text\.tar cannot be read"):
        open_dataset(tmp_path / "text.tar")
    with pytest.raises(ValueError, match=r"'a'.*needs an image"):
        open_dataset(write_members(tmp_path / "half.tar", [("a.cls", b"0")]))
    with pytest.raises(ValueError, match="whole number"):
        open_dataset(write_members(tmp_path / "label.tar", [("a.png", encoded(picture(0))), ("a.cls", b"cat")]))
    with pytest.raises(ValueError, match="a: is text, not an image"):
        open_dataset(write_members(tmp_path / "image.tar", [("a.png", b"text"), ("a.cls", b"0")]))[0]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_dataset(tmp_path / "nowhere")


def test_a_truncated_shard_is_refused(tmp_path: Path) -> None:
    whole = write_shard(tmp_path / "x.tar.gz", range(40)).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.tar\.gz cannot be read"):
        open_dataset(tmp_path / "cut.tar.gz")


def test_broken_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no class sub-folders"):
        open_dataset(tmp_path / "empty")
    root = write_folder(tmp_path / "data", ["cat"])
    (root / "dog").mkdir()
    with pytest.raises(ValueError, match="dog holds no image"):
        open_dataset(root)
    (root / "dog").rmdir()
    with pytest.raises(ValueError, match=r"class 'cat' of the sub-folders of .* is none of the 1 known classes"):
        open_dataset(root, classes=["cow"])


def test_held_out_images_are_apart_seeded_and_in_proportion() -> None:
    labels = [0] * 60 + [1] * 30 + [2] * 10
    train, held = hold_out(labels, 20, seed=1)
    assert sorted(train + held) == list(range(100))
    assert Counter(labels[n] for n in held) == {0: 12, 1: 6, 2: 2}
    assert hold_out(labels, 20, seed=1)[1] == held
    assert hold_out(labels, 20, seed=2)[1] != held
    assert hold_out(labels, 0, seed=1) == (list(range(100)), [])
    with pytest.raises(ValueError, match="held_out is 100"):
        hold_out(labels, 100, seed=1)


_LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=80)
_SHARES = st.floats(0.001, 1.0)


@given(labels=_LABELS, shares=st.tuples(_SHARES, _SHARES), seed=st.integers(0, 2**32))
def test_a_share_takes_its_part_of_each_class(labels: list[int], shares: tuple[float, float], seed: int) -> None:
    small, large = (take_share(labels, share, seed) for share in sorted(shares))
    assert set(small) <= set(large) <= set(range(len(labels)))
    assert small == sorted(set(small))
    assert take_share(labels, 1.0, seed) == list(range(len(labels)))
    sizes, taken = Counter(labels), Counter(labels[position] for position in small)
    assert taken == {label: max(1, round(min(shares) * count)) for label, count in sizes.items()}


def test_a_share_is_chosen_by_its_seed() -> None:
    labels = [0] * 50 + [1] * 50
    assert take_share(labels, 0.2, seed=1) == take_share(labels, 0.2, seed=1)
    assert take_share(labels, 0.2, seed=1) != take_share(labels, 0.2, seed=2)
    for share in (0, -0.5, 1.5):
        with pytest.raises(ValueError, match=f"share is {share}, but must be above 0 and up to 1"):
            take_share(labels, share, seed=1)


def test_one_class_alone_cannot_be_learned(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="all 2 images belong to the class 'cat', but a classifier needs at least two"):
        check_trainable(open_dataset(write_folder(tmp_path / "one", ["cat"])))
    with pytest.raises(ValueError, match="all 3 images belong to class 0, but"):
        check_trainable(open_dataset(write_shard(tmp_path / "x.tar", range(3), classes=1)))
    check_trainable(open_dataset(write_folder(tmp_path / "two", ["cat", "dog"])))


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    dataset = open_dataset(write_folder(tmp_path / "data", ["cat", "dog"]))
    (tmp_path / "data/cat/0.png").unlink()
    with pytest.raises(ValueError, match=r"0\.png: no such file"):
        dataset[0]
