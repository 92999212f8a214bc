"""Chats: `POST /v1/chat/completions` and `GET /v1/models`."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from erase_core.server import local
from erase_core.server.auth import TOKEN, route_for
from erase_core.server.errors import ApiError
from erase_core.server.in_flight import Exchange, HungUpError
from erase_core.server.messages import chat_in, query_of, with_demonstrations
from erase_core.server.relay import EVENTS, Relay
from erase_core.server.service import Serves, Service
from erase_core.server.store_calls import answered, prompted
from erase_core.server.upstream import GARBAGE, kept_headers, read

__all__ = ["router"]

router = APIRouter(route_class=route_for("ask"), tags=["ask"], dependencies=[TOKEN])

# Room for an answer in the model's context, if a request does not say how long it may be.
ANSWER_TOKENS = 512
# Proxies refuse headers that are much longer.
MOST_BYTES = 4096
# nginx's number for it: nobody reads the answer, but the log and the metrics have a status.
HUNG_UP = 499
BODY = {
    "type": "object",
    "required": ["messages"],
    "properties": {
        "model": {"type": "string"},
        "messages": {"type": "array", "items": {"type": "object"}},
        "stream": {"type": "boolean"},
    },
    "additionalProperties": True,
}


@router.post(
    "/v1/chat/completions",
    summary="Answer a chat",
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": BODY}}}},
)
async def complete(request: Request, service: Serves) -> Response:
    """Put demonstrations for the last message of the user into the chat, and pass it to the model.

    The demonstrations are turns of user and assistant after the system messages. All other fields are passed on
    unchanged, and so is the answer, as a whole or as a stream. `Erase-Demonstrations` has the ids of the demonstrations
    as a JSON array, `Erase-Demonstration-Count` their number, and `Erase-Digest` the digest of the model that chose
    them.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "invalid_content_type", "The body must be JSON. Send Content-Type: application/json.")
    try:
        content = await request.body()
    except ClientDisconnect:
        return Response(status_code=HUNG_UP)
    body = chat_in(content)
    exchange = service.in_flight.begin()
    service.metrics.in_flight.inc()
    end = partial(_end, service, exchange)
    answer = _local(service, exchange, body) if service.upstream is None else _proxied(service, exchange, body, end)
    streams = False
    try:
        response = await exchange.run(answer, request.receive)
        streams = isinstance(response, Relay)  # which ends the exchange itself
        return response
    except HungUpError:
        return Response(status_code=HUNG_UP)
    finally:
        if not streams:
            end()


@router.get("/v1/models", summary="List the models")
async def models(service: Serves) -> Response:
    """Return the models of the model server, or the name of the model in this process."""
    if service.upstream is None:
        name = (await service.store(lambda erase: erase.status())).llm
        return Response(json.dumps(local.models_of(name)), media_type="application/json")
    status, content, headers = await service.upstream.call("GET", "/models")
    return Response(content, status, headers, media_type="application/json")


def _end(service: Service, exchange: Exchange) -> None:
    service.in_flight.end(exchange)
    service.metrics.in_flight.dec()


async def _local(service: Service, exchange: Exchange, body: dict[str, Any]) -> Response:
    query_of(body["messages"])
    query, max_tokens = local.asked(body)
    done = await service.store(lambda erase: answered(erase, query, max_tokens))
    ids = [example.id for example in done.prompt.demonstrations]
    exchange.shows(ids)
    model = body.get("model")
    name = model if isinstance(model, str) else "local"
    return local.response_of(body, done, name, _headers(service, ids, done.digest))


async def _proxied(service: Service, exchange: Exchange, body: dict[str, Any], end: Any) -> Response:
    upstream = service.upstream
    if upstream is None:
        raise RuntimeError("there is no upstream")
    query = query_of(body["messages"])
    if body.get("model") is None:
        if service.default_model is None:
            raise ApiError(400, "no_model", "The request names no model, and the store does not either. Give model.")
        body = {**body, "model": service.default_model}
    context = await upstream.context_length(body["model"])
    prompt, digest = await service.store(lambda erase: prompted(erase, query))
    exchange.shows(example.id for example in prompt.demonstrations)
    room = None if context is None else max(1, context - _answer_tokens(body, context))
    messages, ids = with_demonstrations(body["messages"], prompt, room, service.keeps)
    headers = _headers(service, ids, digest)
    sent = {**body, "messages": messages}
    if not body.get("stream"):
        status, content, theirs = await upstream.call("POST", "/chat/completions", sent)
        return Response(content, status, {**theirs, **headers}, media_type="application/json")
    source = await upstream.open("POST", "/chat/completions", sent)
    headers = {**kept_headers(source), **headers}
    if not source.is_success:
        return Response(await read(source), source.status_code, headers, media_type="application/json")
    if source.headers.get("content-type", "").partition(";")[0].strip().lower() != EVENTS:
        await source.aclose()
        raise ApiError(502, "upstream_garbage", GARBAGE)
    return Relay(source, exchange, end, headers)


def _answer_tokens(body: dict[str, Any], context: int) -> int:
    given = body.get("max_completion_tokens") or body.get("max_tokens")
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return given
    return min(ANSWER_TOKENS, context // 4)


def _headers(service: Service, ids: list[int | str], digest: str) -> dict[str, str]:
    service.metrics.shown.inc(len(ids))
    headers = {"Erase-Demonstration-Count": str(len(ids)), "Erase-Digest": digest}
    # JSON escapes all that a header must not have, but for one character.
    named = json.dumps(ids).replace("\x7f", "\\u007f")
    if service.shows_ids and len(named) <= MOST_BYTES:
        headers["Erase-Demonstrations"] = named
    return headers
