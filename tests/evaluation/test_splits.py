"""Which part of the data a split's name means, in every form."""

from pathlib import Path
from typing import Any

import pytest

from convit.data import open_samples
from tests.data.serving import served
from tests.evaluation.storing import take_for_hub, write_cifar10, write_folders, write_parquet, write_shard


def _count(data: Any, split: str) -> int:
    return len(open_samples(data, split=split))


@pytest.mark.parametrize("split", ["val", "validation"])
@pytest.mark.parametrize("there", ["val", "validation"])
def test_sub_folders_by_either_name(tmp_path: Path, split: str, there: str) -> None:
    write_folders(tmp_path / "train", {"a": [0, 1], "b": [2]})
    write_folders(tmp_path / there, {"a": [3], "b": [4]})
    assert _count(tmp_path, split) == 2
    assert _count(str(tmp_path), "train") == 3


def test_the_exact_name_goes_first(tmp_path: Path) -> None:
    write_folders(tmp_path / "val", {"a": [0], "b": [1]})
    write_folders(tmp_path / "validation", {"a": [2, 3], "b": [4]})
    assert (_count(tmp_path, "val"), _count(tmp_path, "validation")) == (2, 3)


def test_a_sub_folder_may_hold_shards_or_tables(tmp_path: Path) -> None:
    write_shard(tmp_path / "val" / "x.tar", [(0, 0)])
    write_parquet(tmp_path / "test" / "x.parquet", [(0, 0), (1, 1)])
    assert open_samples(tmp_path, split="val").kind == "shards"
    assert open_samples(tmp_path, split="test").kind == "parquet"


@pytest.mark.parametrize(
    ("write", "suffix"), [(write_shard, "tar"), (write_shard, "tar.gz"), (write_parquet, "parquet")]
)
def test_files_whose_names_begin_so(tmp_path: Path, write: Any, suffix: str) -> None:
    write(tmp_path / f"train-0.{suffix}", [(0, 0), (1, 1)])
    write(tmp_path / f"train-1.{suffix}", [(2, 0)])
    write(tmp_path / f"validation-0.{suffix}", [(3, 1)])
    write(tmp_path / f"test.{suffix}", [(4, 1), (5, 0)])
    for data in (tmp_path, str(tmp_path), f"{tmp_path}/*.{suffix}"):
        found = [_count(data, split) for split in ("train", "val", "validation", "test")]
        assert found == [3, 1, 1, 2]
    with pytest.raises(ValueError, match="has no split 'dev'; it has test, train, validation"):
        _count(tmp_path, "dev")


def test_files_of_a_list_or_behind_a_url(tmp_path: Path) -> None:
    for name in ("train-0", "val-0", "val-1"):
        write_shard(tmp_path / f"{name}.tar", [(0, 0)])
    files = [str(tmp_path / f"{name}.tar") for name in ("train-0", "val-0", "val-1")]
    assert _count(files, "val") == 2
    assert len(open_samples(["train-0.tar", "val-*.tar"], split="val", root=tmp_path)) == 2
    with served(tmp_path) as server:
        assert _count(f"{server.url}/{{train-0,val-0}}.tar", "val") == 1
    with pytest.raises(ValueError, match="the list of 3 files has no split 'test'; it has train, val"):
        _count(files, "test")


def test_splits_of_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_cifar10(tmp_path, [3, 1, 2], monkeypatch)
    assert [image.label for image in open_samples(f"cifar10:{folder}", split="test")] == [3, 1, 2]
    assert [image.label for image in open_samples(f"cifar10:{folder}")] == [2, 1, 3]
    assert open_samples(f"cifar10:{folder}", split="test").identity()["name"] == "cifar10:test"
    assert _count(f"cifar10:{folder}:test", "test") == 3
    monkeypatch.setenv("HOME", str(folder.parent))
    assert _count(f"cifar10:~/{folder.name}", "test") == 3
    with pytest.raises(ValueError, match="names the split 'test' already, not 'train'"):
        _count(f"cifar10:{folder}:test", "train")
    with pytest.raises(ValueError, match="has no split 'val'; it has train, test"):
        _count(f"cifar10:{folder}", "val")


def test_splits_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = take_for_hub(tmp_path, monkeypatch)
    write_parquet(data / "train-00000-of-00001.parquet", [(0, 0), (1, 1)], ["a", "b"])
    write_parquet(data / "validation-00000-of-00001.parquet", [(2, 1)], ["a", "b"])
    assert open_samples("hub:owner/name").identity()["name"] == "hub:owner/name:train"
    assert open_samples("hub:owner/name", split="val").identity()["name"] == "hub:owner/name:validation"
    assert _count("hub:owner/name/default", "validation") == 1
    assert _count("hub:owner/name:validation", "val") == 1
    with pytest.raises(ValueError, match=r"Unknown split .?dev.*train.*validation"):
        _count("hub:owner/name", "dev")
    with pytest.raises(ValueError, match="names the split 'train' already, not 'val'"):
        _count("hub:owner/name:train", "val")


def test_what_has_no_such_split_says_what_it_has(tmp_path: Path) -> None:
    for name in "abcdefghij":
        write_folders(tmp_path / "x", {name: [0]})
    with pytest.raises(ValueError, match="x has no split 'val'; it has a, b, c, d, e, f, g, h and 2 more"):
        _count(tmp_path / "x", "val")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        _count(tmp_path / "nowhere", "val")
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(ValueError, match=r"text\.txt has no split 'val'; it has no folder and no shard"):
        _count(tmp_path / "text.txt", "val")
