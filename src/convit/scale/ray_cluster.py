"""A Ray cluster to work on: one that is there, or one of our own on this machine."""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

# a cluster of our own listens on this machine alone, asks for a token, and tells nobody that it ran; read at import
_PRIVATE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_enable_metrics_collection": "0",  # which would leave a line of its own on standard error
}
_CORES_EACH = 1
_PATIENCE = 10  # seconds


@dataclass(frozen=True)
class Workers:
    """What models can run on at once.

    Attributes:
        count: how many models, one for each GPU or core.
        resources: what Ray sets aside for each.
    """

    count: int
    resources: dict[str, Any]


def workers_for(device: str, ray: Any) -> Workers:
    """One worker for each GPU that the cluster has, or for each core where it has none or `device` is another."""
    there = ray.cluster_resources()
    gpus = int(there.get("GPU", 0)) if device in ("auto", "cuda") else 0
    if gpus:
        return Workers(gpus, {"num_gpus": 1})
    return Workers(max(1, int(there.get("CPU", 1)) // _CORES_EACH), {"num_cpus": _CORES_EACH})


def enter(folder: str) -> None:
    """Go where the command was called, from where its paths start; on a node without that folder they must be URLs."""
    with suppress(OSError):
        os.chdir(folder)


@contextmanager
def ray_cluster(address: str | None = None) -> Generator[Any]:
    """Connect to a Ray cluster, or start one on this machine for as long as the block runs.

    Args:
        address: host:port, or "auto" for the cluster that this machine belongs to; None for one of its own.

    Yields:
        The package `ray`, connected.

    Raises:
        ConnectionError: the cluster cannot be reached.
        ImportError: Ray is not installed.
        ValueError: the cluster runs another version of Ray or of Python.
    """
    if address is not None:
        _check_there(address)
    else:
        os.environ.update({name: value for name, value in _PRIVATE.items() if name not in os.environ})
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray: Any = importlib.import_module("ray")
    importlib.import_module("ray.data")
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
    own = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address is None else {"address": address}
    on_signal = signal.getsignal(signal.SIGTERM)  # which Ray takes for itself
    try:
        ray.init(**own, logging_level="ERROR", log_to_driver=False)
        signal.signal(signal.SIGTERM, on_signal)
    except RuntimeError as error:
        if "Version mismatch" in str(error):
            raise ValueError(
                f"the cluster at {address} differs ({' '.join(str(error).split())}); install the same"
            ) from error
        raise ConnectionError(f"the Ray cluster at {address} cannot be used ({error}); check its address") from error
    except ConnectionError as error:
        raise _absent(address) from error
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
    except Exception as error:
        if (cause := _of_ours(error)) is not error:
            raise cause from None
        raise
    finally:
        ray.shutdown()


def _of_ours(error: BaseException) -> BaseException:
    """What was raised in a worker, which Ray hands over inside errors of its own, with pages of text."""
    inner: BaseException | None = error
    while inner is not None:
        if not any(each.__module__.startswith("ray.") for each in type(inner).__mro__):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    return error


def _check_there(address: str) -> None:
    """Refuse an address where nothing listens, which Ray would ask for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon:
        return  # "auto", which Ray looks up on this machine
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except (OSError, ValueError) as error:
        raise _absent(address) from error


def _absent(address: str | None) -> ConnectionError:
    return ConnectionError(f"there is no Ray cluster at {address}; start one with ray start --head, or name another")
