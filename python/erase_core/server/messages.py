"""The messages of a chat: which of them is the query, and where demonstrations are put in. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from erase_core.errors import PromptTooLongError
from erase_core.examples.chat import SYSTEM, TURNS
from erase_core.llm.openai import tokens_of_message
from erase_core.llm.prompt import Prompt
from erase_core.server.errors import ApiError

__all__ = ["chat_in", "conversation", "query_of", "with_demonstrations"]

Messages = list[dict[str, Any]]


def chat_in(content: bytes) -> dict[str, Any]:
    """Return the body of a request for a chat. Only what is needed here is checked; the rest is the model's business.

    Raises
    ------
    ApiError
    """
    try:
        body = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ApiError(400, "invalid_json", "The body is not JSON. Send an object with model and messages.") from None
    if not isinstance(body, dict):
        raise ApiError(400, "invalid_shape", "The body must be an object with model and messages.")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "invalid_shape", "messages must be a list with at least one message.")
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ApiError(400, "invalid_shape", f"messages[{place}] must be an object with a role.")
    if not isinstance(body.get("stream", False), (bool, type(None))):
        raise ApiError(400, "invalid_shape", "stream must be true or false.")
    return body


def query_of(messages: Messages) -> str:
    """Return the text of the last message of the user.

    Raises
    ------
    ApiError
        There is no such message, or it has no text.
    """
    last = next((message for message in reversed(messages) if message["role"] == "user"), None)
    query = "" if last is None else text_of(last)
    if not query.strip():
        raise ApiError(400, "no_query", "messages must have a message of the user with text: it is the query.")
    return query


def text_of(message: dict[str, Any]) -> str:
    """Return the text of a message, whose content may be in parts. Parts that are not text are left out."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def conversation(messages: Messages) -> str:
    """Return a chat as the query of a model in this process. Longer chats are marked as `ingest` marks them.

    Raises
    ------
    ApiError
        A message has a role or a content that such a model cannot read.
    """
    for place, message in enumerate(messages):
        if message["role"] in SYSTEM:
            raise ApiError(
                400,
                "unsupported_message",
                "The model in this process takes its instruction from the template of the store. Leave system "
                "messages out, or create the store with `template={'instruction': ...}`.",
            )
        content = message.get("content")
        parts = content if isinstance(content, list) else []
        is_text = isinstance(content, str) or (
            isinstance(content, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in parts)
        )
        if message["role"] not in TURNS or not is_text or message.get("tool_calls"):
            raise ApiError(
                400,
                "unsupported_message",
                f"messages[{place}] must be a text of the user or the assistant, for the model in this process.",
            )
    if messages[-1]["role"] != "user":
        raise ApiError(400, "unsupported_message", "The last message must be the user's.")
    if len(messages) == 1:
        return text_of(messages[0])
    return "\n\n".join(f"{TURNS[message['role']]}: {text_of(message)}" for message in messages)


def with_demonstrations(
    messages: Messages,
    prompt: Prompt,
    room: int | None,
    keep: Literal["first", "last"],
) -> tuple[Messages, list[int | str]]:
    """Return the messages of a chat with the demonstrations of a prompt, and the ids of those that found room.

    The demonstrations are turns of user and assistant, after the system messages that the chat begins with. If
    it begins with none, the instruction of the store's template is put before them.

    Parameters
    ----------
    messages : list of dict
        They are not changed.
    prompt : Prompt
    room : int or None
        Most tokens of all messages, by an estimate. None: there is room for all.
    keep : {"first", "last"}
        Which demonstrations stay if there is not room for all.

    Raises
    ------
    PromptTooLongError
        There is no room even without demonstrations.
    """
    n_system = next((i for i, message in enumerate(messages) if message["role"] not in SYSTEM), len(messages))
    head: Messages = messages[:n_system] or [dict(message) for message in prompt.head_messages]
    rest = messages[n_system:]
    ids = [example.id for example in prompt.demonstrations]
    turns: Sequence[Sequence[dict[str, Any]]] = prompt.window_messages
    if room is not None:
        left = room - sum(map(_tokens, (*head, *rest)))
        if left < 0:
            raise PromptTooLongError(
                f"the messages have about {room - left} tokens without demonstrations, but at most {room} are allowed"
            )
        n = _n_fitting(turns if keep == "first" else turns[::-1], left)
        first = 0 if keep == "first" else len(turns) - n
        ids, turns = ids[first : first + n], turns[first : first + n]
    return [*head, *(message for pair in turns for message in pair), *rest], ids


def _n_fitting(turns: Sequence[Sequence[dict[str, Any]]], room: int) -> int:
    for place, pair in enumerate(turns):
        room -= sum(map(_tokens, pair))
        if room < 0:
            return place
    return len(turns)


def _tokens(message: dict[str, Any]) -> int:
    return tokens_of_message(text_of(message))


def _refuse(constant: str) -> None:
    raise ValueError("JSON has no such number")
