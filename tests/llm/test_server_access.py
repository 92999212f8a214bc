"""Keys, passwords and addresses of model servers: what is sent, and what is never shown."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from chat_server import fails, says, serving
from erase_core.errors import LLMError, ParameterError, ServerError
from erase_core.llm import OpenAILLM
from erase_core.llm.prompt import Prompt, Template
from server_llm import OPTIONS, PROMPT, SECRET, ask, one_line

pytest.importorskip("openai", reason="needs openai: pip install 'erase-core[openai]'")


def sent_keys(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], **options: Any) -> set[str]:
    """The Authorization headers of a request and of the look at the list of models."""
    for name in ("OPENAI_API_KEY", "SOME_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with serving(says("yes")) as server:
        ask(server, **options).generate(PROMPT)
    return {headers["authorization"] for headers in server.headers}


def test_the_key_is_the_one_given_or_else_the_one_named_or_else_openais(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"OPENAI_API_KEY": "key-0", "SOME_KEY": "key-1\n"}
    assert sent_keys(monkeypatch, both) == {"Bearer key-0"}
    assert sent_keys(monkeypatch, both, api_key_env="SOME_KEY") == {"Bearer key-1"}
    assert sent_keys(monkeypatch, both, api_key_env="SOME_KEY", api_key="key-2") == {"Bearer key-2"}
    assert sent_keys(monkeypatch, both, api_key="") == {"Bearer none"}
    assert sent_keys(monkeypatch, {}) == {"Bearer none"}
    with pytest.raises(ParameterError, match="api_key_env names the variable SOME_KEY, which is not set"):
        sent_keys(monkeypatch, {"OPENAI_API_KEY": "key-0"}, api_key_env="SOME_KEY")


@pytest.mark.parametrize("key", [f"{SECRET}\nx", f"{SECRET} x", f"{SECRET}\u00e9", f"{SECRET}\ud800", f"{SECRET}\0"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    with pytest.raises(ParameterError, match="api_key must be printable ASCII") as caught:
        OpenAILLM("small", base_url="http://localhost/v1", api_key=key)
    assert SECRET not in str(caught.value)
    if "\0" not in key and "\ud800" not in key:
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(ParameterError, match="OPENAI_API_KEY: api_key must be printable") as caught:
            OpenAILLM("small", base_url="http://localhost/v1")
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", [f"sk-{SECRET}", SECRET, "lower_case", "", "A B", 5])
def test_a_key_in_the_place_of_its_variables_name_is_not_shown(name: Any) -> None:
    with pytest.raises(ParameterError, match="api_key_env must be the name of an environment variable") as caught:
        OpenAILLM("small", base_url="http://localhost/v1", api_key_env=name)
    assert SECRET not in str(caught.value)


# Addresses


def test_credentials_of_an_address_are_a_header_and_nowhere_else(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-0")
    echo = f"who is me:{SECRET}, bWU6emVicmEtNDcxMQ==?"
    with caplog.at_level(logging.DEBUG), serving(says("yes"), fails(400, echo), says(echo)) as server:
        url = server.url.replace("://", f"://me:{SECRET}@")
        llm = OpenAILLM("small", base_url=url, max_retries=0)
        assert llm.name == f"small at {server.url.partition('://')[2]}"
        llm.generate(Prompt(Template(), (), "x"))
        for _ in range(2):
            with pytest.raises((ServerError, LLMError)) as caught:
                llm.choose(Prompt(Template(), (), "x"), OPTIONS)
            assert "bWU6" not in one_line(caught.value)
    assert {headers["authorization"] for headers in server.headers} == {"Basic bWU6emVicmEtNDcxMQ=="}
    assert SECRET not in repr(llm) + llm.name + repr(vars(llm)) + caplog.text


def test_a_key_that_a_server_repeats_is_not_shown() -> None:
    behaviour, shown = fails(401, f"Incorrect API key provided: {SECRET}."), r"key provided: \*\*\*"
    with serving(behaviour) as server, pytest.raises(ServerError, match=shown) as caught:
        ask(server, api_key=SECRET).generate(PROMPT)
    one_line(caught.value)


def test_the_query_of_an_address_is_sent_with_every_request() -> None:
    with serving(says("yes")) as server:
        llm = OpenAILLM("small", base_url=server.url + "/?api-version=2024-10-21&tier=a%20b&flag=")
        assert llm.name == f"small at {server.url.partition('://')[2]}"
        llm.generate(PROMPT)
    assert [path.partition("?")[0] for path in server.paths] == ["/v1/models", "/v1/chat/completions"]
    for path in server.paths:
        assert parse_qs(urlsplit(path).query, keep_blank_values=True) == {
            "api-version": ["2024-10-21"],
            "tier": ["a b"],
            "flag": [""],
        }


@pytest.mark.parametrize(
    ("base_url", "message"),
    [
        (f"http://h/v1?api_key={SECRET}", "no secret, but its query has 'api_key'"),
        (f"http://h/v1?subscription-key={SECRET}", "no secret"),
        (f"http://h/v1?accessToken={SECRET}", "no secret"),
        (f"http://h/v1?sig={SECRET}", "no secret"),
        (f"http://h/v1#{SECRET}", "no fragment"),
        (f"http://me:pass/{SECRET}@h/v1", "base_url must"),
        (f"http://me:8000/{SECRET}@h/v1", "no @ after the host"),
        (f"me:{SECRET}@h/v1", "must begin with"),
        (f"ftp://me:{SECRET}@h/v1", "must begin with"),
        (f"http://me:{SECRET}@", "must begin with"),
        (f"http://me:{SECRET}@[::1", "must begin with"),
        (f"http://me:{SECRET}@h:port/v1", "must begin with"),
        ("http://h:99999/v1", "must begin with"),
        ("http://h/v1?a=1&a=2", "each name only once"),
        (" http://h/v1", "no white space"),
        ("http://h/v1\n", "no white space"),
        ("http://h\ud800/v1", "no white space and no control characters"),
        (f"http://me:{SECRET}@exa mple/v1", "no white space"),
        (f"http://me:{SECRET}@a..b/v1", "base_url"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_and_its_secrets_are_not_shown(base_url: str, message: str) -> None:
    with pytest.raises((ParameterError, ServerError), match=message) as caught:
        OpenAILLM("small", base_url=base_url, max_retries=0).generate(PROMPT)
    assert SECRET not in str(caught.value)


# Secrets in the place of parameters


@pytest.mark.parametrize(
    "parameters",
    [
        {"api_key": SECRET},
        {"apiKey": SECRET},
        {"extra_headers": {"X": SECRET}},
        {"extra_body": {"Authorization": SECRET}},
        {"tools": [{"auth": {"access_token": SECRET}}]},
        {"password": SECRET},
    ],
)
def test_a_secret_among_parameters_is_refused_and_not_shown(parameters: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="parameters must contain no secret") as caught:
        OpenAILLM("small", base_url="http://localhost/v1", parameters=parameters)
    assert SECRET not in str(caught.value)


def test_parameters_whose_names_only_resemble_a_secrets_are_taken() -> None:
    taken = {"prompt_cache_key": "a", "stop_token_ids": [1], "min_tokens": 1, "thinking": {"budget_tokens": 5}}
    OpenAILLM("small", base_url="http://localhost/v1", parameters=taken)


@pytest.mark.parametrize("end", ["?bearer=", "?jwt=", "?pass=", "?sas=", "?session=", "?access=", ";key=", "/token="])
def test_a_secret_in_a_query_or_path_is_refused_and_not_shown(end: str) -> None:
    with pytest.raises(ParameterError, match="base_url must contain no secret") as caught:
        OpenAILLM("small", base_url=f"http://localhost/v1{end}{SECRET}")
    assert SECRET not in str(caught.value)
