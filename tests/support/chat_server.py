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
        self.paths: list[str] = []
        self.models: object = None
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        """Give the list of models, if the server has one."""
        self.server.paths.append(self.path)
        self.reply(*sends(self.server.models, 404 if self.server.models is None else 200)(self.server))

    def do_POST(self) -> None:
        self.server.paths.append(self.path)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.server.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        behaviours = self.server.behaviours
        self.reply(*(behaviours.pop(0) if len(behaviours) > 1 else behaviours[0])(self.server))

    def reply(self, status: int, kind: str, body: bytes) -> None:
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


def says(
    text: object, *, reason: str = "stop", message: object = None, logprobs: object = None, **more: object
) -> Behaviour:
    """Answers with a text; `message` has further fields of the message, `more` of the body."""
    said = {"role": "assistant", "content": text, **(message if isinstance(message, dict) else {})}
    choice = {"index": 0, "finish_reason": reason, "message": said, "logprobs": logprobs}
    return sends({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more})


def fails(status: int, said: str = "it broke", **more: object) -> Behaviour:
    return sends({"error": {"message": said, **more}}, status)


def by_request(reply: Callable[[dict[str, Any]], Behaviour]) -> Behaviour:
    """Behaves as the request at hand asks for."""
    return lambda server: reply(server.requests[-1])(server)


def constrained(request: dict[str, Any]) -> Behaviour:
    """Answers with the last option of a schema, of any form, as OpenAI, vLLM and llama.cpp do."""
    if "response_format" not in request:
        return says("Well, it depends.")
    schema = request["response_format"]["json_schema"]["schema"]
    return says(json.dumps(last_of(schema)))


def last_of(schema: dict[str, Any]) -> Any:
    if schema["type"] == "object":
        return {name: last_of(inner) for name, inner in schema["properties"].items()}
    return schema["enum"][-1]


def objects_only(request: dict[str, Any]) -> Behaviour:
    form = request.get("response_format")
    if form is not None and form["json_schema"]["schema"]["type"] != "object":
        return fails(
            400, "Invalid schema for response_format 'answer': schema must be a JSON Schema of 'type: \"object\"'"
        )
    return constrained(request)


def is_slow(server: Server) -> Reply:
    server.closing.wait(20)
    return says("late")(server)
