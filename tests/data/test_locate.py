import json
from pathlib import Path

import pytest

from convit.data.classes import read_classes
from convit.data.locate import find_files, kind_of
from convit.data.splits import choose_split
from convit.output.files import hash_file


def test_shards_are_found_by_pattern_folder_and_list(tmp_path: Path) -> None:
    names = ["a-00.tar", "a-01.tar", "b.tar.gz"]
    for name in [*names, "notes.txt"]:
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in find_files("a-{00..01}.tar", tmp_path)] == names[:2]
    assert [path.name for path in find_files("a-*.tar", tmp_path)] == names[:2]
    assert [path.name for path in find_files(tmp_path)] == names
    assert [
        path.name for path in find_files([tmp_path / "b.tar.gz", tmp_path / "a-00.tar", tmp_path / "b.tar.gz"])
    ] == ["b.tar.gz", "a-00.tar"]
    assert kind_of(tmp_path).name == "shards"
    longer_than_a_name = tmp_path / f"{{{'a-00,' * 60}a-01}}.tar"
    for found in (find_files(longer_than_a_name), choose_split(longer_than_a_name, "a")):
        assert found == [tmp_path / "a-00.tar", tmp_path / "a-01.tar"]


def test_an_absent_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "a-00.tar").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=r"a-01\.tar"):
        find_files("a-{00..01}.tar", tmp_path)


def test_class_names_come_from_names_or_objects(tmp_path: Path) -> None:
    file = tmp_path / "classes.json"
    file.write_text(json.dumps(["cat", "dog"]))
    assert tuple(each.name for each in read_classes(file)) == ("cat", "dog")
    file.write_text(json.dumps([{"index": 1, "name": "dog"}, {"index": 0, "name": "cat"}]))
    assert tuple(each.name for each in read_classes(file)) == ("cat", "dog")
    infinite, wordy = '[{"index": Infinity, "name": "a"}]', json.dumps([{"index": "x" * 10_000, "name": "a"}])
    for broken in ("{", '[{"index": 0}]', "3", "[" * 100_000, infinite, wordy):
        file.write_text(broken)
        with pytest.raises(ValueError, match="not a list of class names") as caught:
            read_classes(file)
        assert len(str(caught.value)) < 1000


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert hash_file(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_form_is_told_by_the_name_or_by_what_lies_there(tmp_path: Path) -> None:
    for name in ("shards/x.tar", "tables/x.parquet", "pictures/cat/x.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    forms = {
        "shards": "shards",
        "tables": "parquet",
        "pictures": "folder",
        "nowhere": "folder",
        "nowhere.tar.gz": "shards",
        "nowhere-*.parquet": "parquet",
        "hub:owner/name:test": "hub",
        "cifar10:shards": "cifar",
        "cifar100:": "cifar",
        "hub": "folder",
        "https://host/x-{0..9}.tar": "shards",
    }
    assert {source: kind_of(source, tmp_path).name for source in forms} == forms
    assert kind_of(["a.tar", "https://host/b.tar"]).name == "shards"
    for name, form in (("pictures", "folder"), ("shards", "shards"), ("tables", "parquet")):
        for odd in ("2020 {a}", "new *", "x.csv", "x.tar"):
            folder = (tmp_path / name).rename(tmp_path / odd)
            assert kind_of(folder).name == kind_of(odd, tmp_path).name == form
            if form != "folder":
                assert find_files(folder, kind=form) == find_files(odd, tmp_path, form) == list(folder.iterdir())
            folder.rename(tmp_path / name)
    assert kind_of(["a.parquet", tmp_path / "b.parquet"]).name == "parquet"
