import json
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from convit.data import ClassName, fingerprint, open_dataset
from convit.data.classes import classes_beside
from convit.data.locate import find_files, kind_of
from convit.data.parquet import ParquetSamples
from convit.data.remote import fetch_all, list_files, remote_file
from convit.data.sampling import ResumableLoader
from convit.data.shards import read_shard
from convit.data.streams import ShardSequence, ShardStream, StreamSource
from convit.images.names import shown, split_url
from tests.data.making import picture, write_parquet, write_shard
from tests.data.serving import Served, served


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr("convit.data.remote.WAITS", (0.0, 0.0))
    for shard in range(2):
        write_shard(tmp_path / f"x-{shard}.tar", range(4 * shard, 4 * shard + 4), size=64)
    (tmp_path / "classes.json").write_text(json.dumps(["even", "odd"]))
    with served(tmp_path) as state:
        yield state


def _numbers(loader: ResumableLoader) -> list[int]:
    return [number for batch, _ in loader for number in batch.tolist()]


def _total(image: object) -> int:
    return int(np.asarray(image).astype(np.int64).sum())


class _Hosted(MemoryFileSystem):
    """A store whose paths begin with the container, or at the host's root."""

    protocol = ("abfs", "sftp")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        scheme, host, inside = split_url(path) if "://" in path else ("", "", path)
        return (f"/{host.partition('@')[0]}{inside}" if scheme == "abfs" else inside).rstrip("/")


@pytest.mark.parametrize("place", ["abfs://container@account.dfs.core.windows.net/a", "sftp://me@host/container/a"])
def test_what_a_pattern_means_lies_on_its_host(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_registry, place.partition(":")[0], _Hosted)
    store = _Hosted()
    store.pipe({f"/container/a/{name}": b"x" for name in ("0.tar", "1.tar", "b/2.tar")})
    try:
        assert [file.url for file in list_files(f"{place}/*.tar")] == [f"{place}/0.tar", f"{place}/1.tar"]
        assert [remote_file(file.url).size for file in list_files(f"{place}/")] == [1, 1, 1]
    finally:
        store.rm("/container", recursive=True)


def test_files_of_one_path_in_two_stores_are_two(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe(f"{tmp_path}/a.jpg", b"memory")
    (tmp_path / "a.jpg").write_bytes(b"local")
    urls = [f"{protocol}://{tmp_path}/a.jpg" for protocol in ("memory", "file", "memory")]
    assert fetch_all(urls) == [b"memory", b"local", b"memory"]
    store.rm(str(tmp_path), recursive=True)


def test_classes_lie_beside_a_shard_whatever_its_folder_is_called() -> None:
    store = fsspec.filesystem("memory")
    store.pipe({"/what? #1/x.tar": b"", "/what? #1/classes.json": b'["even", "odd"]'})
    found = classes_beside("memory://what? #1/x.tar")
    assert found == ("memory://what? #1/classes.json", (ClassName("even"), ClassName("odd")))
    store.rm("/what? #1", recursive=True)


def test_remote_shards_are_read_into_memory(server: Served) -> None:
    dataset = open_dataset(f"{server.url}/x-{{0..1}}.tar")
    assert dataset.classes == ("even", "odd")
    assert [dataset.label(number) for number in range(8)] == [0, 1] * 4
    assert np.array_equal(np.asarray(dataset[5][0]), np.asarray(picture(5, 64)))
    assert server.asked == {"x-0.tar": 1, "x-1.tar": 1, "classes.json": 1}


@pytest.mark.parametrize("workers", [0, 2])
def test_remote_shards_are_streamed_as_local_ones_are(server: Served, tmp_path: Path, workers: int) -> None:
    def loader(shards: list[Path | str]) -> ResumableLoader:
        stream = ShardStream(StreamSource(shards, _total), batch_size=2, seed=0, buffer=3)
        return ResumableLoader(stream, batches=4, workers=workers)

    there, here = find_files("x-{0..1}.tar", server.url), find_files("x-*.tar", tmp_path)
    assert there == [f"{server.url}/x-0.tar", f"{server.url}/x-1.tar"]
    fingerprint(there)  # this process has asked before its workers do
    assert sorted(_numbers(loader(there))) == sorted(_numbers(loader(here)))
    assert list(ShardSequence(StreamSource(there, _total))) == list(ShardSequence(StreamSource(here, _total)))


def test_a_connection_that_breaks_is_taken_up_again(server: Served, tmp_path: Path) -> None:
    server.cut.add("x-0.tar")
    assert list(read_shard(f"{server.url}/x-0.tar")) == list(read_shard(tmp_path / "x-0.tar"))
    assert server.asked["x-0.tar"] == 2


def test_an_absent_shard_is_named_with_its_address(server: Served) -> None:
    with pytest.raises(FileNotFoundError, match=rf"there is no {server.url}/x-7\.tar; check the address"):
        open_dataset(f"{server.url}/x-{{7..8}}.tar?signature=secret")


def test_a_server_that_is_away_or_refuses_is_named(server: Served, tmp_path: Path) -> None:
    server.refuse = {"x-0.tar": 503, "x-1.tar": 403}
    with pytest.raises(
        ConnectionError, match=r"x-0\.tar cannot be read \(the server answers with status 503\) after 3"
    ):
        list(read_shard(f"{server.url}/x-0.tar"))
    with pytest.raises(PermissionError, match=r"x-1\.tar is refused \(.* status 403\); check") as refused:
        list(read_shard(f"{server.url}/x-1.tar?signature=secret"))
    assert "secret" not in str(refused.value)
    with served(tmp_path) as gone:
        pass
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1.*after 3 attempts; check the address and"):
        list(read_shard(f"{gone.url}/x-0.tar"))
    for url in (f"{gone.url}/x-0.tar", "ftp://me:secret@127.0.0.1:9/x.tar"):  # the second is asked at once
        with pytest.raises(ConnectionError, match=rf"^{shown(url)} cannot be reached \([^)]+.*; check the address and"):
            fingerprint(url)


def test_class_names_that_are_refused_are_absent(server: Served) -> None:
    server.refuse = {"classes.json": 403}
    assert open_dataset(f"{server.url}/x-0.tar").classes is None


@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("https", "aiohttp")])
def test_a_package_that_a_store_needs_is_named(monkeypatch: pytest.MonkeyPatch, protocol: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(_registry, protocol, raising=False)  # where another test has used it
    with pytest.raises(ImportError, match=rf"{protocol}:// addresses need another package \(.*{package}"):
        list(read_shard(f"{protocol}://bucket/x.tar"))


def test_an_error_in_a_worker_is_told_in_one_line(server: Served) -> None:
    stream = ShardStream(StreamSource([f"{server.url}/x-9.tar"], _total), batch_size=2, seed=0, buffer=3)
    with pytest.raises(FileNotFoundError, match=rf"^there is no {server.url}/x-9\.tar; [^\n]*$"):
        list(ResumableLoader(stream, batches=1, workers=1))


def test_any_store_that_fsspec_knows_is_searched(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    for name in ("b.tar", "a.tar", "notes.txt"):
        store.pipe(f"/bucket/{name}", write_shard(tmp_path / "x.tar", range(2)).read_bytes())
    assert find_files("memory://bucket/*.tar") == ["memory://bucket/a.tar", "memory://bucket/b.tar"]
    assert find_files("memory://bucket") == find_files("memory://bucket/*.tar")
    assert find_files("memory://buck*/*.tar") == ["memory:///bucket/a.tar", "memory:///bucket/b.tar"]
    assert len(open_dataset("memory://bucket/*.tar")) == 4
    with pytest.raises(FileNotFoundError, match="no shard at memory://elsewhere"):
        find_files("memory://elsewhere/*.tar")


def test_remote_parquet_is_read(server: Served, tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", range(3))
    samples = ParquetSamples([f"{server.url}/x.parquet"])
    assert list(samples.labels) == [0, 1, 0]
    assert np.array_equal(np.asarray(samples.image(2)), np.asarray(picture(2)))


def test_remote_files_are_told_apart_without_fetching_them(server: Served, tmp_path: Path) -> None:
    found = fingerprint(f"{server.url}/x-{{0..1}}.tar?signature=secret")
    size = (tmp_path / "x-0.tar").stat().st_size
    assert found[f"{server.url}/x-0.tar"] == f'etag "x-0.tar-1", {size} bytes'
    assert list(found) == [f"{server.url}/x-0.tar", f"{server.url}/x-1.tar"]
    assert not server.asked


def test_addresses_are_known_by_their_protocol(tmp_path: Path) -> None:
    assert kind_of("s3://bucket/train-{000..146}.tar").name == "shards"
    assert kind_of("https://host/train.parquet?download=true").name == "parquet"
    assert kind_of("x.tar", "https://host/data").name == "shards"
    assert shown("https://me:secret@host/x.tar?key=1") == "https://host/x.tar"
    assert shown(tmp_path / "a?b#c.tar") == str(tmp_path / "a?b#c.tar")
    with pytest.raises(ValueError, match=r"nosuch://x\.tar cannot be opened .*use https://"):
        list(read_shard("nosuch://x.tar"))
