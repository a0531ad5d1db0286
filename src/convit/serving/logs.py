"""The service's log: one JSON object per line on standard error, of requests and of what goes wrong."""

import json
import logging
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if text.startswith("{"):  # a request's line is JSON already
            return text
        line = {"time": round(time.time(), 3), "level": record.levelname.lower(), "message": text}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


@contextmanager
def log_as_json() -> Generator[None]:
    """Write the log while the block runs: requests unless quiet, and always warnings, uvicorn's too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logs = [logging.getLogger(name) for name in ("convit.serving", "uvicorn.error")]
    logs[1].setLevel(logging.WARNING)
    for log in logs:
        log.addHandler(handler)
        log.propagate = False
    try:
        yield
    finally:
        for log in logs:
            log.removeHandler(handler)
            log.propagate = True
