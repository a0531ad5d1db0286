"""What the tools that end commands share: counts of what became of them, and comparing rows with a whole run's."""

from __future__ import annotations

import io
import json
import logging
import os
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.request import Request, urlopen

import numpy as np

from docs.make_reliability import KEPT, keep

Result = dict[str, Any]
BUCKET = "kept"


@dataclass
class Found:
    """What became of one command, or of jobs.

    Attributes:
        ended: what was ended, by signal or kind of process.
        runs: runs that were counted.
        faults: number of each kind of fault.
        told: a line for each fault.
    """

    ended: Counter[str] = field(default_factory=Counter[str])
    runs: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])
    told: list[str] = field(default_factory=list[str])

    def fault(self, kind: str, line: str) -> None:
        """Count one."""
        self.faults[kind] += 1
        self.told.append(f"{kind}: {line}")

    def show(self, name: str) -> None:
        """Print the counts, and what was wrong."""
        counts = ", ".join(f"{count} {what}" for what, count in self.ended.items())
        print(f"{name}: {counts or 'nothing'} ended; {sum(self.faults.values())} faults", flush=True)
        print(*(f"  {line}\n" for line in self.told), sep="", end="", flush=True)


def keep_rows(
    name: str,
    command: str,
    about: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    found: Iterable[Found],
) -> None:
    """Keep counts for docs/reliability.md; rows of what was not run this time, known by their first column, stay."""
    file = KEPT / f"{name}.json"
    before = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    together = {row[0]: row for row in [*before, *rows]}
    keep(name, command, about, columns, list(together.values()), [line for each in found for line in each.told])


def apart(result: Result, expected: Result) -> tuple[list[str], list[str], list[str]]:
    """Names that a result lacks, that it has besides, and whose values are others, if only by a bit."""
    missing = [name for name in expected if name not in result]
    others = [name for name in result if name not in expected]
    changed = [name for name in result if name in expected and not np.array_equal(result[name], expected[name])]
    return missing, others, changed


def vectors_named(rows: Iterable[dict[str, Any]], column: str = "embedding") -> Result:
    """Vectors by path; a path that stands there twice has two names."""
    seen: Counter[str] = Counter()
    found: Result = {}
    for row in rows:
        seen[row["path"]] += 1
        found[row["path"] + " again" * (seen[row["path"]] - 1)] = np.array(row[column], np.float32)
    return found


def read_shards(out: Path) -> Result:
    """The rows of a job's shards in a folder."""
    import pyarrow.parquet as pq

    files = sorted(out.glob("[0-9]*.parquet"))
    return vectors_named(row for file in files for row in pq.read_table(file).to_pylist())


def bucket_files() -> Any:
    """The file system that `s3_server` serves."""
    import fsspec

    return fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)


def read_bucket(_: Path) -> Result:
    """The rows of a job's shards in the bucket."""
    import pyarrow.parquet as pq

    system = bucket_files()
    files = [name for name in system.find(f"{BUCKET}/out") if not name.rpartition("/")[2].startswith("_")]
    contents = (io.BytesIO(system.cat_file(name)) for name in files)
    return vectors_named(row for content in contents for row in pq.read_table(content).to_pylist())


@contextmanager
def s3_server(bucket: str = BUCKET) -> Generator[None]:
    """A server of S3 on this machine, with an empty bucket; its address and keys are in the environment meanwhile."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells of every request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret-of-mine", "AWS_DEFAULT_REGION": "us-east-1"}
    with mock.patch.dict(os.environ, {"AWS_ENDPOINT_URL": f"http://{host}:{port}", **keys}):
        try:
            set_s3_server("reset")  # buckets belong to the process, and outlive the server of an earlier block
            bucket_files().mkdir(bucket)
            yield
        finally:
            server.stop()


def set_s3_server(what: str, content: bytes = b"") -> None:
    """Ask something of the API by which the server itself is set."""
    place = f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/{what}"
    urlopen(Request(place, content, {"Content-Type": "text/plain"}, method="POST"), timeout=10).close()
