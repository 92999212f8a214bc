"""`OpenAILLM.choose`: the ways in which servers let one choose, and answers that are no option."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from chat_server import Behaviour, by_request, constrained, fails, objects_only, says, serving
from erase_core.errors import LLMError, ServerError
from server_llm import OPTIONS, PROMPT, ask, one_line

pytest.importorskip("openai", reason="needs openai: pip install 'erase-core[openai]'")


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


@pytest.mark.parametrize("said", ["perhaps", "nobody, yesterday", "yes or no", "?!", "I have no idea.", "word " * 100])
def test_an_answer_that_is_no_option_is_an_error_with_the_servers_words(said: str) -> None:
    words = re.escape(f"named none of the options with its answer '{said[:20]}")
    with serving(says(said)) as server, pytest.raises(LLMError, match=words) as caught:
        ask(server).choose(PROMPT, OPTIONS)
    assert len(one_line(caught.value)) < 300


# Stand-ins for servers that can do more or less


def guided(request: dict[str, Any]) -> Behaviour:
    if "response_format" in request:
        return fails(422, "response_format: Extra inputs are not permitted")
    return says(request["guided_choice"][-1]) if "guided_choice" in request else says("Well, it depends.")


def with_logprobs(request: dict[str, Any]) -> Behaviour:
    if {"response_format", "guided_choice"} & request.keys():
        return fails(400, "Unrecognized request argument supplied", code="unknown_parameter")
    if not request.get("logprobs"):
        return says("Well, it depends.")
    line = next(line for line in request["messages"][-1]["content"].split("\n") if line.endswith(") not known"))
    top = [{"token": line[0], "logprob": -0.25}, {"token": "Well", "logprob": -2.0}, {"token": "A", "logprob": -4.0}]
    return says(line[0], reason="length", logprobs={"content": [{**top[0], "top_logprobs": top}]})


def plain(request: dict[str, Any]) -> Behaviour:
    if request.keys() - {"model", "messages", "temperature", "max_tokens"}:
        return fails(400, "unknown field")
    return says("Not known.")


def ignores_everything(request: dict[str, Any]) -> Behaviour:
    listed = "- not known" in request["messages"][-1]["content"]
    return says("not known" if listed else "Well, it depends.")


@pytest.mark.parametrize(
    ("server_kind", "found_by"),
    [
        (constrained, "constraint"),
        (objects_only, "constraint"),
        (guided, "constraint"),
        (with_logprobs, "logprobs"),
        (plain, "text"),
        (ignores_everything, "text"),
    ],
)
def test_a_choice_is_found_the_surest_way_that_a_server_has(
    server_kind: Callable[[dict[str, Any]], Behaviour], found_by: str
) -> None:
    with serving(by_request(server_kind)) as server:
        llm = ask(server)
        first, asked = llm.choose(PROMPT, OPTIONS), len(server.requests)
        again = llm.choose(PROMPT, OPTIONS)
    assert (first.option, first.found_by) == (again.option, again.found_by) == ("not known", found_by)
    assert list(first.scores) == OPTIONS
    assert max(first.scores, key=first.scores.__getitem__) == "not known"
    assert len(server.requests) == asked + 1  # what the server cannot do is not tried again


def test_scores_are_certain_but_where_the_server_gives_log_probabilities() -> None:
    with serving(by_request(constrained)) as server:
        assert ask(server).choose(PROMPT, OPTIONS).scores == {"yes": 0.0, "no": 0.0, "not known": 1.0}
    with serving(by_request(with_logprobs)) as server:
        assert ask(server).choose(PROMPT, OPTIONS).scores == {"yes": -4.0, "no": -4.0, "not known": -0.25}


def test_a_constrained_choice_is_asked_for_with_the_prompt_as_it_is() -> None:
    with serving(by_request(constrained)) as server:
        ask(server).choose(PROMPT, OPTIONS)
    (request,) = server.requests
    assert request["messages"] == PROMPT.messages


def test_a_free_choice_is_asked_for_in_the_last_turn() -> None:
    with serving(by_request(plain)) as server:
        ask(server).choose(PROMPT, OPTIONS)
    *before, last = server.requests[-1]["messages"]
    assert before == PROMPT.shared_messages
    assert last["role"] == "user"
    assert last["content"].startswith(PROMPT.query)
    assert all(f"- {option}" in last["content"] for option in OPTIONS)


def test_a_server_that_is_out_of_order_is_not_taken_for_one_that_can_do_nothing() -> None:
    with serving(fails(400), by_request(constrained)) as server:
        server.behaviours[:0] = [fails(400)] * 4
        llm = ask(server)
        with pytest.raises(ServerError, match="status 400"):
            llm.choose(PROMPT, OPTIONS)
        assert llm.choose(PROMPT, OPTIONS).found_by == "constraint"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "No endpoints found that support response_format"),
        (403, "You are not allowed to request logprobs from this model"),
        (500, "failed to parse grammar"),
        (501, "not implemented"),
    ],
)
def test_a_server_that_lacks_a_way_says_so_with_any_status(status: int, words: str) -> None:
    def lacking(request: dict[str, Any]) -> Behaviour:
        free = not request.keys() - {"model", "messages", "temperature", "max_tokens"}
        return says("no") if free else fails(status, words)

    with serving(by_request(lacking)) as server:
        choice = ask(server).choose(PROMPT, OPTIONS)
    assert (choice.option, choice.found_by) == ("no", "text")


@pytest.mark.parametrize("status", [401, 403, 404, 429, 502, 503])
def test_a_server_that_refuses_everything_is_asked_once(status: int) -> None:
    with serving(fails(status)) as server, pytest.raises(ServerError, match=f"status {status}"):
        ask(server).choose(PROMPT, OPTIONS)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "options", [["1", "1000"], ["a", 'a "b"', "a\\", "c\nd"], ["\N{SNOWMAN}", "x" * 300], ["only"]]
)
def test_any_option_survives_its_way_through_json(options: list[str]) -> None:
    with serving(by_request(constrained)) as server:
        assert ask(server).choose(PROMPT, options).option == options[-1]
    assert server.requests[0]["max_tokens"] > len(json.dumps(options[-1]))


def test_a_choice_fits_wherever_its_longest_option_does() -> None:
    options = ["yes", "no", "x" * 50]
    with serving(by_request(constrained)) as server:
        llm = ask(server, context_length=ask(server).count_tokens(PROMPT) + 51)
        assert llm.choose(PROMPT, options).option == "x" * 50
    (request,) = server.requests
    assert request["max_tokens"] == 51
