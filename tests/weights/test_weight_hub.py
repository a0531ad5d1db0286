"""The hub's real client against a stand-in on localhost: download, cache, offline, resume, and what goes wrong."""

import json
import logging
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from convit.weights import create_model, fetch_weights, find_weight_set, is_cached
from convit.weights import hub as hub_module
from convit.weights.fetch import fetch_hub_file
from convit.weights.hub import Repo
from convit.weights.reach import why_unreachable
from tests.weights.conftest import COMMIT

REPO = "timm/convit_tiny.fb_in1k"
CONTENT = save({"a": torch.arange(100_000, dtype=torch.float32)})


def weights_of(server, **changes):
    return replace(find_weight_set("convit_tiny"), **{"url": f"{server.address}/convit_tiny.pth", **changes})


def free_address():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


def test_first_download_then_cache_without_a_single_request(hub, tmp_path):
    hub.repos[REPO] = {"model.safetensors": CONTENT, "pytorch_model.bin": b"never asked for"}
    weight_set = weights_of(hub)
    assert not is_cached(weight_set, tmp_path)
    path = fetch_weights(weight_set, tmp_path)
    assert path.read_bytes() == CONTENT
    assert path.name == "model.safetensors"
    assert is_cached(weight_set, tmp_path)
    assert not list(tmp_path.rglob("*.incomplete"))
    seen = len(hub.requests)
    assert fetch_weights(weight_set, tmp_path) == path
    assert len(hub.requests) == seen


def test_cache_serves_with_the_hub_down_and_offline(hub, tmp_path, monkeypatch):
    hub.repos[REPO] = {"model.safetensors": CONTENT}
    path = fetch_weights(weights_of(hub), tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", free_address())
    assert fetch_weights(weights_of(hub), tmp_path) == path
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch_weights(weights_of(hub), tmp_path) == path


def test_offline_and_not_cached_is_said_without_a_request(hub, tmp_path, monkeypatch):
    hub.repos[REPO] = {"model.safetensors": CONTENT}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConnectionError, match=r"not in the cache and HF_HUB_OFFLINE forbids.*--weights FILE") as caught:
        fetch_weights(weights_of(hub), tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE"):
        fetch_hub_file(Repo("someone/else"), cache_dir=tmp_path)
    assert hub.requests == []


def test_broken_transfer_goes_on_where_it_stopped(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(hub_module, "_CHUNK", 50_000)  # the client resumes after whole chunks
    hub.repos[REPO] = {"model.safetensors": CONTENT}
    hub.cut, hub.cut_at = 1, 150_000
    assert fetch_weights(weights_of(hub), tmp_path).read_bytes() == CONTENT
    ranges = [each for each in hub.requests if "bytes=" in each]
    assert ranges == [f"GET /{REPO}/resolve/main/model.safetensors bytes=150000-"]


def test_transfer_that_never_completes_leaves_no_file(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    hub.repos[REPO] = {"model.safetensors": CONTENT}
    hub.cut, hub.cut_at = 1000, 150_000
    with pytest.raises(ConnectionError, match=r"cannot fetch convit_tiny.fb_in1k.*does not deliver") as caught:
        fetch_weights(weights_of(hub, url=None), tmp_path)
    assert "\n" not in str(caught.value)
    assert not is_cached(weights_of(hub), tmp_path)
    assert not list(tmp_path.rglob("*.incomplete"))


def test_content_that_is_not_what_the_hub_announced_is_discarded(hub, tmp_path):
    hub.repos[REPO] = {"model.safetensors": CONTENT}
    hub.announce = "ab" * 32
    with pytest.raises(ConnectionError, match=r"model.safetensors arrived damaged"):
        fetch_weights(weights_of(hub, url=None), tmp_path)
    assert not is_cached(weights_of(hub), tmp_path)


def test_transfer_that_never_ends_stops_at_the_cap(hub, tmp_path):
    hub.repos[REPO] = {"model.safetensors": CONTENT}
    hub.lengths, hub.endless = False, True
    with pytest.raises(ConnectionError, match=r"does not deliver .*more than 1,000,000 bytes, the most that") as caught:
        fetch_weights(weights_of(hub, url=None, max_bytes=1_000_000), tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.incomplete"))
    assert hub.sent < 20_000_000


def test_file_that_announces_too_much_is_not_fetched(hub, tmp_path):
    hub.repos[REPO] = {"model.safetensors": CONTENT}
    with pytest.raises(ConnectionError, match=r"more than 100,000 bytes"):
        fetch_weights(weights_of(hub, url=None, max_bytes=100_000), tmp_path)
    assert not [path for path in tmp_path.rglob("blobs/*") if path.is_file()]


def test_notes_beside_weights_have_a_cap_of_their_own(hub, tmp_path):
    hub.repos["someone/else"] = {"config.json": b" " * 100_000}
    hub.lengths, hub.endless = False, True
    with pytest.raises(ConnectionError, match=r"more than 16,777,216 bytes"):
        create_model("hf-hub:someone/else", cache_dir=tmp_path)


def test_transfer_that_trickles_is_ended(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("convit.weights.download.STALL_SECONDS", 0.5)
    hub.repos[REPO] = {"model.safetensors": CONTENT}
    hub.pause = 0.05
    with pytest.raises(ConnectionError, match=r"fewer than 1,000 bytes a second arrived in 0.5 s"):
        fetch_weights(weights_of(hub, url=None), tmp_path)
    assert not is_cached(weights_of(hub), tmp_path)
    assert constants.DOWNLOAD_CHUNK_SIZE > hub_module._CHUNK
    hub.pause = 0.0  # lets the abandoned thread end


def test_older_repositories_have_a_pickle_only(hub, tmp_path):
    hub.repos[REPO] = {"pytorch_model.bin": b"PK\x03\x04 and so on"}
    assert fetch_weights(weights_of(hub), tmp_path).name == "pytorch_model.bin"
    assert fetch_weights(weights_of(hub), tmp_path).name == "pytorch_model.bin"


@pytest.mark.parametrize("status", [None, 500, 503, 401])
def test_authors_server_steps_in_where_the_hub_does_not_deliver(hub, authors, tmp_path, monkeypatch, caplog, status):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    authors.files["/convit_tiny.pth"] = b"PK\x03\x04 a PyTorch file"
    hub.status = status
    with caplog.at_level(logging.INFO):
        path = fetch_weights(weights_of(authors), tmp_path)
    assert path.read_bytes() == b"PK\x03\x04 a PyTorch file"
    assert f"trying {authors.address}/convit_tiny.pth" in caplog.text
    assert is_cached(weights_of(authors), tmp_path)


def test_unknown_repository_and_revision_are_the_callers_mistake(hub, tmp_path):
    hub.repos[REPO] = {"config.json": b"{}"}
    for repo, message in (
        (Repo("someone/else"), "has no public repository someone/else .main."),
        (Repo(REPO, "v9"), "has no public repository timm/convit_tiny.fb_in1k .v9."),
        (Repo(REPO), "has none of model.safetensors, pytorch_model.bin"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            fetch_hub_file(repo, cache_dir=tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["timm", "hf/a/b", "a/b c", ""])
def test_repository_names_that_cannot_be(name):
    with pytest.raises(ValueError, match="is not a hub repository"):
        hub_module.parse_repo(name)


def test_no_network_is_said_at_once(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", free_address())
    started = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        fetch_weights(weights_of(hub, url=f"{free_address()}/convit_tiny.pth"), tmp_path)
    assert time.monotonic() - started < 3
    message = str(caught.value)
    assert "cannot reach http://127.0.0.1" in message
    assert "Connection refused" in message
    for remedy in ("convit_mini_patch8_64.tiny_imagenet", "--weights FILE", "HF_ENDPOINT", "HF_HOME"):
        assert remedy in message
    assert "\n" not in message


def hang(*_):
    time.sleep(0.5)
    raise OSError("too late to matter")


def test_name_that_does_not_resolve_and_lookup_that_hangs(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://no-such-host.invalid")
    with pytest.raises(ConnectionError, match=r"cannot reach http://no-such-host.invalid"):
        fetch_weights(weights_of(hub, url=None), tmp_path)
    monkeypatch.setattr("convit.weights.reach.CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(socket, "create_connection", hang)
    with pytest.raises(ConnectionError, match=r"no connection within 0.2 s"):
        fetch_weights(weights_of(hub, url=None), tmp_path)


def test_server_that_accepts_and_stays_silent(hub, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("convit.weights.reach.CONNECT_SECONDS", 0.3)
    monkeypatch.setattr("convit.weights.reach.ANSWER_SECONDS", 0.6)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ConnectionError, match=r"no answer within 0.6 s"):
            fetch_weights(weights_of(hub, url=None), tmp_path)
    assert "accepts connections but does not answer yet" in caplog.text


def test_server_that_speaks_no_http_is_left_to_the_client_to_judge(capfd):
    def answer():
        connection, _ = strange.accept()  # of the first look, which sends nothing
        connection.close()
        connection, _ = strange.accept()
        connection.recv(1024)
        connection.sendall(b"what do you want?\r\n")
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as strange:
        Thread(target=answer, daemon=True).start()
        assert why_unreachable(f"http://127.0.0.1:{strange.getsockname()[1]}") is None
    assert capfd.readouterr().err == ""  # no traceback of a thread


def test_proxies_are_honored(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", free_address())
    monkeypatch.setenv("no_proxy", "")
    hub.repos[REPO] = {"model.safetensors": CONTENT}
    with pytest.raises(ConnectionError, match="Connection refused"):
        fetch_weights(weights_of(hub, url=None), tmp_path)
    assert hub.requests == []
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert fetch_weights(weights_of(hub, url=None), tmp_path).read_bytes() == CONTENT


def test_full_disk_in_one_line(hub, tmp_path, monkeypatch):
    import errno

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    hub.repos[REPO] = {"model.safetensors": CONTENT}
    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(OSError, match=r": no space left on the device; free some, or set HF_HOME") as caught:
        fetch_weights(weights_of(hub), tmp_path)
    assert caught.value.errno == errno.ENOSPC


def test_cache_that_cannot_be_written(hub, read_only):
    hub.repos[REPO] = {"model.safetensors": CONTENT}
    with pytest.raises(PermissionError, match=r": no permission; .* set HF_HOME to a folder elsewhere"):
        fetch_weights(weights_of(hub), read_only / "cache")


def test_environment_variables_of_the_hub_are_enough(server, tmp_path):
    """In a process of its own, where the client reads `HF_ENDPOINT` and `HF_HOME` at import, as a user's does."""
    server.repos[REPO] = {"model.safetensors": CONTENT}
    code = (
        "import sys; from convit.weights import fetch_weights, find_weight_set; "
        f"print(fetch_weights(find_weight_set({REPO.removeprefix('timm/')!r}))); print('torch' in sys.modules)"
    )
    environment = {**os.environ, "HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    path, needs_torch = done.stdout.split()
    assert Path(path).is_relative_to(tmp_path / "hub" / "models--timm--convit_tiny.fb_in1k")
    assert Path(path).read_bytes() == CONTENT
    assert needs_torch == "False"
    assert done.stderr == ""  # no bar where there is no terminal
    offline = {**environment, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": free_address()}
    again = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=True)
    assert again.stdout == done.stdout


def test_model_from_a_hub_repository(hub, tmp_path):
    donor = create_model("convit_nano_patch4_32", num_classes=3)
    hub.repos["someone/nano"] = {
        "config.json": json.dumps(
            {
                "architecture": "convit_nano_patch4_32",
                "num_classes": 3,
                "label_names": ["ant", "bee", "cow"],
                "pretrained_cfg": {"tag": "mine", "input_size": [3, 32, 32], "crop_pct": 1.0, "license": "mit"},
            }
        ).encode(),
        "model.safetensors": save(donor.state_dict()),
    }
    model = create_model("hf-hub:someone/nano", pretrained=True, cache_dir=tmp_path)
    assert torch.equal(model.head.weight, donor.head.weight)
    card = model.pretrained_cfg
    assert (card["source"], card["hf_hub_id"], card["tag"]) == ("hf-hub", "someone/nano", "mine")
    assert (card["label_names"], card["crop_pct"], card["license"]) == (("ant", "bee", "cow"), 1.0, "mit")
    random = create_model(f"hf_hub:someone/nano@{COMMIT}", cache_dir=tmp_path)
    assert not torch.equal(random.head.weight, donor.head.weight)


def test_hub_repository_of_another_kind(hub, tmp_path):
    hub.repos["someone/else"] = {"config.json": b'{"architectures": ["ViT"]}'}
    with pytest.raises(ValueError, match=r"not a timm-style hub repository: its config.json names no architecture"):
        create_model("hf-hub:someone/else", cache_dir=tmp_path)
