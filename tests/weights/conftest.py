"""A stand-in for the hub and for the authors' server, on localhost, that the real client talks to."""

import contextlib
import hashlib
import itertools
import os
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class StandIn:
    """Serves `repos["owner/name"]["file"]` as the hub does, and `files["/path"]` as a plain server.

    `cut` breaks that many downloads after `cut_at` bytes; `status` answers everything with an error; `announce` states
    another hash than the content's; `ranges` and `lengths` switch partial answers and Content-Length off; `endless`
    sends the content again and again, `pause` waits that many seconds after every 10 bytes of it.
    """

    def __init__(self):
        self.repos, self.files = {}, {}
        self.cut, self.cut_at, self.status, self.announce = 0, 0, None, None
        self.ranges, self.lengths = True, True
        self.endless, self.pause, self.sent = False, 0.0, 0
        self.requests = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.handle_error = lambda *_: None  # whoever asked has hung up
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def count(self, method):
        return sum(each.startswith(method) for each in self.requests)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def _handler(stand_in):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do_HEAD(self):
            self.respond(with_body=False)

        def do_GET(self):
            self.respond(with_body=True)

        def respond(self, *, with_body):
            stand_in.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
            if stand_in.status is not None:
                return self.fail(stand_in.status)
            match = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", self.path)
            if match is None:
                content = stand_in.files.get(self.path)
                return self.fail(404) if content is None else self.send(content, {}, with_body=with_body)
            repo, revision, name = match.groups()
            if repo not in stand_in.repos:
                return self.fail(404, "RepoNotFound")
            if revision not in ("main", COMMIT):
                return self.fail(404, "RevisionNotFound")
            if name not in stand_in.repos[repo]:
                return self.fail(404, "EntryNotFound")
            return self.send(stand_in.repos[repo][name], {"X-Repo-Commit": COMMIT}, with_body=with_body)

        def fail(self, status, code=None):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.send_header("X-Repo-Commit", COMMIT)
            if code is not None:
                self.send_header("X-Error-Code", code)
            self.end_headers()

        def send(self, content, headers, *, with_body):
            etag = '"' + (stand_in.announce or hashlib.sha256(content).hexdigest()) + '"'
            start, asked = 0, re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if asked is not None and stand_in.ranges and self.headers.get("If-Range", etag) == etag:
                start = int(asked[1])
            if start and start >= len(content):
                return self.fail(416)
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if stand_in.lengths:
                self.send_header("Content-Length", str(len(content) - start))
            for name, value in {**headers, "ETag": etag}.items():
                self.send_header(name, value)
            breaks = with_body and stand_in.cut > 0
            self.close_connection = breaks or not stand_in.lengths
            self.end_headers()
            if with_body:
                stand_in.cut -= breaks
                self.write(content[start : stand_in.cut_at if breaks else None])
            return None

        def write(self, content):
            step = 10 if stand_in.pause else max(1, len(content))
            with contextlib.suppress(ConnectionError):  # whoever asked has hung up
                for place in itertools.count(0, step):
                    if place >= len(content) and not stand_in.endless:
                        return
                    time.sleep(stand_in.pause)
                    piece = content[place % max(1, len(content)) :][:step]
                    self.wfile.write(piece)
                    stand_in.sent += len(piece)

    return Handler


@pytest.fixture
def server():
    stand_in = StandIn()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def authors():
    """A second server, for what fails on one and not on the other."""
    stand_in = StandIn()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def hub(server, monkeypatch):
    """The stand-in as the hub of this process: `HF_ENDPOINT` is read at each call by this project."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    return server


@pytest.fixture
def read_only(tmp_path):
    """A folder in which the test may not write; root, who may write anywhere, is nobody meanwhile."""
    if os.geteuid() != 0:
        tmp_path.chmod(0o555)
        yield tmp_path
    else:
        os.seteuid(65534)
        yield tmp_path
        os.seteuid(0)
