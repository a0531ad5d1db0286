"""Parts of a data set are known by their names in every layout, and never taken for classes or for one set."""

from collections.abc import Callable
from pathlib import Path

import pytest

from convit.data import open_samples
from convit.data.splits import Layout, find_layout
from tests.data.making import write_folder, write_parquet, write_shard

Write = Callable[[Path], object]


def _classes(folder: Path) -> None:
    write_folder(folder, ("apple", "pear"), 3)


def _parquet(name: str) -> Write:
    return lambda folder: (folder.mkdir(parents=True, exist_ok=True), write_parquet(folder / name, range(4)))


def _shard(name: str) -> Write:
    return lambda folder: (folder.mkdir(parents=True, exist_ok=True), write_shard(folder / name, range(4)))


LAYOUTS = [
    (("Training", _classes), ("Testing", _classes)),
    (("images/TRAIN", _classes), ("images/TEST", _classes)),
    (("seg_train/seg_train", _classes), ("seg_test/seg_test", _classes)),
    (("train", _parquet("0.parquet")), ("test", _parquet("0.parquet"))),
    (("train", _shard("x.tar")), ("test", _shard("x.tar"))),
    ((".", _parquet("train-00000-of-00001.parquet")), (".", _parquet("test-00000-of-00001.parquet"))),
    (("data", _parquet("train-00000-of-00001.parquet")), ("data", _parquet("test-00000-of-00001.parquet"))),
    (("default", _parquet("train-0.parquet")), ("default", _parquet("test-0.parquet"))),
    ((".", _shard("imagenet1k-train-0000.tar")), (".", _shard("imagenet1k-test-00.tar"))),
    ((".", _shard("train000.tar")), (".", _shard("test_000.tar"))),
]


@pytest.mark.parametrize(("train", "test"), LAYOUTS)
def test_training_and_test_part_are_told_apart(
    tmp_path: Path, train: tuple[str, Write], test: tuple[str, Write]
) -> None:
    for name, write in (train, test):
        write(tmp_path / name)
    (tmp_path / "README.md").write_text("as the hub has it")
    layout = find_layout(tmp_path)
    assert layout.train != tmp_path
    assert layout.validation is None
    assert layout.test is not None
    for split, part in (("train", layout.train), ("test", layout.test)):
        assert open_samples(tmp_path, split=split).identity() == open_samples(part).identity()
    assert open_samples(layout.train).class_names in (("apple", "pear"), ("even", "odd"), None)
    with pytest.raises(ValueError, match=r"parts.* name one of them"):
        open_samples(tmp_path)


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "valid", "TEST")])
def test_parts_without_classes_are_not_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    write_folder(tmp_path, names)
    for look in (find_layout, open_samples):
        with pytest.raises(ValueError, match="are parts, not classes"):
            look(tmp_path)


def test_folders_that_repeat_each_other_are_not_classes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        _classes(tmp_path / name)
    for look in (find_layout, open_samples):
        with pytest.raises(ValueError, match=r"first, second of .* are not classes: each holds apple, pear"):
            look(tmp_path)


def test_classes_may_be_called_like_parts(tmp_path: Path) -> None:
    write_folder(tmp_path, ("car", "train"))
    assert find_layout(tmp_path) == Layout(tmp_path)
    assert open_samples(tmp_path).class_names == ("car", "train")


def test_files_of_several_parts_are_one_set_where_all_are_named(tmp_path: Path) -> None:
    files = [write_parquet(tmp_path / f"{name}-0.parquet", range(3)) for name in ("train", "validation")]
    assert len(open_samples(files)) == 6
    with pytest.raises(ValueError, match=r"\*\.parquet holds the parts train, val; name one of them, by its files"):
        open_samples(f"{tmp_path}/*.parquet")


def test_a_hub_folder_of_one_part_is_read_whole(tmp_path: Path) -> None:
    _parquet("train-0.parquet")(tmp_path / "data")
    (tmp_path / "README.md").write_text("---")
    assert (open_samples(tmp_path).kind, len(open_samples(tmp_path))) == ("parquet", 4)
