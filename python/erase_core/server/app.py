"""Builds the application: all routes around one open store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from fastapi.telemetry import TelemetryConfig

from erase_core._core import __version__
from erase_core.erase import Erase
from erase_core.selection import SELECTORS
from erase_core.server import chat, examples, proof
from erase_core.server.auth import TOKEN, Tokens, route_for
from erase_core.server.errors import HANDLERS
from erase_core.server.observing import Observing
from erase_core.server.pages import described
from erase_core.server.service import Serves, Service
from erase_core.server.store_calls import Caller
from erase_core.server.upstream import Upstream

__all__ = ["MAX_BODY", "build_app"]

MAX_BODY = 10_000_000
DRAIN = 30.0
# FastAPI gives whole paths and exceptions to OpenTelemetry, if that is set up.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}

open_router = APIRouter(tags=["server"])
metrics_router = APIRouter(route_class=route_for("metrics"), tags=["server"], dependencies=[TOKEN])


def build_app(
    erase: Erase,
    *,
    upstream: Upstream | None = None,
    tokens: Tokens | None = None,
    max_body: int = MAX_BODY,
    drain: float = DRAIN,
    shows_ids: bool = True,
) -> FastAPI:
    """Return the application for a store. The caller closes the store after the application has ended.

    Parameters
    ----------
    erase : Erase
        Nothing else may use this handle meanwhile.
    upstream : Upstream or None, default=None
        The model server that answers. None: the language model of the store, in this process.
    tokens : Tokens or None, default=None
        Who may do what. None: anyone who reaches the server may do everything.
    max_body : int, default=10_000_000
        Most bytes of a request's body.
    drain : float, default=30.0
        Seconds for which a removal waits for chats that show its examples, before it ends them.
    shows_ids : bool, default=True
        Whether chats and the status name the demonstrations by their ids.
    """
    settings = erase.settings
    service = Service(
        store=Caller(erase),
        upstream=upstream,
        tokens=Tokens() if tokens is None else tokens,
        drain=drain,
        shows_ids=shows_ids,
        default_model=settings.llm,
        keeps=SELECTORS[settings.strategy].keeps,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            if upstream is None:
                yield
            else:
                async with upstream.running():
                    yield
        finally:
            service.store.end()

    app = FastAPI(
        title="erase serve",
        description="Chats with the demonstrations of a store, and exact forgetting.",
        version=__version__,
        docs_url=None,  # FastAPI's pages load scripts from another host
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers=HANDLERS,
        telemetry=NO_TELEMETRY,
        redirect_slashes=False,
    )
    app.state.service = service
    app.add_middleware(Observing, metrics=service.metrics, max_body=max_body)
    for router in (
        chat.router,
        examples.ingest_router,
        examples.forget_router,
        proof.router,
        proof.status_router,
        metrics_router,
        open_router,
    ):
        app.include_router(router)
    return app


@open_router.get("/healthz", summary="Whether the server runs", response_class=PlainTextResponse)
async def health() -> str:
    """Return `ok`. It needs no token, and does not wait for the store."""
    return "ok"


@metrics_router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
async def metrics(service: Serves) -> Response:
    """Return counts and times by route. They contain no texts and no ids."""
    return PlainTextResponse(service.metrics.text())


@open_router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Return a page on all routes, which loads nothing from elsewhere."""
    return HTMLResponse(described(request.app.openapi()))
