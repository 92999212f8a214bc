"""Servers in threads of this process: an application at a real socket, and a model server that does as it is told."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import uvicorn
from erase_core.erase import Erase
from erase_core.examples.example import Example
from erase_core.llm import ServerOptions
from erase_core.server.app import build_app
from erase_core.server.running import bound, url_of
from erase_core.server.upstream import Upstream
from openai import OpenAI
from small_stores import create
from starlette.types import Receive, Scope, Send

# In seconds. However busy the machine, only what hangs takes so long.
PATIENCE = 300.0
# What the extra `serve` installs. The command uses uvloop and httptools if they are there, as in its tests they are.
AS_INSTALLED: dict[str, Any] = {"loop": "asyncio", "http": "h11", "ws": "none"}

Body = dict[str, Any]
Reaction = Callable[["FakeModel", Body, Receive, Send], Awaitable[None]]


async def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    await server.serve(sockets=[listener])
    # Connections that were closed at the end are gone after the next rounds of the loop. Otherwise they would be found
    # unclosed by a later test that collects garbage.
    for _ in range(20):
        await asyncio.sleep(0.001)


@contextmanager
def running(app: Any) -> Iterator[str]:
    """The address at which an application answers, for as long as this lasts."""
    with bound("127.0.0.1", 0) as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, **AS_INSTALLED, timeout_graceful_shutdown=30)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(_serve(server, listener)))
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        try:
            yield url_of(listener)
        finally:
            server.should_exit = True
            thread.join()


class FakeModel:
    """A model server. Keeps the requests for chats, each with the moment at which it came: see `moment`."""

    def __init__(self, react: Reaction) -> None:
        self.react = react
        self.requests: list[tuple[int, Body]] = []
        self.headers: list[dict[str, str]] = []
        self.models: Body = {"object": "list", "data": [{"id": "fake", "object": "model", "n_extra": 1}]}
        self.hung_up = threading.Event()
        self.arrived = threading.Event()
        self.released = threading.Event()
        self._moments = itertools.count()

    def moment(self) -> int:
        """A number that grows with each call, in whichever thread."""
        return next(self._moments)

    @property
    def bodies(self) -> list[Body]:
        return [body for _, body in self.requests]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _live(receive, send)
            return
        if scope["method"] == "GET":
            await reply(send, 200, json.dumps(self.models).encode())
            return
        content, more = b"", True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        self.requests.append((self.moment(), json.loads(content)))
        self.arrived.set()
        await self.react(self, self.bodies[-1], receive, send)


async def _live(receive: Receive, send: Send) -> None:
    for done in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{done}.complete"})


async def reply(
    send: Send, status: int, body: bytes, kind: str = "application/json", headers: Mapping[str, str] | None = None
) -> None:
    named = {"content-type": kind, **(headers or {})}
    listed = [(name.encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": listed})
    await send({"type": "http.response.body", "body": body})


# ---- what a model server does ----
ANSWER = b'{"id":"1","object":"chat.completion","created":1,"model":"fake",  "choices":[{"index":0,"message":\
{"role":"assistant","content":"fine \\u00e9"},"finish_reason":"stop"}],"not_of_openai":[1.50]}'
CHUNKS = [
    b": a comment\n\n",
    *(
        b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"fake","choices":[{"index":0,"delta":'
        b'{"content":"%s"},"finish_reason":null}]}\n\n' % word
        for word in (b"fine", b" it", b" is")
    ),
    b"data: [DONE]\n\n",
]


async def answers(model: FakeModel, body: Body, receive: Receive, send: Send) -> None:
    if body.get("stream"):
        await reply(send, 200, b"".join(CHUNKS), "text/event-stream")
    else:
        await reply(send, 200, ANSWER)


def sends(status: int, body: bytes, kind: str = "application/json", **headers: str) -> Reaction:
    async def react(model: FakeModel, body_: Body, receive: Receive, send: Send) -> None:
        await reply(send, status, body, kind, {name.replace("_", "-"): value for name, value in headers.items()})

    return react


async def waits(model: FakeModel, body: Body, receive: Receive, send: Send) -> None:
    """Answer when the test says so. Note if the client hangs up before; then answer nothing."""
    if body.get("stream"):
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": CHUNKS[1], "more_body": True})
    gone = asyncio.ensure_future(receive())
    while not model.released.is_set():
        if gone.done():
            model.hung_up.set()
            return
        await asyncio.sleep(0.005)
    gone.cancel()
    if body.get("stream"):
        await send({"type": "http.response.body", "body": b"".join(CHUNKS[2:])})
    else:
        await reply(send, 200, ANSWER)


async def is_silent(model: FakeModel, body: Body, receive: Receive, send: Send) -> None:
    """Answer nothing until the client hangs up."""
    await receive()


# ---- a server with a store and a model behind it ----
class Served(NamedTuple):
    """A server, and what is behind it. Its store must not be used while it runs."""

    url: str
    model: FakeModel
    erase: Erase
    app: Any

    @property
    def openai(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        return httpx.request(method, f"{self.url}{path}", **{"timeout": PATIENCE, **options})

    def chat(self, text: str = "where is my parcel", **options: Any) -> httpx.Response:
        body = {"model": "fake", "messages": [{"role": "user", "content": text}], **options}
        return self.call("POST", "/v1/chat/completions", json=body)


@contextmanager
def serving(
    path: Path,
    examples: Sequence[Example] = (),
    react: Reaction = answers,
    *,
    options: ServerOptions | None = None,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Iterator[Served]:
    """A server with a store of these examples before a model server."""
    model = FakeModel(react)
    with (
        create(path, examples, **{"strategy": "knn", **(settings or {})}) as erase,
        running(model) as behind,
    ):
        app = build_app(erase, upstream=Upstream(f"{behind}/v1", options or ServerOptions()), **more)
        with running(app) as url:
            try:
                yield Served(url, model, erase, app)
            finally:
                model.released.set()


@contextmanager
def serving_alone(path: Path, examples: Sequence[Example] = (), **more: Any) -> Iterator[tuple[str, Erase]]:
    """A server whose model is in this process."""
    with create(path, examples, **{"strategy": "knn", **more}) as erase, running(build_app(erase)) as url:
        yield url, erase
