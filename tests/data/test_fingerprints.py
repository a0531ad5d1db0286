import hashlib
import itertools
import os
from pathlib import Path

import pytest

from convit.data import fingerprint, open_samples
from convit.data import samples as reading
from convit.data.identity import same_listing
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


def test_a_folder_is_known_by_names_sizes_and_the_newest_time_and_no_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an image was read")

    monkeypatch.setattr(reading, "read_stored", refuse)
    for copy in ("one", "two"):
        write_folder(tmp_path / copy, ["cat", "dog"])
        (tmp_path / copy / "notes.txt").write_text(copy)
    for image in tmp_path.rglob("*.png"):
        os.utime(image, (1e9, 1e9))
    marks = [fingerprint(copy, tmp_path)[copy] for copy in ("one", "two")]
    assert marks[0] == marks[1]
    assert marks[0].endswith(" of sizes and names, newest 2001-09-09T01:46:40.000+00:00")
    image = tmp_path / "two/cat/0.png"
    image.write_bytes(image.read_bytes()[::-1])
    touched = fingerprint("two", tmp_path)["two"]
    assert touched != marks[0]
    assert same_listing(touched, marks[0])
    image.write_bytes(b"of another size")
    resized = fingerprint("two", tmp_path)["two"]
    image.rename(image.with_stem("9"))
    renamed = fingerprint("two", tmp_path)["two"]
    for one, other in itertools.combinations((marks[0], resized, renamed), 2):
        assert not same_listing(one, other)


def test_a_folder_may_hold_an_image_of_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, stat = write_folder(tmp_path / "images", ["cat", "dog"]), Path.stat

    def far_ahead(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = stat(path, follow_symlinks=follow_symlinks)
        return os.stat_result(found, {"st_mtime": 1e12, "st_mtime_ns": 10**21})

    samples = open_samples(folder)
    monkeypatch.setattr(Path, "stat", far_ahead)
    assert fingerprint(folder, samples=samples)[str(folder)].endswith(", newest 33658-09-27T01:46:40.000+00:00")


def test_images_behind_a_label_map_are_known_by_their_identity(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images", ["cat", "dog"])
    (mapped := tmp_path / "map.csv").write_text("cat,animal\ndog,animal\n")
    samples = open_samples(folder, label_map=mapped)
    assert fingerprint(folder, samples=samples) == {str(folder): samples.identity()["sha256"]}


def test_what_is_nowhere_has_none(tmp_path: Path) -> None:
    for source in ("nowhere", "nowhere.tar", "nowhere.parquet", "cifar10:nowhere"):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            fingerprint(source, tmp_path)
