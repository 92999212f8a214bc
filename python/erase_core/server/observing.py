"""Around all routes: the limit of a body, the log, the metrics, and errors that nothing else handles.

A line of the log has method, template of the route, status and time: no path, no id, no text.
"""

from __future__ import annotations

import time
from asyncio import CancelledError

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from erase_core.server.errors import ApiError, response_for
from erase_core.server.log import logger
from erase_core.server.metrics import METHODS, Metrics

__all__ = ["Observing"]

NO_ROUTE = "unknown"
CLOSED = (b"connection", b"close")


class Observing:
    """Middleware around an application.

    Parameters
    ----------
    app : ASGI application
    metrics : Metrics
    max_body : int
        Most bytes of a body.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body: int) -> None:
        self._app, self._metrics, self._max_body = app, metrics, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if status == 413:  # the rest of the body is not read
                    message = {**message, "headers": [*message["headers"], CLOSED]}
            await send(message)

        try:
            await self._answer(scope, receive, observed)
        except CancelledError:
            if not status:
                await response_for(stopped())(scope, receive, observed)
            raise
        except Exception as error:
            response = response_for(error)  # which logs it
            if not status:
                await response(scope, receive, observed)
        finally:
            route = getattr(scope.get("route"), "path_format", NO_ROUTE)
            method = scope["method"] if scope["method"] in METHODS else "other"
            seconds = time.perf_counter() - start
            self._metrics.observe(method, route, status, seconds)
            logger.info("%s %s %d %.0f ms", method, route, status, 1e3 * seconds)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > self._max_body:
            await response_for(too_large(self._max_body))(scope, receive, send)
            return
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_body:
                raise HTTPException(413)
            return message

        await self._app(scope, limited, send)


def stopped() -> ApiError:
    """Return the error for a request that did not end before the server did."""
    return ApiError(
        503,
        "stopped",
        "The server was stopped before the request ended. An ingest or a removal may be done: send it again.",
        retry_after="1",
    )


def too_large(most: int) -> ApiError:
    """Return the error for a body that is too large."""
    return ApiError(413, "too_large", f"The body must have at most {most} bytes. Send less at a time.")
