"""OpenAILLM against a real HTTP server on this machine, which behaves well, or badly in the ways that servers do."""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from chat_server import (
    Behaviour,
    by_request,
    fails,
    is_slow,
    objects_only,
    says,
    sends,
    sends_raw,
    serving,
)
from erase_core.errors import LLMError, MissingPackageError, ParameterError, PromptTooLongError, ServerError
from erase_core.llm import OpenAILLM
from erase_core.llm.prompt import Prompt, Template
from server_llm import EXAMPLES, OPTIONS, PROMPT, SECRET, ask, one_line

pytest.importorskip("openai", reason="needs openai: pip install 'erase-core[openai]'")

# A server that behaves


def test_a_request_holds_the_chat_and_asks_for_the_likeliest_answer() -> None:
    with serving(says("yes")) as server:
        ask(server, api_key="key").generate(PROMPT, max_tokens=7)
    (request,), (headers,) = server.requests, server.headers
    assert request["messages"] == PROMPT.messages
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("small", 0.0, 7)
    assert headers["authorization"] == "Bearer key"


@pytest.mark.parametrize(
    ("said", "text"), [("yes", "yes"), (" \n yes it is \n\nQ: What?", "yes it is"), ("yes\r\n", "yes")]
)
def test_an_answer_is_cut_at_the_stop_string(said: str, text: str) -> None:
    with serving(says(said, usage={"prompt_tokens": 31, "completion_tokens": 5})) as server:
        answer = ask(server).generate(PROMPT)
    assert (answer.text, answer.n_prompt_tokens, answer.n_tokens) == (text, 31, 5)
    assert 0 < answer.seconds < 20


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "many"}, 3])
def test_tokens_are_estimated_where_the_server_does_not_count(usage: object) -> None:
    with serving(says("yes it is", usage=usage)) as server:
        llm = ask(server)
        answer = llm.generate(PROMPT)
    assert (answer.n_prompt_tokens, answer.n_tokens) == (llm.count_tokens(PROMPT), 5)


# Models that think


def test_thoughts_are_no_part_of_an_answer() -> None:
    with serving(says("<think>\nyes? no!\n</think>\n\nyes\nQ: What?")) as server:
        llm = ask(server)
        assert llm.generate(PROMPT).text == "yes"
    with serving(says("no, no</think>yes", message={"reasoning_content": "no"})) as server:
        choice = ask(server).choose(PROMPT, OPTIONS)
    assert (choice.option, choice.found_by) == ("yes", "text")


@pytest.mark.parametrize(
    "behaviour",
    [
        says("<think>yes, since", reason="length"),
        says("", reason="length", message={"reasoning_content": "yes"}),
        says(None, reason="length", message={"reasoning": "yes"}),
        says("<think>yes</think>", reason="stop"),
    ],
)
def test_thoughts_without_an_answer_are_an_error_that_names_their_budget(behaviour: Behaviour) -> None:
    calls: list[Callable[[OpenAILLM], object]] = [
        lambda llm: llm.generate(PROMPT),
        lambda llm: llm.choose(PROMPT, OPTIONS),
    ]
    for call in calls:
        with serving(behaviour) as server, pytest.raises(LLMError, match="thinking_tokens") as caught:
            call(ask(server))
        one_line(caught.value)


def test_thoughts_have_tokens_of_their_own() -> None:
    with serving(says("yes")) as server:
        server.models = {"data": [{"id": "small", "max_model_len": 5000}]}
        llm = ask(server, thinking_tokens=2000)
        llm.generate(PROMPT, max_tokens=7)
        llm.choose(PROMPT, OPTIONS)
        assert llm.context_length == 3000
    generated, *chosen = [request["max_tokens"] for request in server.requests]
    assert generated == 2007
    assert min(chosen) > 2000


# A server that does not


@pytest.mark.parametrize(
    ("behaviour", "kind", "message"),
    [
        (fails(400), ServerError, "status 400, 'it broke'.*knows the model"),
        (fails(401), ServerError, "status 401.*Give the server's api_key"),
        (fails(403), ServerError, "status 403.*api_key that may use this model"),
        (fails(404), ServerError, "status 404.*Check the model's name, and base_url"),
        (fails(418), ServerError, "status 418.*Check base_url"),
        (fails(429), ServerError, "status 429.*Wait, or ask for a higher limit"),
        (fails(500), ServerError, "status 500.*See the server's log"),
        (fails(503, "two\nlines " * 100), ServerError, "status 503, 'two lines"),
        (sends(["no object"], 500), ServerError, "status 500"),
        (lambda _: (502, "text/html", b"<h1>Bad gateway</h1>"), ServerError, "status 502"),
        (fails(400, code="context_length_exceeded"), PromptTooLongError, "too long for small at 127"),
        (fails(400, "maximum context length is 8"), PromptTooLongError, "maximum context length is 8"),
        (sends_raw(b"{"), LLMError, "did not answer with JSON"),
        (sends_raw(b"\xff\xfe\x00"), LLMError, "did not answer with JSON"),
        (sends_raw(b"<html>hello", "text/html"), LLMError, "did not answer with JSON. Check base_url"),
        (sends_raw(b""), LLMError, "did not answer with JSON"),
        (sends_raw(b"null"), LLMError, "answered without a text"),
        (sends([]), LLMError, "answered without a text"),
        (sends({}), LLMError, "answered without a text"),
        (sends({"choices": []}), LLMError, "answered without a text"),
        (sends({"choices": [{"message": None}]}), LLMError, "answered without a text"),
        (says(None), LLMError, "answered without a text. Check whether 'small' is a chat model."),
        (says(["yes"]), LLMError, "answered without a text"),
        (says([{"type": "image_url"}]), LLMError, "answered without a text"),
        (says("", reason="length"), LLMError, "cut off before an answer .*. Raise max_tokens"),
        (says(None, message={"refusal": "I can't."}), LLMError, r'refused to answer \("I can\'t."\). Rephrase'),
        (says("yes", reason="content_filter"), LLMError, "a content filter stopped it"),
        (says(None, reason="tool_calls"), LLMError, "requested a tool"),
        (sends({"error": {"message": "no capacity", "code": 503}}), ServerError, "status 503, 'no capacity'"),
        (sends({"error": "no capacity"}), ServerError, "status 200, 'no capacity'"),
        (sends({"object": "error", "message": "broken"}), ServerError, "status 200, 'broken'"),
        (sends({"detail": "broken"}), ServerError, "status 200, 'broken'"),
        (fails(200, "maximum context length is 8"), PromptTooLongError, "maximum context length is 8"),
        (fails(500, "Context size has been exceeded."), PromptTooLongError, "Context size has been exceeded"),
        (says("", reason="abort"), LLMError, "ended without an answer .finish_reason 'abort'"),
        (fails(413), PromptTooLongError, "too long for small"),
        (sends({"error": "`inputs` must have less than 9 tokens. Given: 99"}, 422), PromptTooLongError, "Given: 99"),
        (fails(400, "\ud800 \x1b[31m\u2028"), ServerError, "status 400, '\ufffd \\[31m'"),
        (sends_raw(b"[" * 200_000), LLMError, "did not answer with JSON"),
        (says("  \n"), LLMError, "answered without a text"),
    ],
)
def test_nonsense_and_refusals_are_one_line(behaviour: Behaviour, kind: type[Exception], message: str) -> None:
    with serving(behaviour) as server:
        calls: list[Callable[[OpenAILLM], object]] = [
            lambda llm: llm.generate(PROMPT),
            lambda llm: llm.choose(PROMPT, OPTIONS),
        ]
        for call in calls:
            with pytest.raises(kind, match=message) as caught:
                call(ask(server))
            assert type(caught.value) is kind
            assert len(one_line(caught.value)) < 300
            str(caught.value).encode()


def test_a_failure_that_passes_is_tried_again() -> None:
    with serving(fails(500), says("yes")) as server:
        assert ask(server, max_retries=1).generate(PROMPT).text == "yes"
    assert len(server.requests) == 2


def test_a_slow_server_is_given_up_after_the_timeout() -> None:
    start = time.perf_counter()
    with (
        serving(is_slow) as server,
        pytest.raises(ServerError, match=r"did not answer within 0.2 s.*raise timeout") as caught,
    ):
        ask(server, timeout=0.2).generate(PROMPT)
    assert time.perf_counter() - start < 10
    one_line(caught.value)


def test_a_server_that_is_down_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    llm = OpenAILLM("small", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0)
    with pytest.raises(ServerError, match=f"cannot reach http://127.0.0.1:{port}/v1 .*Start the server") as caught:
        llm.generate(PROMPT)
    one_line(caught.value)


def test_prompts_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), serving(says("yes"), fails(500), says("perhaps")) as server:
        llm = ask(server)
        llm.generate(PROMPT)
        for _ in range(2):
            with pytest.raises((ServerError, LLMError)):
                llm.choose(PROMPT, OPTIONS)
    assert SECRET not in caplog.text


# Arguments


def test_a_prompt_over_the_stated_context_is_not_sent() -> None:
    with serving(says("yes")) as server:
        needed = ask(server).count_tokens(PROMPT) + 10
        assert ask(server, context_length=needed).generate(PROMPT, max_tokens=10).text == "yes"
        with pytest.raises(PromptTooLongError, match=f"may have 11, .* context of {needed}"):
            ask(server, context_length=needed).generate(PROMPT, max_tokens=11)
    assert len(server.requests) == 1


def test_the_estimate_of_tokens_grows_with_the_prompt() -> None:
    llm = OpenAILLM("small", base_url="http://127.0.0.1:1")
    assert llm.count_tokens(Prompt(Template(), (), "x" * 300)) == 150 + 8
    assert llm.count_tokens(Prompt(Template(), (), "漢" * 100)) == 150 + 8
    assert llm.count_tokens(PROMPT) > llm.count_tokens(Prompt(Template(), EXAMPLES, PROMPT.query))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": " "}, "model must be the name"),
        ({"base_url": "localhost:8000"}, "base_url must begin with http:// or https://"),
        ({"base_url": "http://"}, "base_url must begin with"),
        ({"base_url": None}, "base_url must begin with"),
        ({"timeout": 0}, "timeout must be a positive number"),
        ({"timeout": float("nan")}, "timeout must be a positive number"),
        ({"timeout": None}, "timeout must be a positive number"),
        ({"max_retries": -1}, "max_retries must be an integer from 0"),
        ({"context_length": 0}, "context_length must be an integer from 1"),
    ],
)
def test_parameters_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        OpenAILLM(**{"model": "small", "base_url": "http://localhost:8000/v1", **options})


def test_options_and_max_tokens_are_checked_before_a_request() -> None:
    with serving(says("yes")) as server:
        calls: list[Callable[[OpenAILLM], object]] = [
            lambda llm: llm.choose(PROMPT, []),
            lambda llm: llm.choose(PROMPT, ["a", "a"]),
            lambda llm: llm.generate(PROMPT, max_tokens=0),
        ]
        for call in calls:
            with pytest.raises(ParameterError):
                call(ask(server))
    assert not server.requests


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingPackageError, match=r"openai is not installed. Run `pip install 'erase-core\[openai\]'`"):
        OpenAILLM("small", base_url="http://localhost:8000/v1")


# Parameters that a model does not take


@pytest.mark.parametrize("inside", [False, True])
def test_what_a_model_does_not_take_is_left_out_from_then_on(inside: bool) -> None:
    status = 200 if inside else 400

    def newer(request: dict[str, Any]) -> Behaviour:
        if "max_tokens" in request:
            words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
            return fails(status, words, param="max_tokens", code="unsupported_parameter")
        if "temperature" in request:
            words = "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value."
            return fails(status, words, param="temperature", code="unsupported_value")
        return objects_only(request)

    with serving(by_request(newer)) as server:
        llm = ask(server)
        assert llm.generate(PROMPT, max_tokens=7).text == "Well, it depends."
        assert len(server.requests) == 3
        assert server.requests[-1]["max_completion_tokens"] == 7
        assert not {"temperature", "max_tokens"} & server.requests[-1].keys()
        llm.generate(PROMPT)
        assert len(server.requests) == 4
        assert llm.choose(PROMPT, OPTIONS).found_by == "constraint"


def test_tgi_does_not_take_a_temperature_of_zero() -> None:
    def tgi(request: dict[str, Any]) -> Behaviour:
        if request.get("temperature") == 0:
            return sends({"error": "Input validation error: `temperature` must be strictly positive"}, 422)
        return says("yes")

    with serving(by_request(tgi)) as server:
        assert ask(server).generate(PROMPT).text == "yes"


def test_further_parameters_are_sent_and_null_leaves_out() -> None:
    with serving(says("yes")) as server:
        given: dict[str, Any] = {"reasoning_effort": "low", "temperature": None, "extra": {"a": [1]}}
        llm = ask(server, parameters=given)
        given["extra"]["a"].append(2)
        llm.generate(PROMPT)
    (request,) = server.requests
    assert request["reasoning_effort"] == "low"
    assert request["extra"] == {"a": [1]}
    assert "temperature" not in request


def test_a_temperature_of_ones_own_is_not_left_out() -> None:
    with (
        serving(fails(400, "temperature must be 1")) as server,
        pytest.raises(ServerError, match="temperature must be 1"),
    ):
        ask(server, parameters={"temperature": 0.7}).generate(PROMPT)
    assert [request["temperature"] for request in server.requests] == [0.7]


@pytest.mark.parametrize(
    "given",
    [{"model": "x"}, {"messages": []}, {"stream": True}, {"a": float("nan")}, {"a": {1}}, {5: 1}, [1], {"a": "\ud800"}],
)
def test_parameters_that_cannot_be_sent_are_refused(given: Any) -> None:
    with pytest.raises(ParameterError, match="parameters must"):
        OpenAILLM("small", base_url="http://h/v1", parameters=given)


# The context


def test_the_context_is_the_one_that_the_server_lists() -> None:
    with serving(says("yes")) as server:
        server.models = {"data": [{"id": "small", "meta": {"n_ctx": 321}}]}
        llm = ask(server)
        assert llm.context_length == 321
        assert llm.context_length == 321
        assert server.paths == ["/v1/models"]  # asked for once
        assert ask(server, context_length=77).context_length == 77
        with pytest.raises(PromptTooLongError, match="context of 321"):
            llm.generate(PROMPT, max_tokens=300)
    assert not server.requests


@pytest.mark.parametrize("models", [None, {}, [], {"data": [{"id": "small"}]}, "x"])
def test_a_server_that_lists_no_context_is_asked_all_the_same(models: object) -> None:
    with serving(says("yes")) as server:
        server.models = models
        llm = ask(server)
        assert llm.context_length is None
        assert llm.generate(PROMPT).text == "yes"


# Half a character, and an answer that goes on


def test_half_a_character_is_marked_in_an_answer() -> None:
    with serving(says("yes \ud83d")) as server:
        answer = ask(server).generate(PROMPT)
    assert answer.text == "yes \ufffd"
    with serving(says("yes\ud83d")) as server, pytest.raises(LLMError, match="yes\ufffd"):
        ask(server).choose(PROMPT, OPTIONS)


def test_an_answer_that_max_tokens_ended_says_so() -> None:
    for said, reason, cut_off in [("yes it", "length", True), ("yes\nQ:", "length", False), ("yes it", "stop", False)]:
        with serving(says(said, reason=reason)) as server:
            assert ask(server).generate(PROMPT).cut_off is cut_off


def test_the_name_holds_model_and_server_but_no_password() -> None:
    llm = OpenAILLM("small", base_url="https://me:secret@example.org/v1/")
    assert llm.name == "small at example.org/v1"
    llm.forget()
