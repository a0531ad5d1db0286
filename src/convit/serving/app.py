"""The service as an ASGI app: models and options in, FastAPI app out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from starlette.routing import Route

from convit.serving import inference_protocol, looking, native, openai
from convit.serving.errors import add_error_handlers
from convit.serving.guarding import Guard
from convit.serving.metrics import Metrics
from convit.serving.models import ServedModel, load_served, open_index
from convit.serving.options import ServiceOptions, ServiceSetup
from convit.serving.page import headers_of, render_docs, render_page
from convit.serving.schema import Health
from convit.serving.service import Service

if TYPE_CHECKING:
    from convit.search import Index


def create_app(
    models: Sequence[ServedModel],
    options: ServiceOptions | None = None,
    *,
    index: Index | None = None,
    metrics: Metrics | None = None,
) -> FastAPI:
    """Make the app that answers for some models; warm them up first (`ServedModel.warm_up`).

    Args:
        models: the default first; see `load_served`.
        options: limits, keys and names.
        index: of images to search.
        metrics: those of a caller that checks and counts requests itself; None to let the app do both.

    Raises:
        ValueError: there is no model, or two have the same name.
    """
    options = options or ServiceOptions()
    service = Service(models, options, index, metrics or Metrics())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="convit",
        version=version("convit"),
        description="Labels, vectors and explanations of images.",
        lifespan=lifespan,
        root_path=options.root_path,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    add_error_handlers(app)
    for routes in (native, looking, openai, inference_protocol):
        app.router.routes.extend(routes.router.routes)  # FastAPI searches an included router twice per request
    add_probes(app, service.metrics)
    app.get("/readyz", tags=["health"], name="ready")(_ready)
    for path, page in (("/", render_page(service)), ("/docs", render_docs(app.openapi()))):
        answer = HTMLResponse(page, headers=headers_of(page))
        app.router.routes.append(Route(path, answer, methods=["GET"], include_in_schema=False))
    if metrics is None:
        app.add_middleware(Guard, options=options, metrics=service.metrics)
    return app


def load_app(setup: ServiceSetup, *, metrics: Metrics | None = None) -> FastAPI:
    """Load models, warm them up, and create their app; raises the errors of `load_served` and `open_index`."""
    models = [load_served(name, setup.run) for name in setup.models]
    for each in models:
        each.warm_up()
    index = None if setup.index is None else open_index(setup.index, setup.run)
    return create_app(models, setup.service, index=index, metrics=metrics)


def add_probes(app: FastAPI, counted: Metrics) -> None:
    """Add /healthz and /metrics, which need no model."""

    async def alive() -> Health:
        """Whether the service runs."""
        return Health()

    async def metrics() -> Response:
        """What was counted, for Prometheus."""
        return Response(counted.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.get("/healthz", tags=["health"])(alive)
    app.get("/metrics", tags=["health"], response_class=Response)(metrics)


async def _ready() -> Health:
    """Whether the models are loaded and warm: they are before the service listens."""
    return Health()
