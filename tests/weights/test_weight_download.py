"""Files behind plain addresses: hash recorded once and checked from then on, transfers resumed, errors in one line."""

import errno
import hashlib
import json
import logging
import socket
import sys
import time
from pathlib import Path

import pytest

from convit.weights.download import cached_url, fetch_url, is_kept

CONTENT = b"PK\x03\x04" + bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def url(server):
    server.files["/convit/convit_tiny.pth"] = CONTENT
    return f"{server.address}/convit/convit_tiny.pth"


def downloads(server):
    return server.count("GET")


def test_first_download_records_and_shows_the_hash(server, url, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        path = fetch_url(url, tmp_path / "made" / "on the way")
    assert path.read_bytes() == CONTENT
    assert DIGEST in caplog.text
    record = json.loads(path.with_name("convit_tiny.pth.json").read_text())
    assert (record["url"], record["sha256"], record["bytes"]) == (url, DIGEST, len(CONTENT))
    assert sorted(each.name for each in path.parent.iterdir() if not each.name.startswith(".")) == [
        "convit_tiny.pth",
        "convit_tiny.pth.json",
    ]
    assert fetch_url(url, path.parent) == path
    assert downloads(server) == 1


def test_files_of_one_name_at_two_addresses_are_two_files(server, url, tmp_path):
    others = {
        f"{server.address}{path}": b"PK\x03\x04" + path.encode() for path in ("/other/convit_tiny.pth", "/", "/?id=2")
    }
    server.files |= {each.removeprefix(server.address): content for each, content in others.items()}
    for _ in range(2):
        for each, content in {url: CONTENT, **others}.items():
            assert fetch_url(each, tmp_path).read_bytes() == content
    assert downloads(server) == 4


def test_changed_file_on_the_server_is_refused(server, url, tmp_path):
    path = fetch_url(url, tmp_path)
    path.unlink()
    server.files["/convit/convit_tiny.pth"] = CONTENT[:-1] + b"!"
    with pytest.raises(OSError, match=rf"but {DIGEST} was recorded at the first download.*delete .*json") as caught:
        fetch_url(url, tmp_path)
    assert "\n" not in str(caught.value)
    assert not path.exists()
    assert not path.with_name("convit_tiny.pth.part").exists()
    server.files["/convit/convit_tiny.pth"] = CONTENT
    assert fetch_url(url, tmp_path).read_bytes() == CONTENT


def test_stated_hash_takes_precedence(url, tmp_path):
    with pytest.raises(OSError, match=f"but {'0' * 64} the weight set states"):
        fetch_url(url, tmp_path, sha256="0" * 64)
    assert not is_kept(url, tmp_path)
    assert fetch_url(url, tmp_path, sha256=DIGEST).read_bytes() == CONTENT


def test_file_damaged_in_the_cache_is_fetched_again(server, url, tmp_path, caplog):
    path = fetch_url(url, tmp_path)
    path.write_bytes(CONTENT[:1000])
    assert is_kept(url, tmp_path)
    assert cached_url(url, tmp_path) is None
    assert "no longer has the sha256" in caplog.text
    assert fetch_url(url, tmp_path).read_bytes() == CONTENT
    assert downloads(server) == 2


def test_broken_transfer_is_taken_up_at_once(server, url, tmp_path):
    server.cut, server.cut_at = 1, 100_000
    assert fetch_url(url, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1].endswith("bytes=100000-")


def test_broken_transfer_is_taken_up_by_a_later_run(server, url, tmp_path):
    server.cut, server.cut_at = 3, 100_000
    with pytest.raises(ConnectionError, match=rf"stopped after 100000 of {len(CONTENT)} bytes .*run it again"):
        fetch_url(url, tmp_path)
    assert not is_kept(url, tmp_path)
    assert (tmp_path / "convit_tiny.pth.part").stat().st_size == 100_000
    assert fetch_url(url, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1].endswith("bytes=100000-")


def test_kept_part_is_discarded_where_the_file_changed_meanwhile(server, url, tmp_path):
    server.cut, server.cut_at = 3, 100_000
    with pytest.raises(ConnectionError):
        fetch_url(url, tmp_path)
    other = b"PK\x03\x04" + b"another file" * 50_000
    server.files["/convit/convit_tiny.pth"] = other
    assert fetch_url(url, tmp_path).read_bytes() == other


def test_server_without_ranges_sends_everything_again(server, url, tmp_path):
    server.cut, server.cut_at, server.ranges = 2, 100_000, False
    assert fetch_url(url, tmp_path).read_bytes() == CONTENT


def test_server_without_lengths(server, url, tmp_path):
    server.lengths = False
    assert fetch_url(url, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("lengths", [True, False])
def test_more_than_the_cap_is_refused_and_not_kept(server, url, tmp_path, lengths):
    server.lengths, server.endless = lengths, not lengths
    with pytest.raises(ConnectionError, match=r"sends something else: it has more than 300,000 bytes") as caught:
        fetch_url(url, tmp_path, most=300_000)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if path.suffix in (".pth", ".part")] == []
    assert downloads(server) == 1
    assert server.sent < 20_000_000


def test_transfer_that_trickles_is_ended(server, url, tmp_path, monkeypatch):
    monkeypatch.setattr("convit.weights.download.STALL_SECONDS", 0.3)
    monkeypatch.setattr("convit.weights.download.ATTEMPTS", 2)
    server.pause = 0.02
    started = time.monotonic()
    with pytest.raises(ConnectionError, match=r"stopped after \d+ of \d+ bytes .fewer than 1,000 bytes a second"):
        fetch_url(url, tmp_path)
    assert time.monotonic() - started < 10
    server.pause = 0.0
    assert fetch_url(url, tmp_path).read_bytes() == CONTENT


def test_complete_part_of_an_interrupted_run(server, url, tmp_path):
    part = tmp_path / "convit_tiny.pth.part"
    part.write_bytes(CONTENT)
    part.with_name("convit_tiny.pth.part.json").write_text(json.dumps({"validator": f'"{DIGEST}"'}))
    assert fetch_url(url, tmp_path).read_bytes() == CONTENT


def test_answers_that_are_no_weights(server, url, tmp_path):
    server.files["/convit/convit_tiny.pth"] = b"<html>please log in</html>"
    with pytest.raises(ConnectionError, match="sent no PyTorch file; is a login page"):
        fetch_url(url, tmp_path)
    with pytest.raises(ConnectionError, match=r"answered 404 Not Found"):
        fetch_url(f"{server.address}/no/such.pth", tmp_path)
    server.status = 503
    with pytest.raises(ConnectionError, match=r"answered 503 Service Unavailable"):
        fetch_url(url, tmp_path)
    assert not is_kept(url, tmp_path)


def test_no_network(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(ConnectionError, match=f"cannot reach {address} .Connection refused."):
        fetch_url(f"http://{address}/convit_tiny.pth", tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_full_disk(url, tmp_path):
    (tmp_path / "convit_tiny.pth.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=rf"^{tmp_path}: no space left on the device; free some, or set") as caught:
        fetch_url(url, tmp_path)
    assert caught.value.errno == errno.ENOSPC


def test_folder_that_cannot_be_written(url, read_only):
    with pytest.raises(PermissionError, match=r": no permission; change the permissions, or set XDG_CACHE_HOME"):
        fetch_url(url, read_only / "cache")


def test_bar_on_a_terminal_only(url, tmp_path, monkeypatch, capsys):
    from convit.weights import show_progress

    fetch_url(url, tmp_path / "a")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch_url(url, tmp_path / "b")
    assert "convit_tiny.pth" in capsys.readouterr().err
    show_progress(False)
    fetch_url(url, tmp_path / "c")
    show_progress(True)
    assert capsys.readouterr().err == ""
