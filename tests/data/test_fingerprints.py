import hashlib
from pathlib import Path

import pytest

from convit.data import fingerprint, open_samples
from tests.data.making import write_folder, write_parquet, write_shard


def test_files_are_known_by_their_sha256(tmp_path: Path) -> None:
    shards = [write_shard(tmp_path / f"{number}.tar", range(number + 1)) for number in range(2)]
    expected = {shard.name: hashlib.sha256(shard.read_bytes()).hexdigest() for shard in shards}
    assert fingerprint("{0..1}.tar", tmp_path) == expected
    table = write_parquet(tmp_path / "x.parquet", range(3))
    assert fingerprint(table) == {"x.parquet": hashlib.sha256(table.read_bytes()).hexdigest()}


def test_files_of_one_name_keep_their_folders(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_shard(tmp_path / folder / "x.tar", range(2))
    assert list(fingerprint(["a/x.tar", "b/x.tar"], tmp_path)) == [str(tmp_path / f"{folder}/x.tar") for folder in "ab"]


def test_a_folder_is_known_by_the_identity_of_its_images(tmp_path: Path) -> None:
    for copy in ("one", "two"):
        write_folder(tmp_path / copy, ["cat", "dog"])
        (tmp_path / copy / "notes.txt").write_text(copy)
    marks = [fingerprint(copy, tmp_path)[copy] for copy in ("one", "two")]
    assert marks[0] == marks[1]
    assert marks[0] == open_samples(tmp_path / "one").identity()["sha256"]
    (tmp_path / "two/cat/0.png").rename(tmp_path / "two/cat/9.png")
    renamed = fingerprint("two", tmp_path)["two"]
    (tmp_path / "two/cat/9.png").write_bytes(b"other content")
    changed = fingerprint("two", tmp_path)["two"]
    assert len({marks[0], renamed, changed}) == 3


def test_what_is_nowhere_has_none(tmp_path: Path) -> None:
    for source in ("nowhere", "nowhere.tar", "nowhere.parquet", "cifar10:nowhere"):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            fingerprint(source, tmp_path)
