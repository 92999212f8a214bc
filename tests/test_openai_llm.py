"""OpenAILLM against a real HTTP server on this machine, which behaves well, or badly in the ways that servers do."""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from chat_server import Behaviour, Server, fails, is_slow, says, sends, sends_raw, serving
from erase_core.errors import LLMError, MissingPackageError, ParameterError, PromptTooLongError, ServerError
from erase_core.examples import Example
from erase_core.llm import OpenAILLM
from erase_core.prompt import Prompt, Template

pytest.importorskip("openai", reason="needs openai: pip install 'erase-core[openai]'")

SECRET = "zebra-4711"
EXAMPLES = (Example(1, "Is ice cold?", "yes"), Example(2, "Do stones swim?", "no"))
OPTIONS = ["yes", "no", "not known"]
PROMPT = Prompt(Template(instruction="Answer."), EXAMPLES, f"Is {SECRET} a number?")


def ask(server: Server, **options: Any) -> OpenAILLM:
    return OpenAILLM("small", base_url=server.url, **{"max_retries": 0, **options})


def one_line(error: BaseException) -> str:
    """Return an error's message, having checked that it is one line, names the server and tells nothing of prompts."""
    message = str(error)
    assert "\n" not in message
    assert "127.0.0.1" in message
    assert SECRET not in message
    assert error.__cause__ is None
    return message


# A server that behaves


def test_a_request_holds_the_chat_and_asks_for_the_likeliest_answer() -> None:
    with serving(says("yes")) as server:
        ask(server, api_key="key").generate(PROMPT, max_tokens=7)
    (request,), (headers,) = server.requests, server.headers
    assert request["messages"] == PROMPT.messages
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("small", 0.0, 7)
    assert headers["authorization"] == "Bearer key"


def test_no_key_of_the_environment_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with serving(says("yes")) as server:
        ask(server).generate(PROMPT)
        ask(server, api_key="").generate(PROMPT)
    assert not [headers for headers in server.headers if SECRET in str(headers)]


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


@pytest.mark.parametrize(
    ("said", "option"),
    [
        ("no", "no"),
        (" Yes. ", "yes"),
        ('"NOT KNOWN"', "not known"),
        ("**not-known**\n", "not known"),
        ("The answer is: yes!", "yes"),
        ("ｙｅｓ", "yes"),  # noqa: RUF001
    ],
)
def test_an_option_is_recognised(said: str, option: str) -> None:
    with serving(says(said)) as server:
        choice = ask(server).choose(PROMPT, OPTIONS)
    assert choice.option == option
    assert choice.scores == {each: float(each == option) for each in OPTIONS}


def test_options_that_differ_only_in_signs_are_told_apart_by_the_exact_answer() -> None:
    for option in ("c", "C", "C++", "-", "?"):
        with serving(says(f" {option}\n")) as server:
            assert ask(server).choose(PROMPT, ["c", "C", "C++", "-", "?"]).option == option


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("perhaps", "named none of the options with 'perhaps'"),
        ("nobody, yesterday", "named none of the options"),
        ("yes or no", "named 2 of the options with 'yes or no'"),
        ("?!", "named none of the options"),
        ("word " * 100, "named none of the options with 'word word"),
    ],
)
def test_an_answer_that_names_no_option_or_several_is_an_error(said: str, message: str) -> None:
    with serving(says(said)) as server, pytest.raises(LLMError, match=message) as caught:
        ask(server).choose(PROMPT, OPTIONS)
    assert len(one_line(caught.value)) < 300


def test_a_choice_is_asked_for_in_the_last_turn() -> None:
    with serving(says("no")) as server:
        ask(server).choose(PROMPT, OPTIONS)
    *before, last = server.requests[0]["messages"]
    assert before == PROMPT.shared_messages
    assert last["role"] == "user"
    assert last["content"].startswith(PROMPT.query)
    assert all(f"- {option}" in last["content"] for option in OPTIONS)


# A server that does not


@pytest.mark.parametrize(
    ("behaviour", "kind", "message"),
    [
        (fails(400), ServerError, "status 400, 'it broke'.*knows the model"),
        (fails(401), ServerError, "status 401.*give the server's api_key"),
        (fails(403), ServerError, "status 403.*api_key that may use this model"),
        (fails(404), ServerError, "status 404.*check the model's name, and base_url"),
        (fails(418), ServerError, "status 418.*check base_url"),
        (fails(429), ServerError, "status 429.*wait, or ask for a higher limit"),
        (fails(500), ServerError, "status 500.*see the server's log"),
        (fails(503, "two\nlines " * 100), ServerError, "status 503, 'two lines"),
        (sends(["no object"], 500), ServerError, "status 500"),
        (lambda _: (502, "text/html", b"<h1>Bad gateway</h1>"), ServerError, "status 502"),
        (fails(400, code="context_length_exceeded"), PromptTooLongError, "too long for small at 127"),
        (fails(400, "maximum context length is 8"), PromptTooLongError, "maximum context length is 8"),
        (sends_raw(b"{"), LLMError, "did not answer with JSON"),
        (sends_raw(b"\xff\xfe\x00"), LLMError, "did not answer with JSON"),
        (sends_raw(b"<html>hello", "text/html"), LLMError, "did not answer with JSON: check base_url"),
        (sends_raw(b""), LLMError, "did not answer with JSON"),
        (sends_raw(b"null"), LLMError, "answered without a text"),
        (sends([]), LLMError, "answered without a text"),
        (sends({}), LLMError, "answered without a text"),
        (sends({"choices": []}), LLMError, "answered without a text"),
        (sends({"choices": [{"message": None}]}), LLMError, "answered without a text"),
        (says(None), LLMError, "answered without a text: see whether 'small' is a chat model"),
        (says(["yes"]), LLMError, "answered without a text"),
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
    with pytest.raises(ServerError, match=f"cannot reach http://127.0.0.1:{port}/v1 .*start the server") as caught:
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
    with pytest.raises(MissingPackageError, match=r"openai is not installed: pip install 'erase-core\[openai\]'"):
        OpenAILLM("small", base_url="http://localhost:8000/v1")


def test_the_name_holds_model_and_server_but_no_password() -> None:
    llm = OpenAILLM("small", base_url="https://me:secret@example.org/v1/")
    assert llm.name == "small at example.org/v1"
    llm.forget()
