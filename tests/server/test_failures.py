"""What goes wrong: model servers that fail, clients that hang up, bodies of the wrong shape, stores that are in use."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from erase_core.errors import EraseError
from erase_core.llm import ServerOptions
from erase_core.server.errors import MEANINGS, response_for
from erase_core.server.in_flight import Exchange
from erase_core.server.log import LOG
from erase_core.server.relay import Relay
from served import ANSWER, CHUNKS, FakeModel, Served, answers, is_silent, sends, serving, waits
from small_stores import Elsewhere, some
from starlette.types import Message, Receive, Send

SECRET = "zebra-4711"
QUICK = ServerOptions(timeout=0.3)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error in OpenAI's form, which repeats nothing of the request."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert SECRET not in answer.text
    return answer.status_code, error["code"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(tmp_path_factory.mktemp("served") / "store", some(12), drain=0.5) as served:
        yield served


# ---- the model server ----
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reaction", "expected"),
    [
        (sends(200, b"<html>"), (502, "upstream_garbage")),
        (sends(200, b"[1]"), (502, "upstream_garbage")),
        (sends(200, b'{"id": "1"', content_encoding="gzip"), (502, "upstream_garbage")),
        (sends(302, b"", location="/elsewhere"), (502, "upstream_failed")),
        (sends(500, SECRET.encode()), (502, "upstream_failed")),
        (sends(401, b'{"error": {"message": "wrong key zebra-4711"}}'), (502, "upstream_refused")),
        (sends(400, b"<html>zebra-4711"), (400, "upstream_refused")),
    ],
)
def test_a_model_server_that_fails(
    served: Served, reaction: Any, expected: tuple[int, str], *, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.model, "react", reaction)
    assert code_of(served.chat(stream=stream)) == expected


@pytest.mark.parametrize("stream", [False, True])
def test_refusals_of_the_model_server_are_passed_back_unchanged(
    served: Served, *, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = b'{"error":  {"message": "slow down", "code": "rate_limit_exceeded"}}'
    monkeypatch.setattr(served.model, "react", sends(429, said, retry_after="7", x_ratelimit_limit="3", x_other="4"))
    answer = served.chat(stream=stream)
    assert (answer.status_code, answer.content, answer.headers["Retry-After"]) == (429, said, "7")
    assert (answer.headers["X-RateLimit-Limit"], "X-Other" in answer.headers) == ("3", False)
    with served.openai as client, pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])


def test_a_model_server_that_is_slow(path: Path) -> None:
    with serving(path, some(4), is_silent, options=QUICK) as served:
        assert code_of(served.chat()) == (504, "upstream_timeout")
        assert code_of(served.chat(stream=True)) == (504, "upstream_timeout")


def test_a_model_server_that_is_down(path: Path) -> None:
    with serving(path, some(4)) as served:
        with socket.create_server(("127.0.0.1", 0)) as free:
            nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
        served.app.state.service.upstream._url = nobody
        assert code_of(served.chat()) == (502, "upstream_unreachable")
        assert code_of(served.chat(stream=True)) == (502, "upstream_unreachable")
        assert code_of(served.call("GET", "/v1/models")) == (502, "upstream_unreachable")


@pytest.mark.parametrize(
    "rest",
    [b"data: zebra-4711\n\n", b"zebra-4711\n\n", b"<html>zebra-4711", b"\xff" * 100, b"data: [1]\n\n"],
)
def test_a_stream_that_turns_into_garbage_ends_with_an_error(
    served: Served, rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.model, "react", sends(200, CHUNKS[1] + rest, "text/event-stream"))
    content = served.chat(stream=True).content
    first, last = content[: len(CHUNKS[1])], content[len(CHUNKS[1]) :]
    assert first == CHUNKS[1]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "upstream_garbage"
    assert SECRET.encode() not in content
    with served.openai as client, pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True))


def test_a_stream_that_stops_ends_with_an_error(path: Path) -> None:
    with serving(path, some(4), waits, options=QUICK) as served:
        content = served.chat(stream=True).content
        assert content.startswith(CHUNKS[1])
        assert b'"code": "upstream_timeout"' in content
        assert b"[DONE]" not in content


def test_headers_of_the_model_server_that_cannot_be_passed_back_are_left_out(path: Path) -> None:
    async def react(model: FakeModel, body: Any, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"x-request-id", "\u65e5".encode()), (b"retry-after", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": ANSWER})

    with serving(path, some(4), react) as served:
        answer = served.chat()
        assert (answer.status_code, answer.headers["retry-after"]) == (200, "1")
        assert "x-request-id" not in answer.headers


# ---- clients ----
def test_a_client_that_hangs_up_while_it_sends_is_not_an_error_of_the_server(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(path, some(4)) as served, caplog.at_level("INFO", LOG):
        host, port = served.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b'Content-Length: 100\r\n\r\n{"messages"'
            )
        while not caplog.records:
            time.sleep(0.01)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert caplog.messages[0].startswith("POST /v1/chat/completions 499 ")


def test_a_client_that_does_not_even_read_the_head_of_a_stream_delays_no_removal() -> None:
    """As if it had asked before, on the same connection, and did not read that answer."""

    async def run() -> list[str]:
        exchange, ended, blocked, free = Exchange(), asyncio.Event(), asyncio.Event(), asyncio.Event()
        sent: list[str] = []

        async def send(message: Message) -> None:
            blocked.set()
            await free.wait()
            sent.append(message["type"])

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        source = httpx.Response(200, content=b"".join(CHUNKS))
        relay = asyncio.ensure_future(Relay(source, exchange, ended.set, {})({"type": "http"}, receive, send))
        await blocked.wait()
        exchange.withdraw()
        await asyncio.wait_for(ended.wait(), 60)
        free.set()
        await relay
        return sent

    assert asyncio.run(run()) == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_ends_the_request_to_the_model(path: Path, *, stream: bool) -> None:
    with serving(path, some(4), waits) as served:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}).encode()
        host, port = served.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            if stream:
                assert client.recv(100)
            assert served.model.arrived.wait(60)
        assert served.model.hung_up.wait(60)
        while len(served.app.state.service.in_flight):
            time.sleep(0.01)
        served.model.released.set()
        assert served.chat().status_code == 200


CHAT, FORGET, POST = "/v1/chat/completions", "/v1/forget", "/v1/examples"
USER = {"role": "user", "content": SECRET}


@pytest.mark.parametrize(
    ("path_", "body", "status"),
    [
        (CHAT, b"{zebra-4711", 400),
        (CHAT, b"[" * 100_000, 400),
        (CHAT, b'{"messages": [{"role": "user", "content": "zebra-4711"}], "top_p": NaN}', 400),
        (CHAT, [USER], 400),
        (CHAT, {"messages": USER}, 400),
        (CHAT, {"messages": []}, 400),
        (CHAT, {"messages": [SECRET]}, 400),
        (CHAT, {"messages": [{"role": [SECRET]}]}, 400),
        (CHAT, {"messages": [{"role": "system", "content": SECRET}]}, 400),
        (CHAT, {"messages": [{"role": "user", "content": "  "}]}, 400),
        (CHAT, {"messages": [{"role": "user", "content": f"{SECRET}\0"}], "model": "m"}, 400),
        (CHAT, b'{"model": "m", "messages": [{"role": "user", "content": "zebra-4711 \\ud800"}]}', 400),
        (CHAT, {"messages": [USER], "stream": SECRET}, 400),
        (CHAT, {"messages": [USER]}, 400),
        (FORGET, b"{zebra-4711", 422),
        (FORGET, b"[" * 100_000, 400),
        (FORGET, {}, 422),
        (FORGET, {"ids": [1], "subject": SECRET}, 422),
        (FORGET, {"ids": [1.5]}, 422),
        (FORGET, {"ids": [True]}, 422),
        (FORGET, {"ids": SECRET}, 422),
        (FORGET, {"ids": [1], SECRET: 1}, 422),
        (FORGET, {"ids": [1], "dry_run": SECRET}, 422),
        (FORGET, {"ids": [1], "on_missing": SECRET}, 422),
        (FORGET, {"ids": []}, 400),
        (FORGET, {"ids": [1], "match": "normalised"}, 400),
        (FORGET, {"subject": " "}, 400),
        (FORGET, {"ids": [SECRET]}, 404),
        (FORGET, {"ids": [10**30]}, 404),
        (FORGET, {"subject": SECRET}, 404),
        (POST, {"examples": []}, 422),
        (POST, {"examples": SECRET}, 422),
        (POST, {"examples": [{"input": SECRET}]}, 422),
        (POST, {"examples": [{"input": SECRET, "output": SECRET, SECRET: 1}]}, 422),
        (POST, {"examples": [{"input": SECRET, "output": ""}]}, 422),
        (POST, {"examples": [{"input": f"{SECRET}\0", "output": "x"}]}, 422),
        (POST, {"examples": [{"id": SECRET, "input": "x", "output": "x"}]}, 422),
        (POST, {"examples": [{"id": 1, "input": SECRET, "output": "x"}]}, 409),
        (POST, {"examples": [{"id": 10**30, "input": SECRET, "output": "x"}]}, 422),
        (POST, {"examples": [{"id": i, "input": SECRET, "output": "x"} for i in (90, 90)]}, 422),
        ("/v1/verify", {"absent": ["x"]}, 422),
        ("/v1/verify", {"known": [{"number": 1, "hash": SECRET}]}, 422),
        (f"/v1/{SECRET}", {}, 404),
        ("/v1/status", {}, 405),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_wrong_request_is_an_error_in_openais_form_and_changes_nothing(
    served: Served, path_: str, body: Any, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.model, "react", answers)
    before = served.call("GET", "/v1/status").json()
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = served.call("POST", path_, content=content, headers={"Content-Type": "application/json"})
    assert code_of(answer)[0] == status
    assert served.call("GET", "/v1/status").json() == before


@pytest.mark.parametrize(
    ("path_", "body", "said"),
    [
        ("/chat/completions", {"messages": [USER]}, "ends in /v1"),
        (POST, [{"input": SECRET, "output": SECRET}], "body: this is not an object"),
    ],
    ids=["base-url-without-v1", "list-without-examples"],
)
def test_usual_mistakes_are_explained(served: Served, path_: str, body: Any, said: str) -> None:
    answer = served.call("POST", path_, json=body)
    code_of(answer)
    assert said in answer.json()["error"]["message"]


def test_a_body_that_is_not_said_to_be_json_is_refused(served: Served) -> None:
    """A page in a browser can send such a body to any server without asking it."""
    for path in (CHAT, FORGET, POST):
        answer = served.call("POST", path, content=b'{"ids": [1]}', headers={"Content-Type": "text/plain"})
        assert code_of(answer)[0] in (415, 422)
    assert served.call("GET", "/v1/status").json()["n_examples"] == 12


def test_without_tokens_only_this_machines_names_are_answered(served: Served) -> None:
    evil = ("evil.example", "127.0.0.1.evil.example:80", "evil.example:127.0.0.1", "192.0.2.1", "0.0.0.0", "[::]:80")
    own = ("localhost:1", "LOCALHOST", "127.0.0.1", "127.0.0.2:8000", "[::1]", "[::1]:8000")
    for host, status in (*((host, 403) for host in evil), *((host, 200) for host in own)):
        assert served.call("GET", "/v1/status", headers={"Host": host}).status_code == status, host
    for site, status in (("cross-site", 403), ("same-origin", 200), ("none", 200)):  # what a browser says of a page
        assert served.call("GET", "/v1/verify", headers={"Sec-Fetch-Site": site}).status_code == status, site


@pytest.mark.parametrize("known", [True, False], ids=["length", "chunked"])
def test_a_body_of_100_mb(served: Served, *, known: bool) -> None:
    parts = (b" " * 10**6 for _ in range(100))
    content: Any = b" " * 10**8 if known else parts
    for path in (CHAT, POST):
        try:
            answer = served.call("POST", path, content=content, headers={"Content-Type": "application/json"})
        except httpx.WriteError:  # the server does not read the rest
            continue
        assert code_of(answer) == (413, "too_large")
    assert served.chat().status_code == 200


def test_a_store_that_another_process_writes_to(served: Served, path: Path, other: Elsewhere) -> None:
    with serving(path, some(4)) as busy:
        other("open", path)
        other("begin_write")
        busy.erase._opened.store.timeout = 0.05
        try:
            refused = [
                busy.call("DELETE", "/v1/examples/1"),
                busy.call("PUT", "/v1/examples/9", json={"input": "a", "output": "b"}),
            ]
            assert busy.chat().status_code == 200
        finally:
            other("end_write")
        assert [code_of(answer) for answer in refused] == [(503, "store_locked")] * 2
        assert all(answer.headers["Retry-After"] == "1" for answer in refused)
        assert busy.call("DELETE", "/v1/examples/1").status_code == 200


def test_every_error_of_the_package_has_an_answer_that_repeats_nothing() -> None:
    def below(kind: type[Exception]) -> list[type[Exception]]:
        return [kind, *(each for sub in kind.__subclasses__() for each in below(sub))]

    for kind in below(EraseError):
        if kind.__module__ != "erase_core.errors":
            continue
        answer = response_for(kind(f"the first sentence. {SECRET}"))
        meaning = next(MEANINGS[each] for each in kind.__mro__ if each in MEANINGS)
        assert (answer.status_code, SECRET.encode() in bytes(answer.body)) == (meaning.status, False)


def test_an_unexpected_error_says_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(path, some(4)) as served:
        assert isinstance(served.erase._opened.backends.embedder, object)
        served.erase._opened.backends.embedder.fails[SECRET] = RuntimeError(SECRET)  # type: ignore[attr-defined]
        assert code_of(served.chat(SECRET)) == (500, "unexpected")
