"""Passes a stream of server-sent events on, event by event and unchanged, for as long as they are sound."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping

import httpx
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from erase_core.server.errors import ApiError, body_of
from erase_core.server.in_flight import Exchange, HungUpError
from erase_core.server.log import logger
from erase_core.server.upstream import GARBAGE, failure, parsed

__all__ = ["EVENTS", "Relay", "event", "events"]

EVENTS = "text/event-stream"
# Most bytes of one event.
MOST = 2**22
FIELDS = (b"data", b"event", b"id", b"retry", b"")


class Relay(Response):
    """The response to a streamed chat: what the model server sends, while it sends it.

    If the server fails, sends something else, or a demonstration is withdrawn, the stream ends with an event that has
    an error, and without ``[DONE]``. The request to the server ends whatever happens, also if the client hangs up.

    Parameters
    ----------
    source : httpx.Response
        An open response.
    exchange : Exchange
    end : callable
        Called once, when the request to the server has ended.
    headers : mapping
    """

    def __init__(
        self, source: httpx.Response, exchange: Exchange, end: Callable[[], None], headers: Mapping[str, str]
    ) -> None:
        super().__init__(None, headers={**headers, "Cache-Control": "no-cache"}, media_type=EVENTS)
        del self.headers["content-length"]
        self._source, self._exchange, self._end = source, exchange, end
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        last = b""
        try:
            await self._exchange.run(self._pass_on(send), receive)
        except HungUpError:
            return
        except ApiError as error:
            logger.warning("%s", error.code)
            last = event(body_of(error.status, error.code, error.message))
        finally:
            try:
                await self._source.aclose()
            finally:
                # Before anything else is sent: a client that does not read must not delay a removal.
                self._end()
        if not self._started:
            await self._start(send)
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        self._started = True

    async def _pass_on(self, send: Send) -> None:
        # Even this can wait: for a client that does not read what it asked for before on the same connection.
        await self._start(send)
        async for each in events(self._source):
            await send({"type": "http.response.body", "body": each, "more_body": True})


async def events(source: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the events of a stream as they are, each with the blank line after it.

    Raises
    ------
    ApiError
        The stream breaks off, is too slow, or is not of events whose data is JSON.
    """
    left = b""
    try:
        async for part in source.aiter_bytes():
            left += part
            *whole, left = _split(left)
            for each in whole:
                _check(each)
                yield each
            if len(left) > MOST:
                raise ApiError(502, "upstream_garbage", GARBAGE)
    except httpx.HTTPError as error:
        raise failure(error) from None
    if left.strip():
        _check(left)
        yield left


def event(value: object) -> bytes:
    """Return an event whose data is a value as JSON."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _split(content: bytes) -> list[bytes]:
    """Return the whole events of a part of a stream, and at the end what is not whole yet."""
    found: list[bytes] = []
    begin = 0
    while True:
        ends = [place + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if (place := content.find(mark, begin)) >= 0]
        if not ends:
            return [*found, content[begin:]]
        found.append(content[begin : min(ends)])
        begin = min(ends)


def _check(each: bytes) -> None:
    """Refuse an invalid event, and one whose data is not JSON."""
    lines = [line for line in each.replace(b"\r\n", b"\n").split(b"\n") if line]
    if any(line.partition(b":")[0] not in FIELDS for line in lines):
        raise ApiError(502, "upstream_garbage", GARBAGE)
    data = b"\n".join(line[5:] for line in lines if line.startswith(b"data:")).strip()
    if data and data != b"[DONE]" and not isinstance(parsed(data), dict):
        raise ApiError(502, "upstream_garbage", GARBAGE)
