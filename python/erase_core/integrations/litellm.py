"""Demonstrations in the requests of LiteLLM: a hook for its proxy, and a function for programs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from itertools import chain
from typing import Any

from erase_core.erase import Erase
from erase_core.errors import ParameterError
from erase_core.examples.chat import SYSTEM
from erase_core.integrations import checked, extra

with extra("litellm"):
    import litellm
    from litellm.integrations.custom_logger import CustomLogger

__all__ = ["DemonstrationHook", "with_demonstrations"]

# The proxy's names for chat completions and for Anthropic's messages.
CALLS = {"completion", "acompletion", "anthropic_messages"}
NO_CACHE = {"no-cache": True, "no-store": True}


class _Unkept(dict[str, Any]):
    """A dict that stays empty."""

    def __setitem__(self, name: str, value: Any) -> None:
        pass


def with_demonstrations(erase: Erase, messages: Sequence[Any]) -> list[Any]:
    """Return messages with the demonstrations for the last text of the user, as turns before the conversation.

    LiteLLM keeps the last request of a process in ``litellm.error_logs``. After a call of this function it keeps none.

    Parameters
    ----------
    erase : Erase
        An open store. Its template's instruction is not used: the request has its own.
    messages : sequence of dict
        Messages of OpenAI's chat completions or of Anthropic's messages. They are not changed. If no text of a user is
        among them, no demonstrations are put in.

    Raises
    ------
    ParameterError, EmbedderError, LLMError, MissingPackageError, StoreError
        As `Erase.prompt`.
    """
    # LiteLLM keeps the last request of the process and its answer here, and reads them nowhere.
    litellm.error_logs = _Unkept()
    query = next((text for text in map(_text_of_user, reversed(messages)) if text), None)
    turns = [] if query is None else chain.from_iterable(checked(erase).prompt(query).window_messages)
    start = next((i for i, message in enumerate(messages) if _role(message) not in SYSTEM), len(messages))
    return [*messages[:start], *turns, *messages[start:]]


class DemonstrationHook(CustomLogger):
    """Puts a store's demonstrations into each chat completion and each Anthropic message that LiteLLM's proxy forwards.

    The object ``hook`` of this module is one for the store that the environment names: ERASE_STORE and, as for the
    command `erase`, ERASE_RECEIPTS, ERASE_KEY_FROM and ERASE_PUBLIC_KEY.

    Parameters
    ----------
    erase : Erase
        An open store.
    cache : bool, default=False
        Let the proxy's cache, if it has one, answer such requests and keep the answers, which may repeat the text of a
        demonstration.

    Raises
    ------
    ParameterError
        `erase` is not an open store.
    """

    def __init__(self, erase: Erase, *, cache: bool = False) -> None:
        super().__init__()
        self.erase, self.cache = checked(erase), cache

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> Any:
        """Return the request with demonstrations. A query that the store refuses is answered with status 400."""
        messages = data.get("messages")
        if call_type not in CALLS or not isinstance(messages, list):
            return data
        try:
            shown = await asyncio.to_thread(with_demonstrations, self.erase, messages)
        except ParameterError as error:
            from fastapi import HTTPException  # the proxy is a FastAPI application

            raise HTTPException(400, str(error)) from None
        # Another list and another dict: the proxy logs those that it received.
        own = {} if self.cache else {"cache": {**(data.get("cache") or {}), **NO_CACHE}}
        return {**data, "messages": shown, **own}


def _role(message: Any) -> Any:
    # Messages are checked by the model's server, not here.
    return message.get("role") if isinstance(message, dict) else None


def _text_of_user(message: Any) -> str | None:
    """Return the text of a user's message, without images and results of tools; None if it has none."""
    if _role(message) != "user":
        return None
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(str(part["text"]) for part in content if isinstance(part, dict) and part.get("text"))
    return content.strip() or None if isinstance(content, str) else None


def __getattr__(name: str) -> DemonstrationHook:
    if name != "hook":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    store, receipts, key, public = (
        os.environ.get(f"ERASE_{each}") or None for each in ("STORE", "RECEIPTS", "KEY_FROM", "PUBLIC_KEY")
    )
    if store is None:
        raise ParameterError("ERASE_STORE is not set. Set it to the folder of the store, or use DemonstrationHook.")
    erase = Erase.open(store, receipts=receipts, key=key, public_keys=(public or "").split())
    globals()[name] = hook = DemonstrationHook(erase)
    return hook
