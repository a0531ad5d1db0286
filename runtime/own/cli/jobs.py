"""Results in a folder, one file per shard, are convit's."""

from typing import Any


def Job(*_: Any) -> None:  # noqa: N802
    """Nothing that could be run here."""


def run_job(*_: Any, target: Any = None, **__: Any) -> None:
    """Refuse it.

    Raises:
        ValueError: always.
    """
    raise ValueError("--output is a folder or a URL, but files of results per shard are made by convit; name a file")
