import gzip
import tarfile
from pathlib import Path

import pytest

from convit.data import open_dataset
from convit.data.shards import read_shard
from convit.data.streams import ShardSequence, StreamSource
from tests.data.making import encoded, picture, write_members, write_shard

_BLOCK = 512


def test_keys_are_what_stands_before_the_first_dot_of_the_file_s_name(tmp_path: Path) -> None:
    image = encoded(picture(0))
    members = [("./v1.0/a.png", image), ("./v1.0/a.cls", b"1"), ("./v1.0/b.seg.png", b""), ("./v1.0/b.png", image)]
    shard = write_members(tmp_path / "x.tar", [*members, ("./v1.0/b.cls", b"0")])
    assert [(key, label) for key, _, label in read_shard(shard)] == [("./v1.0/a", 1), ("./v1.0/b", 0)]


@pytest.mark.parametrize("at", ["in a header", "between members", "in an image"])
@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_a_shard_that_is_cut_off_is_refused_wherever_it_is_cut(tmp_path: Path, at: str, ending: str) -> None:
    whole = write_shard(tmp_path / "x.tar", range(4)).read_bytes()
    # header and image of one block each, header and label of one block each
    cut = whole[: {"in a header": 4 * _BLOCK + 100, "between members": 4 * _BLOCK, "in an image": 5 * _BLOCK + 10}[at]]
    (tmp_path / f"cut.{ending}").write_bytes(gzip.compress(cut) if ending == "tar.gz" else cut)
    with pytest.raises(
        ValueError, match=r"cut\.tar\S* cannot be read as a tar archive \(.*\); fetch or write it again"
    ):
        list(read_shard(tmp_path / f"cut.{ending}"))


def test_a_shard_with_a_damaged_header_is_refused(tmp_path: Path) -> None:
    content = bytearray(write_shard(tmp_path / "x.tar", range(4)).read_bytes())
    content[4 * _BLOCK : 4 * _BLOCK + 8] = b"nonsense"
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.tar cannot be read .*cut off or damaged"):
        list(read_shard(tmp_path / "x.tar"))


@pytest.mark.parametrize("name", ["flipped.tar.gz", "flipped.tgz"])
def test_a_damaged_compression_is_refused(tmp_path: Path, name: str) -> None:
    content = bytearray(write_shard(tmp_path / name, range(40)).read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"flipped\S* cannot be read as a tar archive"):
        list(read_shard(tmp_path / name))


def test_labels_must_be_classes(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "x.tar", range(14), classes=13)
    expected = r"label 10 of sample 's0010' in .*x\.tar.* is too large: .* but there are 10 classes; correct"
    with pytest.raises(ValueError, match=expected):
        open_dataset(shard, classes=[str(number) for number in range(10)])
    with pytest.raises(ValueError, match=expected):
        list(ShardSequence(StreamSource([shard], lambda image: image, classes=10)))
    negative = write_members(tmp_path / "n.tar", [("a.png", encoded(picture(0))), ("a.cls", b"-1")])
    with pytest.raises(ValueError, match=r"'a' of .* has the label -1, but labels count from 0"):
        open_dataset(negative)


def _states(name: str, size: int) -> bytes:
    """The header of a member that is said to be so large."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
@pytest.mark.parametrize("member", ["a.png", "notes.bin", "._a.png"])
def test_members_that_are_too_large_are_refused(tmp_path: Path, name: str, member: str) -> None:
    content = _states(member, 1 << 40) + bytes(1 << 12)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(ValueError, match=r"cannot be read .*states 1099511627776 bytes .*but at most .*file_bytes"):
        open_dataset(tmp_path / name)


def test_what_unpacks_to_far_more_than_images_do_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [
        (name, content) for n in range(9) for name, content in ((f"{n}.png", bytes(1 << 20)), (f"{n}.cls", b"1"))
    ]
    bomb = write_members(tmp_path / "x.tar.gz", members)
    monkeypatch.setattr("convit.data.shards._UNSUSPECTED", 1 << 22)
    with pytest.raises(ValueError, match="unpacks to more than 100 times its size"):
        list(read_shard(bomb))
    assert len(list(read_shard(write_shard(tmp_path / "y.tar.gz", range(4))))) == 4


@pytest.mark.parametrize("prefix", ["./", ""])
def test_what_systems_leave_behind_is_passed_over(tmp_path: Path, prefix: str) -> None:
    image = encoded(picture(0))
    members: list[tuple[str, bytes]] = []
    for key in ("a", "b"):
        members += [
            (f"{prefix}._{key}.png", b"\0\5\26\7"),
            (f"{prefix}{key}.png", image),
            (f"{prefix}._{key}.cls", b"\0\5\26\7"),
            (f"{prefix}{key}.cls", b"1"),
        ]
    left = ["__MACOSX/._a.png", ".DS_Store", "Thumbs.db", ".ipynb_checkpoints/a-checkpoint.png", ".a.png.swp"]
    shard = write_members(tmp_path / "x.tar", [*members, *((prefix + name, b"x") for name in left)])
    assert [key for key, _, _ in read_shard(shard)] == [f"{prefix}a", f"{prefix}b"]
