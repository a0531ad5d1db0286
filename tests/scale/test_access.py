"""What gives access to inputs is used and never kept."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.dataset
import pytest
from PIL import Image

from convit.cli import main
from convit.cli.errors import one_line
from convit.images.names import redacted, shown
from convit.scale.destination import Destination
from convit.scale.inputs import InputFile
from convit.scale.jobs import with_access
from convit.scale.manifest import InputShard, Manifest

MODEL = ("--model", "convit_nano_patch4_32.cifar10", "--workers", "0")
KEY = "Basic bWU6c2VjcmV0"  # me:secret


class _Guarded(SimpleHTTPRequestHandler):
    """Files for those who have the password and a signature."""

    def log_message(self, *given: object) -> None:
        pass

    def send_head(self):
        if self.headers["Authorization"] == KEY and "?signature=" in self.path:
            return super().send_head()
        self.send_error(403)
        return None


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (40, 30 + number)).save(folder / f"{number}.png")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Guarded, directory=str(folder)))
    threading.Thread(target=server.serve_forever).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_passwords_and_signatures_are_not_kept(host: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"

    def run(signature: str, *more: str) -> int:
        source = f"http://me:secret@{host}/{{0..1}}.png?signature={signature}"
        return main(["embed", source, *MODEL, "-o", f"{out}/", "--images-per-shard", "1", *more])

    assert run("first", "--shard", "0/2") == 0
    assert run("second") == 0  # as good as the first
    assert run("third", "--update") == 0
    table = pyarrow.dataset.dataset(sorted(out.glob("0*"))).to_table()
    assert table.column("path").to_pylist() == [f"http://{host}/{number}.png" for number in range(2)]
    assert run("fourth", "--normalize") == 2
    said = capfd.readouterr()
    kept = b"".join(file.read_bytes() for file in out.rglob("*") if file.is_file())
    for secret in ("secret", "first", "second", "third", "fourth"):
        assert secret not in said.out + said.err
        assert secret.encode() not in kept
    assert (out / "_manifest.parquet").exists()


def test_a_list_of_urls_is_read_by_what_gives_access(
    host: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    listed, out = tmp_path / "list.txt", tmp_path / "out"
    for signature, code in (("key-one", 3), ("key-two", 0)):
        names = [f"http://me:secret@{host}/{name}.png?signature={signature}" for name in (0, 1, "none")]
        listed.write_text("\n".join(names))
        assert main(["embed", str(listed), *MODEL, "-o", f"{out}/", "--update"]) == code
    rows = pyarrow.dataset.dataset(sorted(out.glob("0*"))).to_table().to_pylist()
    assert [row["path"] for row in rows] == [f"http://{host}/{name}.png" for name in (0, 1, "none")]
    assert [row["error"] for row in rows[:2]] == [None, None]
    assert "was not there when it was listed; check the address" in rows[2]["error"]
    said = capfd.readouterr()
    kept = b"".join(file.read_bytes() for file in out.rglob("*") if file.is_file())
    kept += (said.out + said.err).encode()
    assert not any(secret in kept for secret in (b"secret", b"key-one", b"key-two"))
    listed.write_text(f"http://{host}/0.png\n1.png")
    assert main(["embed", str(listed), *MODEL, "-o", f"{tmp_path}/other/"]) == 2
    assert f"{listed} names URLs and the file 1.png; put them into two lists" in capfd.readouterr().err


def test_a_destination_knows_its_objects_by_every_name_of_its_protocol() -> None:
    destination = Destination("s3a://bucket/out/")
    places = ("s3://bucket/out/0", "s3a://bucket/out/a/0", "s3://bucket/outer/0", "bucket/out/0")
    assert [destination.holds(place) for place in places] == [True, True, False, False]


def test_two_files_that_a_query_tells_apart_are_refused(host: str, tmp_path: Path) -> None:
    sources = [f"http://me:secret@{host}/0.png?signature={number}" for number in range(2)]
    assert main(["embed", *sources, *MODEL, "-o", f"{tmp_path}/out/"]) == 2


def test_access_is_that_of_the_sources() -> None:
    url, other = "https://me:secret@host/a.tar?key=1", "s3://me:secret@bucket/x/"
    paths = [shown(url), "s3://bucket/x/b c#?.png", "https://elsewhere/a.tar", "photos/a.png"]
    shard = InputShard(0, tuple(InputFile("tar", path, 1, "") for path in paths))
    (opened,) = with_access([shard], [url, other, "photos"])
    assert [file.path for file in opened.files] == [url, "s3://me:secret@bucket/x/b c#?.png", *paths[2:]]
    assert opened.name == shard.name
    assert Manifest((shard,)).sha256 == Manifest((opened,)).sha256
    gone = ["https://127.0.0.1:9/list.txt"]  # which is read only where it is needed
    assert with_access([], gone) == []
    local = InputShard(0, (InputFile("image", "photos/a.png", 1, ""),))
    assert with_access([local], gone) == [local]


def test_what_is_said_holds_no_access() -> None:
    said = "Cannot connect to 'https://me:secret@host/x?key=secret' via s3://key:secret@b/c"
    assert redacted(said) == one_line(said) == "Cannot connect to 'https://host/x' via s3://b/c"
    chained = "simplecache::https://me:secret@host/x.tar?signature=secret"
    assert shown(chained) == redacted(chained) == "simplecache::https://host/x.tar"
    chained = "zip://what?.jpg::simplecache::https://me:secret@host/x.zip?signature=secret"
    assert shown(chained) == redacted(chained) == "zip://what?.jpg::simplecache::https://host/x.zip"
    assert shown("https://host/a::b?signature=secret") == "https://host/a::b"
    assert shown("https://[::1]:8000/x.tar?signature=secret") == "https://[::1]:8000/x.tar"
