"""A small web server on this machine, which can be told to fail."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


@dataclass
class Served:
    """What is asked of the server, and how it fails.

    `cut` names files of which the first request gets half; `refuse` gives the status of the files that it names.
    """

    url: str
    cut: set[str] = field(default_factory=set)
    refuse: dict[str, int] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            name = self.path.partition("?")[0].lstrip("/")
            if name in state.refuse or not (folder / name).is_file():
                self.send_error(state.refuse.get(name, 404))
                return
            content = (folder / name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{name}-1"')
            self.end_headers()
            if not body:
                return
            state.asked[name] += 1
            half = name in state.cut
            state.cut.discard(name)
            self.wfile.write(content[: len(content) // 2] if half else content)
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Served(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
