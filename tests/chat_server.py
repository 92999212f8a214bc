"""An HTTP server on this machine that stands for a model server, and does what a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What a server does with a request: status, content type, body.
Reply = tuple[int, str, bytes]
Behaviour = Callable[["Server"], Reply]


class Server(ThreadingHTTPServer):
    """Answers each request as the next of its behaviours says, and then as the last; keeps what it was sent."""

    def __init__(self, *behaviours: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours = list(behaviours)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.server.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        behaviours = self.server.behaviours
        status, kind, body = (behaviours.pop(0) if len(behaviours) > 1 else behaviours[0])(self.server)
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):  # the client did not wait
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(*behaviours: Behaviour) -> Iterator[Server]:
    server = Server(*behaviours)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def sends(body: object, status: int = 200) -> Behaviour:
    return lambda _: (status, "application/json", json.dumps(body).encode())


def sends_raw(body: bytes, kind: str = "application/json") -> Behaviour:
    return lambda _: (200, kind, body)


def says(text: object, **more: object) -> Behaviour:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return sends({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more})


def fails(status: int, said: str = "it broke", **more: object) -> Behaviour:
    return sends({"error": {"message": said, **more}}, status)


def is_slow(server: Server) -> Reply:
    server.closing.wait(20)
    return says("late")(server)
