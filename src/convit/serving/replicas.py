"""The service on many replicas, kept by Ray Serve: a front checks each request and hands it to a replica's whole app.

A request whose replica dies is given to another. Needs the extra `ray-serve`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.types import Message

from convit.inference.models import check_model
from convit.inference.options import RunOptions
from convit.scale.ray_cluster import ON_CPU, ON_GPU, enter, here, ray_cluster, workers_for
from convit.search.store import check_place
from convit.serving import inference_protocol
from convit.serving.app import add_probes, load_app
from convit.serving.errors import add_error_handlers, busy
from convit.serving.guarding import Guard
from convit.serving.metrics import Metrics
from convit.serving.models import name_or_path
from convit.serving.options import ServiceOptions, ServiceSetup, read_keys
from convit.serving.service import wait_for

TRIES = 3  # a request that ends its replica must not end them all
_SENT = ("http_version", "method", "scheme", "path", "raw_path", "root_path", "query_string", "headers", "server")
_MOST_AT_FRONT = 1000  # requests
_ASKED_AT_ONCE = 4  # batches of its model that a replica is given at once


class _Batches(Metrics):
    """Keeps counts of batches until the replica's next answer takes them to the front."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: deque[tuple[str, float, Sequence[float]]] = deque()

    def count_batch(self, model: str, seconds: float, waited: Sequence[float]) -> None:
        self.kept.append((model, seconds, waited))


class Replica:
    """One process with the whole service but its guard."""

    async def __init__(  # pyright: ignore[reportGeneralTypeIssues] # Ray Serve waits
        self, asked: ServiceSetup, caller: Mapping[str, str] | None = None
    ) -> None:
        if caller is not None:
            enter(caller)
        self._batches = _Batches()
        self._app = load_app(asked, metrics=self._batches)
        self._running = self._app.state.service.running()
        await self._running.__aenter__()

    async def __call__(self, scope: dict[str, Any], body: bytes) -> dict[str, Any]:
        """Answer one request: status, headers and body, and what the front's log and metrics tell."""
        given, found = [{"type": "http.request", "body": body}], {"body": b""}

        async def receive() -> dict[str, Any]:
            return given.pop() if given else await asyncio.Future()

        async def send(message: Message) -> None:
            found["body"] += message.get("body", b"")
            found.update({name: message[name] for name in ("status", "headers") if name in message})

        await self._app(scope, receive, send)
        state = {name: scope["state"][name] for name in ("code", "reason") if name in scope["state"]}
        route = getattr(scope.get("route"), "path", "other")
        batches = [self._batches.kept.popleft() for _ in range(len(self._batches.kept))]
        return {**found, "state": state, "route": route, "batches": batches}


class Front:
    """Takes requests in, and has replicas answer them."""

    def __init__(self, replicas: Any, options: ServiceOptions) -> None:
        self._replicas, self._options, self._metrics = replicas, options, Metrics()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The app behind Ray Serve's own proxy, which names each request in its answer."""
        return self.app(sends_id=False)

    def app(self, *, sends_id: bool = True) -> FastAPI:
        """The ASGI app; `sends_id` as in `Guard`."""
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, root_path=self._options.root_path)
        add_error_handlers(app)
        add_probes(app, self._metrics)  # answered here, however many requests wait for replicas
        app.get("/v2/health/live")(inference_protocol.live)
        app.add_route("/{path:path}", self._answer, methods=["GET", "POST"])
        app.add_middleware(Guard, options=self._options, metrics=self._metrics, sends_id=sends_id)
        return app

    async def _answer(self, request: Request) -> Response:
        scope: dict[str, Any] = {name: request.scope[name] for name in _SENT}
        scope.update(type="http", state={"request_id": request.scope["state"]["request_id"]})
        asked = asyncio.ensure_future(self._ask(scope, await request.body()))
        (found,) = await wait_for(request, [asked], self._options)
        for batch in found["batches"]:
            self._metrics.count_batch(*batch)
        request.scope["state"].update(found["state"])
        request.scope["route"] = SimpleNamespace(path=found["route"])
        response = Response(found["body"], found["status"])
        response.raw_headers = found["headers"]
        return response

    async def _ask(self, scope: dict[str, Any], body: bytes) -> dict[str, Any]:
        from ray.exceptions import ObjectLostError, RayActorError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        for _ in range(TRIES):
            asked = self._replicas.remote(scope, body)
            try:
                return await asked
            except asyncio.CancelledError:
                asked.cancel()  # or its replica would go on computing
                raise
            except (RayActorError, ObjectLostError):  # a large answer is lost if its node is
                continue
            except (BackPressureError, DeploymentUnavailableError):
                raise busy("queue_full", "too many requests are waiting; try again later", 2) from None
        raise busy("replica_lost", "the replicas that were asked ended before they answered; try again later", 5)


def bind_replicas(asked: ServiceSetup, resources: Mapping[str, Any], caller: Mapping[str, str] | None = None) -> Any:
    """The deployment that Ray Serve runs as replicas; `caller` gives them its folder and limits, see `enter`."""
    from ray import serve

    least, most = asked.replicas
    size = asked.run.batch_size or 8
    replica: Any = serve.deployment(
        Replica,
        name="Replica",
        max_ongoing_requests=_ASKED_AT_ONCE * size,
        max_queued_requests=asked.service.queue,
        autoscaling_config={"min_replicas": least, "max_replicas": most, "target_ongoing_requests": 2 * size},
        ray_actor_options=dict(resources),
        graceful_shutdown_timeout_s=asked.service.seconds,
    )
    return replica.bind(asked, caller)


def build(arguments: Mapping[str, Any]) -> Any:
    """The application of a file for `serve deploy`; see examples/serve/ray.yaml.

    Args:
        arguments: fields of `ServiceSetup`; `service` and `run` hold fields of their own, and `api_key_file` names the
            file of `convit serve --api-key-file`.

    Raises:
        TypeError, ValueError, OSError: one of them is not as it must be.
    """
    from ray import serve

    given: dict[str, Any] = {**arguments}
    key_file = given.pop("api_key_file", None)
    keys: dict[str, Any] = {} if key_file is None else {"keys": read_keys(Path(key_file))}
    service = ServiceOptions(**keys, **_with_tuples(given.pop("service", {})))
    asked = ServiceSetup(service=service, run=RunOptions(**given.pop("run", {})), **_with_tuples(given))
    asked.run.check_shared()
    front: Any = serve.deployment(
        serve.ingress()(Front),
        name="Front",
        max_ongoing_requests=_MOST_AT_FRONT,
        ray_actor_options={"num_cpus": 0},  # replicas may need every CPU, and would wait forever for this one
        graceful_shutdown_timeout_s=2 * service.seconds,  # to receive a request, and to answer it
    )
    return front.bind(bind_replicas(asked, _deployed_on(str(asked.run.device))), service)


def _deployed_on(device: str) -> Mapping[str, int]:
    """What Ray reserves for each replica of an application that it builds."""
    import ray

    if device == "cuda":
        return ON_GPU  # Ray waits for one, which an autoscaler may add
    return workers_for(device, ray)[1] if ray.is_initialized() else ON_CPU  # `serve build` sees no cluster


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of YAML as our options have them."""
    return {name: tuple(each) if isinstance(each, list) else each for name, each in values.items()}


def resources_for(asked: ServiceSetup, ray: Any, *, is_own: bool) -> dict[str, int]:
    """What Ray reserves for each replica; on a cluster of our own, replicas share CPUs if there are too few.

    Raises:
        ValueError: the cluster has too few free for the smallest number of replicas, and Ray would wait forever.
    """
    each, least = workers_for(str(asked.run.device), ray)[1], asked.replicas[0]
    kind = "GPU" if "num_gpus" in each else "CPU"
    there, free = (int(found().get(kind, 0)) for found in (ray.cluster_resources, ray.available_resources))
    if free >= least:
        return each
    if is_own and kind == "CPU":
        return {"num_cpus": 0}
    told = f"the cluster has {there}, {free} of them free; ask for fewer, or start more nodes"
    raise ValueError(f"--replicas {least} needs a {kind} for each, but {told}")


@contextmanager
def replicated(asked: ServiceSetup, *, address: str | None = None) -> Generator[FastAPI]:
    """Start replicas, and give the app in front of them; they end with the block.

    Args:
        asked: what they serve.
        address: of a Ray cluster; None for one of its own on this machine.

    Raises:
        ConnectionError, ImportError, ValueError: as `ray_cluster` and `resources_for`, or a model or the
            index is not here.
        ChildProcessError: the replicas cannot be started.
    """
    asked.run.check_shared()
    if address is None:  # Ray would restart the replicas again and again
        for each in asked.models:
            check_model(*name_or_path(each))
        if asked.index is not None:
            check_place(Path(asked.index), create=False)
    with ray_cluster("ray.serve", address=address) as ray:
        serve, name = ray.serve, f"convit-{token_hex(4)}"
        each = resources_for(asked, ray, is_own=address is None)
        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        try:
            try:
                handle = serve.run(bind_replicas(asked, each, here()), name=name, route_prefix=None)
            except RuntimeError as error:
                told = serve.status().applications[name].deployments["Replica"].message.strip().splitlines()
                raise ChildProcessError(f"the replicas cannot be started: {told[-1] if told else error}") from error
            yield Front(handle, asked.service).app()
        finally:
            if address is not None:  # a cluster of its own ends as a whole
                serve.delete(name)
