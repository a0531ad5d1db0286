"""Which images are trained on, and which tested."""

from collections.abc import Callable
from pathlib import Path

import pytest

from convit.evaluation.probes import open_sets

WriteShard = Callable[[Path, list[tuple[str, int, bytes]]], None]


def test_a_folder_with_train_and_val_needs_no_option(splits: Path) -> None:
    sets = open_sets(splits)
    assert sets.test is not None
    assert (sets.train.count, sets.test.count) == (12, 6)
    assert sets.test.identity()["name"] == "val"


def test_test_stands_in_for_val(splits: Path) -> None:
    (splits / "val").rename(splits / "test")
    sets = open_sets(splits)
    assert sets.test is not None
    assert sets.test.identity()["name"] == "test"


def test_shards_are_split_by_their_names(
    tmp_path: Path, pictures: list[tuple[str, int, bytes]], write_shard: WriteShard
) -> None:
    samples = [(f"{name}{number}", number, content) for name, number, content in pictures]
    write_shard(tmp_path / "train-000000.tar", samples[:9])
    write_shard(tmp_path / "train-000001.tar", samples[9:15])
    write_shard(tmp_path / "test-000000.tar", samples[15:])
    sets = open_sets(tmp_path)
    assert sets.test is not None
    assert (sets.train.count, sets.test.count) == (15, 3)


def test_one_set_is_one_set(splits: Path) -> None:
    assert open_sets(splits / "train").test is None
    # two classes that are called like splits
    (splits / "train" / "cat").rename(splits / "train" / "train")
    (splits / "train" / "page").rename(splits / "train" / "test")
    sets = open_sets(splits / "train")
    assert (sets.train.count, sets.test) == (12, None)


def test_splits_and_other_data_by_name(splits: Path) -> None:
    sets = open_sets(splits, split="val", test_split="train")
    assert sets.test is not None
    assert (sets.train.count, sets.test.count) == (6, 12)
    sets = open_sets(splits, test_split="val")
    assert sets.test is not None
    assert (sets.train.count, sets.test.count) == (12, 6)
    sets = open_sets(splits / "train", test=splits)
    assert sets.test is not None
    assert (sets.train.count, sets.test.count) == (12, 6)
    sets = open_sets(splits, test=splits / "val")
    assert sets.test is not None
    assert (sets.train.count, sets.test.count) == (12, 6)
    assert open_sets(splits, split="val").test is None


def test_a_limit_takes_evenly_spaced_images(splits: Path) -> None:
    sets = open_sets(splits, limit=6)
    assert sets.test is not None
    assert (sets.train.count, sets.test.count) == (6, 6)
    assert sets.train.identity()["evenly_spaced"] == 6
    assert len({image.label for image in sets.train}) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "trian"}, "has no split 'trian'; it has train, val"),
        ({"test_split": "dev"}, "has no split 'dev'"),
        ({"split": "val", "test_split": "validation"}, "are both the split 'validation'"),
        ({"test_split": "train"}, "are both the split 'train'"),
        ({"limit": 0}, "the limit is 0"),
    ],
)
def test_splits_that_there_are_not(splits: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_sets(splits, **options)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_sets(tmp_path / "absent")


def test_imagenets_relatives_have_splits_below_their_folder(
    tmp_path: Path, pictures: list[tuple[str, int, bytes]]
) -> None:
    for split, numbers in (("train", (0, 1)), ("val", (2,))):
        for wnid in ("n01440764", "n01443537"):
            (tmp_path / split / wnid).mkdir(parents=True)
            for number in numbers:
                (tmp_path / split / wnid / f"{number}.JPEG").write_bytes(pictures[number][2])
    sets = open_sets(f"imagenet:{tmp_path}")
    assert sets.test is not None
    assert (sets.train.count, sets.test.count) == (4, 2)
