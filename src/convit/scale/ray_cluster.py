"""A Ray cluster to work on: one that is there, or one of our own on this machine."""

from __future__ import annotations

import importlib
import itertools
import logging
import os
import re
import secrets
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from convit.images.limits import VARIABLE

# a cluster of our own listens on this machine only, requires a token, and reports no usage; Ray reads this at import
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # on Linux, too
_PRIVATE = {
    **_LOOPBACK,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_enable_metrics_collection": "0",  # which would leave a line of its own on standard error
    "REPORTER_UPDATE_INTERVAL_MS": "3600000",  # of statistics of all processes, which are collected all the same
}
# what Ray reserves for a model; Ray Serve would take a CPU with each GPU
ON_GPU, ON_CPU = {"num_gpus": 1, "num_cpus": 0}, {"num_cpus": 1}
_MOST_DEATHS = 5  # per worker, in a row, before the job is given up
_PATIENCE = 10  # seconds
# Ray's head speaks HTTP/2 (RFC 9113): whoever does answers an empty frame of settings with settings of its own
_SETTINGS = b"\x04"
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0\0\0\0\0"


def workers_for(device: str, ray: Any) -> tuple[int, dict[str, int]]:
    """How many models a cluster runs at once, and what Ray reserves for each.

    One for each GPU, or for each core where it has none or `device` is another.

    Raises:
        ValueError: the device is a GPU with a number.
    """
    if device.startswith("cuda:"):
        raise ValueError(
            f"device is {device!r}, but Ray shows each worker a GPU of its own, without a number; use 'cuda'"
        )
    there = ray.cluster_resources()
    gpus = int(there.get("GPU", 0)) if device in ("auto", "cuda") else 0
    return (gpus, ON_GPU) if gpus else (max(1, int(there.get("CPU", 1))), ON_CPU)


def here() -> Mapping[str, str]:
    """What workers need of this process, for `enter`: its working folder, and its limits for images."""
    return {"folder": str(Path.cwd()), **({VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {})}


def enter(caller: Mapping[str, str]) -> None:
    """Take over the folder and limits of the calling process; on a node without that folder, paths must be URLs."""
    if VARIABLE in caller:
        os.environ[VARIABLE] = caller[VARIABLE]
    with suppress(OSError):
        os.chdir(caller["folder"])


class PoolActor:
    """Does one task after another; `make` is called in the first, which raises its errors."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]], caller: Mapping[str, str]) -> None:
        self._make, self._caller = make, caller

    def ready(self) -> None:
        """Return as soon as the actor runs, which shows that the cluster has room for it."""

    def do(self, task: Any) -> Any:
        """Do one task."""
        return self._does(task)

    @cached_property
    def _does(self) -> Callable[[Any], Any]:
        enter(self._caller)
        return self._make()


def share_out(
    ray: Any, device: str, make: Callable[[], Callable[[Any], Any]], tasks: Iterable[Any]
) -> Iterator[tuple[int, Any]]:
    """(Number of the actor, result) of tasks that a pool of actors does; a dead actor's task is done again.

    Only actors that have answered get tasks, one at a time, so that the rest go on if a node is lost.

    Args:
        ray: from `ray_cluster`.
        device: as in `workers_for`.
        make: called in each actor; gives the function that does a task.
        tasks: its arguments.

    Raises:
        ConnectionError: actors died again and again.
        As `make` and what it gives.
    """
    (most, resources), waiting = workers_for(device, ray), deque(tasks)
    actor = ray.remote(**resources, max_restarts=0, max_task_retries=0)(PoolActor)
    running: dict[Any, tuple[int, Any, tuple[Any, ...]]] = {}  # answer → actor, and its task unless it is just starting
    numbers, deaths = itertools.count(), 0

    def begin() -> None:
        started = actor.remote(make, here())
        running[started.ready.remote()] = next(numbers), started, ()

    for _ in range(min(most, len(waiting))):
        begin()
    while waiting or any(task for _, _, task in running.values()):
        (answer, *_), _ = ray.wait(list(running))
        number, free, task = running.pop(answer)
        try:
            found = ray.get(answer)
        except ray.exceptions.RayTaskError:  # raised by the task itself
            raise
        except ray.exceptions.RayError as error:
            waiting.extendleft(task)
            deaths += 1
            if deaths > _MOST_DEATHS * most:
                reason = str(error).strip().partition("\n")[0]
                raise ConnectionError(
                    f"Ray's workers died {deaths} times in a row ({reason}); check their memory, and run this again"
                ) from None
            begin()
            continue
        if task:
            deaths = 0
            yield number, found
        if waiting:
            given = waiting.popleft()
            running[free.do.remote(given)] = number, free, (given,)


@contextmanager
def ray_cluster(library: str, *, address: str | None = None) -> Generator[Any]:
    """The package `ray`, connected to a cluster, or to one on this machine that ends with the block.

    The latter asks for a token, unless the program imported Ray before and RAY_AUTH_MODE was not set then.

    Args:
        library: what is used of Ray: "ray" or "ray.serve".
        address: host:port, or "auto" for the cluster that this machine belongs to; None for one of its own.

    Raises:
        ConnectionError: the cluster cannot be reached.
        ImportError: Ray is not installed.
        ValueError: the cluster runs another version of Ray or of Python.
    """
    if address is not None:
        _check_there(address)
    else:
        # a program that imported Ray before has its settings from then: it would not show the token that is asked for
        late = {"RAY_AUTH_MODE"} if "ray" in sys.modules else set[str]()
        os.environ.update({name: value for name, value in _PRIVATE.items() if name not in {*os.environ, *late}})
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray: Any = importlib.import_module("ray")
    importlib.import_module(library)
    for name in (library, "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
    own = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address is None else {"address": address}
    on_signal = signal.getsignal(signal.SIGTERM)  # which Ray takes for itself
    try:
        ray.init(**own, logging_level="ERROR", log_to_driver=False)
        signal.signal(signal.SIGTERM, on_signal)
    except RuntimeError as error:
        if "Version mismatch" in str(error):
            rays, pythons = (re.findall(f"{name}: (\\S+)", str(error)) for name in ("Ray", "Python"))
            there, here = (f"Ray {a} with Python {b}" for a, b in zip(rays, pythons, strict=True))
            raise ValueError(
                f"the cluster at {address} runs {there}, but here is {here}; install the same here and there"
            ) from error
        raise ConnectionError(f"the Ray cluster at {address} cannot be used ({error}); check its address") from error
    except ConnectionError as error:
        raise _absent(address) from error
    try:
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
    """Refuse an address where nothing listens, or something else than Ray, which Ray would ask for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon:
        return  # "auto", which Ray looks up on this machine
    try:
        with socket.create_connection((host, int(port)), timeout=_PATIENCE) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                connection.sendall(_HELLO)
                if connection.recv(4)[3:] != _SETTINGS:
                    raise ConnectionError
    except (OSError, ValueError) as error:
        raise _absent(address) from error
    if host in ("127.0.0.1", "localhost"):
        try:
            socket.create_connection((_own_address(), int(port)), timeout=_PATIENCE).close()
        except OSError:  # Ray would ask at this machine's address in the network
            os.environ.update(_LOOPBACK)


def _own_address() -> str:
    """Where others reach this machine, as Ray finds it; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


def _absent(address: str | None) -> ConnectionError:
    return ConnectionError(f"there is no Ray cluster at {address}; start one with ray start --head, or name another")
