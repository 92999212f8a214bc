"""Chats with the model in this process: which fields of a request it can follow, and its answer in OpenAI's form."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from starlette.responses import Response

from erase_core.llm.protocol import MAX_TOKENS
from erase_core.server.errors import ApiError
from erase_core.server.messages import conversation
from erase_core.server.relay import EVENTS, event
from erase_core.server.store_calls import Answered

__all__ = ["asked", "models_of", "response_of"]

DEFAULT_TOKENS = 256
# Answers are always the same, so these change nothing.
WITHOUT_EFFECT = {
    "frequency_penalty", "metadata", "presence_penalty", "seed", "service_tier", "store", "stream_options",
    "temperature", "top_p", "user",
}  # fmt: skip
KNOWN = {"max_completion_tokens", "max_tokens", "messages", "model", "n", "stop", "stream"}


def asked(body: dict[str, Any]) -> tuple[str, int]:
    """Return the query of a chat, and the most tokens of its answer.

    Raises
    ------
    ApiError
        A field asks for what the model in this process cannot do.
    """
    given = {name for name, value in body.items() if value is not None}
    if given - KNOWN - WITHOUT_EFFECT or body.get("n") not in (None, 1):
        raise ApiError(
            400,
            "unsupported_field",
            "The model in this process follows only messages, stream, max_tokens, max_completion_tokens and stop, and "
            "gives one answer. Leave other fields out.",
        )
    _stops(body)
    limits = (body.get(name) for name in ("max_completion_tokens", "max_tokens"))
    most = next((limit for limit in limits if limit is not None), DEFAULT_TOKENS)
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MAX_TOKENS:
        raise ApiError(400, "invalid_value", f"max_tokens must be an integer from 1 to {MAX_TOKENS}.")
    return conversation(body["messages"]), most


def response_of(body: dict[str, Any], done: Answered, model: str, headers: dict[str, str]) -> Response:
    """Return an answer as one JSON object or, for a stream, as events that come together."""
    text, cut_off = done.answer.text, done.answer.cut_off
    for stop in _stops(body):
        if stop in text:
            text, cut_off = text.partition(stop)[0], False
    n_prompt, n_answer = done.answer.n_prompt_tokens, done.answer.n_tokens
    usage = {"prompt_tokens": n_prompt, "completion_tokens": n_answer, "total_tokens": n_prompt + n_answer}
    reason = "length" if cut_off else "stop"
    common = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
    if not body.get("stream"):
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        whole = {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
        return Response(json.dumps(whole), headers=headers, media_type="application/json")
    common["object"] = "chat.completion.chunk"
    first = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    last = {"index": 0, "delta": {}, "finish_reason": reason}
    chunks = [{**common, "choices": [first]}, {**common, "choices": [last]}]
    options = body.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        chunks.append({**common, "choices": [], "usage": usage})
    content = b"".join(map(event, chunks)) + b"data: [DONE]\n\n"
    return Response(content, headers={**headers, "Cache-Control": "no-cache"}, media_type=EVENTS)


def models_of(name: str) -> dict[str, Any]:
    """Return the list of models, which has one."""
    return {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "erase-core"}]}


def _stops(body: dict[str, Any]) -> list[str]:
    given = body.get("stop")
    stops = [given] if isinstance(given, str) else [] if given is None else given
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise ApiError(400, "invalid_value", "stop must be a text or a list of texts.")
    return stops
