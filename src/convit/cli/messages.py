"""What the rooms below say while a command runs: log records and warnings, one line each on standard error."""

import logging
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from convit.cli.errors import one_line

_log = logging.getLogger("convit")


@contextmanager
def on_stderr() -> Generator[None]:
    """Show what is logged or warned of inside the block as `convit: …`; the process's own settings return after it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    level = _log.level
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            yield
    finally:
        _log.setLevel(level)
        _log.removeHandler(handler)
        if (downloads := sys.modules.get("convit.weights.progress")) is not None:
            downloads.show_progress(True)


def quiet_output() -> None:
    """Keep everything back but warnings and errors, for `--quiet`: what is going on, and bars of downloads."""
    from convit.weights import show_progress

    _log.setLevel(logging.WARNING)
    show_progress(False)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        kind = "warning: " if record.levelno >= logging.WARNING else ""
        return f"convit: {kind}{one_line(record.getMessage())}"


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    print(f"convit: warning: {one_line(str(message))}", file=sys.stderr)
