"""LiteLLM: the proxy's hook on both kinds of body, the function for programs, and what LiteLLM keeps of a removed text.

The hook is called as the proxy calls it, and what it returns is sent by LiteLLM to a server on this machine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import erase_core.integrations.litellm as module
import litellm
import pytest
from canary_stores import GONE, canary_store, query
from chat_server import Server, by_request, fails, says, sends, serving
from erase_core import Erase, ParameterError
from erase_core.integrations.litellm import DemonstrationHook, with_demonstrations
from fastapi import HTTPException
from litellm.caching.caching import Cache
from litellm.exceptions import BadRequestError
from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.llms.base_llm.chat.transformation import BaseLLMException
from litellm.types.caching import LiteLLMCacheType
from reachable import canary, holders
from small_stores import refused

ASKED = query(0)
USER = {"role": "user", "content": ASKED}
PATIENCE = 10
# What LiteLLM itself keeps is known of versions up to this one.
TRIED = (1, 83)
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
SYSTEM = {"role": "system", "content": "be kind"}
# What the proxy calls an endpoint, how LiteLLM sends its requests on, and what the body has besides.
ENDPOINTS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "chat completions": ("acompletion", litellm.acompletion, {"model": "openai/m"}),
    "messages": ("anthropic_messages", litellm.anthropic_messages, {"model": "anthropic/m", "max_tokens": 9}),
}
endpoints = pytest.mark.parametrize("endpoint", ENDPOINTS)


@pytest.fixture
def erase(path: Path) -> Iterator[Erase]:
    with canary_store(path) as erase:
        yield erase


@pytest.fixture
def server() -> Iterator[Server]:
    """A model that quotes the removed text, if it was shown it, to chat completions and to messages."""

    def reply(request: dict[str, Any]) -> Any:
        said = canary() if canary() in str(request) else "nothing"
        if "max_tokens" not in request:
            return says(said, usage=USAGE)
        usage = {"input_tokens": 1, "output_tokens": 1}
        content = [{"type": "text", "text": said}]
        return sends({"id": "1", "type": "message", "role": "assistant", "model": "m", "content": content,
                      "stop_reason": "end_turn", "stop_sequence": None, "usage": usage})  # fmt: skip

    with serving(by_request(reply)) as server:
        yield server


@pytest.fixture(autouse=True)
def _callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "callbacks", [])
    monkeypatch.setattr(litellm, "cache", None)
    monkeypatch.setattr(litellm, "error_logs", {})


def turns(erase: Erase, asked: str = ASKED) -> list[dict[str, str]]:
    """The demonstrations of a query as messages."""
    shown = [
        [{"role": "user", "content": each.input}, {"role": "assistant", "content": each.output}]
        for each in erase.demonstrations(asked)
    ]
    return [message for pair in shown for message in pair]


def hooked(hook: DemonstrationHook, call_type: str, body: dict[str, Any]) -> Any:
    return asyncio.run(hook.async_pre_call_hook(None, None, body, call_type))


def litellm_version() -> tuple[int, ...]:
    return tuple(int(part) for part in version("litellm").split(".")[:2])


async def forwarded(hook: DemonstrationHook, server: Server, endpoint: str) -> Any:
    """Send a request as the proxy does, and let LiteLLM end what it does after a call."""
    call_type, call, body = ENDPOINTS[endpoint]
    data = await hook.async_pre_call_hook(None, None, {**body, "messages": [USER]}, call_type)
    url = server.url if endpoint == "chat completions" else server.url.removesuffix("/v1")
    try:
        return await call(**data, api_base=url, api_key="key", num_retries=0)
    finally:
        await asyncio.sleep(0)
        await GLOBAL_LOGGING_WORKER.flush()


async def held() -> list[str]:
    """What holds the text when LiteLLM has ended what it does after a call, in tasks and threads of its own."""
    for _ in range(PATIENCE):
        found = holders(canary())
        if not found:
            break
        await asyncio.sleep(0.3)
    return found


# ---- what is shown ----
def test_demonstrations_come_after_the_system_messages(erase: Erase) -> None:
    assert with_demonstrations(erase, [USER]) == [*turns(erase), USER]
    developer = {"role": "developer", "content": "be short"}
    talk = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes?"}, USER]
    assert with_demonstrations(erase, [SYSTEM, developer, *talk]) == [SYSTEM, developer, *turns(erase), *talk]


@pytest.mark.parametrize(
    "last",
    [
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": ASKED}, {"type": "image_url", "image_url": {"url": "x"}}],
            }
        ],
        [USER, {"role": "assistant", "content": None, "tool_calls": []}, {"role": "tool", "content": "found"}],
        [USER, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "found"}]}],
        [USER, {"role": "user", "content": " "}],
    ],
    ids=["parts", "a tool's result", "a tool's result in a message of the user", "blank"],
)
def test_the_query_is_the_last_text_of_the_user(erase: Erase, last: list[Any]) -> None:
    before = str(last)
    assert with_demonstrations(erase, [SYSTEM, *last]) == [SYSTEM, *turns(erase), *last]
    assert str(last) == before


@pytest.mark.parametrize("messages", [[], [SYSTEM], [{"role": "user", "content": []}], ["a text"], [{}]], ids=str)
def test_without_a_text_of_a_user_nothing_is_put_in(erase: Erase, messages: list[Any]) -> None:
    assert with_demonstrations(erase, messages) == messages


@endpoints
def test_the_model_is_sent_the_demonstrations(erase: Erase, server: Server, endpoint: str) -> None:
    hook = DemonstrationHook(erase)
    asyncio.run(forwarded(hook, server, endpoint))
    assert server.paths[-1] == ("/v1/chat/completions" if endpoint == "chat completions" else "/v1/messages")
    assert [said(message) for message in server.requests[-1]["messages"]] == [*turns(erase), USER]
    erase.forget(subject=GONE)
    asyncio.run(forwarded(hook, server, endpoint))
    assert canary() not in str(server.requests[-1])
    assert [said(message) for message in server.requests[-1]["messages"]] == [*turns(erase), USER]


def said(message: dict[str, Any]) -> dict[str, Any]:
    """A message with its text as a string; LiteLLM may send parts."""
    content = message["content"]
    return {"role": message["role"], "content": content if isinstance(content, str) else content[0]["text"]}


# ---- as the proxy calls it ----
def test_the_proxy_finds_the_hook(erase: Erase) -> None:
    # litellm.proxy.utils.ProxyLogging.pre_call_hook asks for both.
    assert isinstance(DemonstrationHook(erase), CustomLogger)
    assert "async_pre_call_hook" in vars(DemonstrationHook)


@endpoints
def test_the_body_that_the_proxy_logs_is_not_changed(erase: Erase, endpoint: str) -> None:
    call_type, _, more = ENDPOINTS[endpoint]
    body = {**more, "messages": [USER], "cache": {"ttl": 9}}
    logged = {**body}
    data = hooked(DemonstrationHook(erase), call_type, body)
    assert body == logged == {**more, "messages": [USER], "cache": {"ttl": 9}}
    assert data["messages"] == [*turns(erase), USER]
    assert data["cache"] == {"ttl": 9, "no-cache": True, "no-store": True}
    assert hooked(DemonstrationHook(erase, cache=True), call_type, body)["cache"] == {"ttl": 9}


@pytest.mark.parametrize(
    ("call_type", "body"),
    [("aembedding", {"input": [ASKED]}), ("aresponses", {"input": ASKED}), ("acompletion", {"messages": ASKED})],
    ids=["embeddings", "responses", "a wrong body"],
)
def test_other_requests_pass_unchanged(erase: Erase, call_type: str, body: dict[str, Any]) -> None:
    assert hooked(DemonstrationHook(erase), call_type, {**body}) == body


def test_a_query_that_the_store_refuses_is_a_bad_request(erase: Erase) -> None:
    with pytest.raises(HTTPException) as caught:
        hooked(DemonstrationHook(erase), "acompletion", {"messages": [{"role": "user", "content": "half \ud800"}]})
    assert caught.value.status_code == 400
    assert "query" in caught.value.detail


def test_requests_at_a_time_get_their_own_demonstrations(erase: Erase) -> None:
    hook, asked = DemonstrationHook(erase), [query(i) for i in range(6)] * 4

    async def all_of() -> list[Any]:
        bodies = [{"messages": [{"role": "user", "content": each}]} for each in asked]
        return await asyncio.gather(*(hook.async_pre_call_hook(None, None, each, "acompletion") for each in bodies))

    for each, data in zip(asked, asyncio.run(all_of()), strict=True):
        assert data["messages"][:-1] == turns(erase, each)


def test_the_environment_names_the_store(
    erase: Erase, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(vars(module), "hook", raising=False)
    monkeypatch.delenv("ERASE_STORE", raising=False)
    refused(lambda: module.hook, ParameterError, "ERASE_STORE", "Set it")
    monkeypatch.setenv("ERASE_STORE", str(path))
    assert module.hook.erase.status().n_examples == erase.status().n_examples
    assert module.hook is module.hook
    module.hook.erase.close()
    monkeypatch.delitem(vars(module), "hook")
    with pytest.raises(AttributeError, match="hooks"):
        module.hooks  # noqa: B018


def test_a_store_that_is_none_is_refused() -> None:
    refused(lambda: DemonstrationHook("store"), ParameterError, "erase", "Erase.open")  # type: ignore[arg-type]
    refused(lambda: with_demonstrations("store", [USER]), ParameterError, "erase", "Erase.open")  # type: ignore[arg-type]


# ---- nothing stays ----
@pytest.mark.parametrize("outcome", ["answers", "fails"])
def test_after_forget_nothing_holds_the_text(
    erase: Erase, server: Server, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    hook = DemonstrationHook(erase)
    litellm.callbacks = [hook]
    litellm.cache = Cache(type=LiteLLMCacheType.LOCAL)
    if outcome == "fails":
        server.behaviours = [fails(400, "broken")]

    async def serve() -> list[str]:
        for endpoint in ENDPOINTS:
            with pytest.raises((BadRequestError, BaseLLMException)) if outcome == "fails" else nullcontext():
                answer = await forwarded(hook, server, endpoint)
                assert canary() in str(answer)
                del answer
        assert len(server.requests) == len(ENDPOINTS)
        assert all(canary() in str(request) for request in server.requests)
        server.requests.clear()
        erase.forget(subject=GONE)
        return await held()

    with caplog.at_level(logging.INFO):
        assert asyncio.run(serve()) == []
    assert canary() not in caplog.text


def test_after_forget_nothing_holds_the_text_in_a_program(erase: Erase, server: Server) -> None:
    litellm.completion("openai/m", with_demonstrations(erase, [USER]), api_base=server.url, api_key="key")
    assert canary() in str(server.requests)
    server.requests.clear()
    erase.forget(subject=GONE)
    assert asyncio.run(held()) == []


def test_the_search_finds_what_litellm_keeps_of_a_request(erase: Erase, server: Server) -> None:
    messages = [*turns(erase), USER]
    litellm.completion("openai/m", messages, api_base=server.url, api_key="key")
    messages.clear()
    server.requests.clear()
    if not holders(canary()) and litellm_version() > TRIED:
        pytest.skip("this version of LiteLLM keeps nothing")
    assert holders(canary())
    litellm.error_logs.clear()
    assert asyncio.run(held()) == []


def test_a_cached_answer_goes_as_the_page_says(erase: Erase, server: Server) -> None:
    hook = DemonstrationHook(erase, cache=True)
    litellm.callbacks = [hook]
    litellm.cache = cache = Cache(type=LiteLLMCacheType.LOCAL)

    async def serve() -> list[str]:
        local: Any = cache.cache
        for _ in range(2):
            await forwarded(hook, server, "chat completions")
        if not local.cache_dict and litellm_version() > TRIED:
            pytest.skip("this version of LiteLLM fills its cache in another way")
        assert len(server.requests) == 1
        server.requests.clear()
        erase.forget(subject=GONE)
        assert canary() in str(local.cache_dict)
        local.flush_cache()
        return await held()

    assert asyncio.run(serve()) == []
