"""Inputs are divided once; an update touches what changed and nothing else."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from convit.images.lists import list_source
from convit.scale.destination import Destination
from convit.scale.inputs import InputFile, list_inputs
from convit.scale.jobs import parse_part
from convit.scale.manifest import NAME, InputShard, Manifest, divide, read_manifest, updated


def _images(*names: str, mark: str = "1") -> list[InputFile]:
    return [InputFile("image", name, 10, mark) for name in names]


TAR = InputFile("tar", "s3://b/0.tar", 100, "etag 1")


def test_images_are_taken_together_and_archives_alone() -> None:
    far = InputFile("image", "s3://b/x.jpg", 10, "etag 2")
    shards = divide([*_images("a", "b", "c"), TAR, *_images("d"), far], images_per_shard=2)
    assert [[file.path for file in shard.files] for shard in shards] == [
        ["a", "b"],
        ["c"],
        ["s3://b/0.tar"],
        ["d"],
        ["s3://b/x.jpg"],
    ]
    assert [shard.number for shard in shards] == [0, 1, 2, 3, 4]
    assert len({shard.name for shard in shards}) == 5
    with pytest.raises(ValueError, match="images per shard are 0, but must be at least 1"):
        divide([], 0)


def test_large_images_fill_a_shard_sooner() -> None:
    large = [InputFile("image", str(number), 3 * 2**30, "") for number in range(3)]
    assert [len(shard.files) for shard in divide(large)] == [1, 1, 1]


def test_an_update_keeps_what_did_not_change() -> None:
    old = Manifest(tuple(divide(_images("a", "b", "c", "d", "e", "f"), 2)))
    now = [*_images("a", "b", "c"), *_images("d", mark="2"), *_images("f", "g")]
    new = updated(old, now, 2)
    assert [[file.path for file in shard.files] for shard in new.shards] == [["a", "b"], ["c", "d"], ["f", "g"]]
    assert new.shards[0] == old.shards[0]
    assert [shard.number for shard in new.shards] == [0, 3, 4]
    assert updated(old, [file for shard in old.shards for file in shard.files], 2) == old


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    destination = Destination(tmp_path / "out")
    assert read_manifest(destination) is None
    manifest = Manifest(tuple(divide([*_images("a\nb", "file:caf%E9.jpg"), TAR])), {"model": "x"}, ("photos",))
    assert destination.create(NAME, manifest.to_bytes())
    assert read_manifest(destination) == manifest
    destination.write(NAME, manifest.to_bytes()[:-9])
    with pytest.raises(ValueError, match=r"_manifest\.parquet is damaged"):
        read_manifest(destination)


def test_only_stars_and_braces_make_a_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "photos [2019]"
    folder.mkdir()
    for name in ("1.png", "2.png", "a.jpg"):
        (folder / name).touch()
    (folder / "list.txt").write_text("a.jpg\n")
    for pattern, names in (("*.png", ["1.png", "2.png"]), ("{2..2}.png", ["2.png"]), ("*.txt", ["a.jpg"])):
        assert [Path(file.path).name for file in list_inputs([f"{folder}/{pattern}"])] == names
    for source in (f"file://{folder}/", f"file://{folder}/*.png"):
        assert [file.path for file in list_inputs([source]) if file.kind == "image"][:2] == [
            str(folder / name) for name in ("1.png", "2.png")
        ]
    moved = tmp_path / "list {1}.txt"
    moved.write_text("1.png\n")
    source = list_source(moved, folder)
    assert [file.path for file in list_inputs([source])] == [str(folder / "1.png")]
    for pattern in ("?.png", "[12].png"):
        with pytest.raises(FileNotFoundError, match="no such file"):
            list_inputs([f"{folder}/{pattern}"])


@pytest.mark.parametrize("form", ["{}", "file://{}/"])
def test_of_many_that_create_an_object_one_does(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsspec.spec.AbstractFileSystem.pipe_file", lambda *_, **__: pytest.fail("written in pieces"))
    destination = Destination(form.format(tmp_path))
    assert destination.holds(f"{tmp_path}/x")
    assert not destination.holds(f"s3://{tmp_path}/x")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: destination.create("x", bytes([number])), range(16)))
    assert sum(made) == 1
    assert destination.read("x") == bytes([made.index(True)])
    assert destination.names() - {".x.lock"} == {"x"}


@pytest.mark.parametrize("text", ["", "7", "2/2", "-1/2", "1/0", "a/b", "1/2/3"])
def test_a_part_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be i/n with i from 0 to n - 1, such as 0/64"):
        parse_part(text)


def test_the_name_of_a_shard_changes_with_its_files() -> None:
    assert InputShard(0, tuple(_images("a"))).name != InputShard(0, tuple(_images("a", mark="2"))).name
