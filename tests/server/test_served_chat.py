"""Chats through the server: what the model is sent, and what comes back, with the real client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from erase_core.examples.example import Example
from erase_core.llm import ServerOptions
from erase_core.llm.prompt import Prompt
from erase_core.server.messages import with_demonstrations
from openai import OpenAI
from served import ANSWER, CHUNKS, PATIENCE, Served, serving, serving_alone
from small_stores import CountingLLM, some

QUERY = "where is my parcel"
SYSTEM = {"role": "system", "content": "Be brief."}
EXTRA = {"temperature": 0.25, "tools": [], "not_of_openai": {"a": [1, None, "\u00e9"]}, "seed": 10**20}


def shown(served: Served, query: str = QUERY) -> list[Example]:
    """The demonstrations of a query, by the store itself."""
    return served.erase.demonstrations(query)


def turns(examples: list[Example]) -> list[dict[str, Any]]:
    return [
        {"role": role, "content": text}
        for each in examples
        for role, text in (("user", each.input), ("assistant", each.output))
    ]


def test_demonstrations_come_after_the_system_and_all_else_is_passed_on(path: Path) -> None:
    before = [SYSTEM, {"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello", "name": "x"}]
    messages = [*before, {"role": "user", "content": QUERY}]
    with serving(path, some(20)) as served:
        answer = served.call("POST", "/v1/chat/completions", json={"model": "m", "messages": messages, **EXTRA})
        (sent,) = served.model.bodies
        demonstrations = shown(served)
        status = served.erase.status()
    assert len(demonstrations) == 3
    assert sent["messages"] == [SYSTEM, *turns(demonstrations), *messages[1:]]
    assert {name: value for name, value in sent.items() if name != "messages"} == {"model": "m", **EXTRA}
    assert (answer.status_code, answer.content) == (200, ANSWER)
    assert json.loads(answer.headers["Erase-Demonstrations"]) == [each.id for each in demonstrations]
    assert answer.headers["Erase-Demonstration-Count"] == "3"
    assert answer.headers["Erase-Digest"] == status.digest


def test_the_clients_answer_and_stream(path: Path) -> None:
    with serving(path, some(20)) as served, served.openai as client:
        asked: Any = {"model": "fake", "messages": [{"role": "user", "content": QUERY}]}
        answer = client.chat.completions.create(**asked)
        assert answer.choices[0].message.content == "fine \u00e9"
        stream = client.chat.completions.create(**asked, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "fine it is"
        raw = served.chat(stream=True)
        assert raw.content == b"".join(CHUNKS)
        assert json.loads(raw.headers["Erase-Demonstrations"]) == [each.id for each in shown(served)]
        assert [model.id for model in client.models.list()] == ["fake"]
        assert served.call("GET", "/v1/models").json() == served.model.models


def test_the_instruction_of_the_store_is_for_chats_without_one(path: Path) -> None:
    settings = {"template": {"instruction": "Sort it."}}
    with serving(path, some(8), settings=settings) as served:
        served.chat()
        body = {"model": "m", "messages": [{**SYSTEM, "role": "developer"}, {"role": "user", "content": QUERY}]}
        served.call("POST", "/v1/chat/completions", json=body)
        first, second = (sent["messages"] for sent in served.model.bodies)
    assert first[0] == {"role": "system", "content": "Sort it."}
    assert second[0] == {**SYSTEM, "role": "developer"}
    assert first[1:] == second[1:]


def test_the_query_is_the_text_of_the_users_last_message(path: Path) -> None:
    parts = [{"type": "text", "text": "refund the late "}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    asked = [
        {"role": "user", "content": "another"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": [*parts, {"type": "text", "text": "parcel please"}]},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "a result", "tool_call_id": "1"},
    ]
    with serving(path, some(20)) as served:
        served.call("POST", "/v1/chat/completions", json={"model": "m", "messages": asked})
        (sent,) = served.model.bodies
        assert sent["messages"] == [*turns(shown(served, "refund the late parcel please")), *asked]


def test_demonstrations_that_do_not_fit_are_left_out_from_the_far_end(path: Path) -> None:
    with serving(path, some(20), options=ServerOptions(context_length=100)) as served:
        answer = served.chat(max_tokens=30)
        kept = json.loads(answer.headers["Erase-Demonstrations"])
        (sent,) = served.model.bodies
        nearest_last = [each.id for each in shown(served)]
        too_long = served.chat(text="word " * 100)
    assert 0 < len(kept) < 3
    assert kept == nearest_last[-len(kept) :]
    assert len(sent["messages"]) == 2 * len(kept) + 1
    assert (too_long.status_code, too_long.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize("keep", ["first", "last"])
def test_room_for_all_and_for_none(keep: Any) -> None:
    from erase_core.llm.prompt import Template

    examples = tuple(some(4))
    asked = [{"role": "user", "content": QUERY}]
    for room in range(17, 200):
        messages, ids = with_demonstrations(asked, Prompt(Template(), examples, QUERY), room, keep)
        every = [each.id for each in examples]
        assert ids == (every[: len(ids)] if keep == "first" else every[len(every) - len(ids) :])
        assert messages == [*turns([each for each in examples if each.id in ids]), *asked]
    assert len(ids) == 4
    assert with_demonstrations(asked, Prompt(Template(), examples, QUERY), 17, keep)[1] == []


def test_the_context_length_is_from_the_servers_list(path: Path) -> None:
    with serving(path, some(20)) as served:
        served.model.models = {"data": [{"id": "fake", "max_model_len": 60}]}
        answer = served.chat(max_tokens=1)
        assert int(answer.headers["Erase-Demonstration-Count"]) < 3


@pytest.mark.parametrize("named", [{}, {"model": None}], ids=["no model", "null"])
def test_a_chat_that_names_no_model_gets_the_stores(path: Path, named: dict[str, None]) -> None:
    asked = {"messages": [{"role": "user", "content": QUERY}], **named}
    with serving(path, some(8), settings={"llm": "of-the-store", "base_url": "http://127.0.0.1:9/v1"}) as served:
        assert served.call("POST", "/v1/chat/completions", json=asked).status_code == 200
        ((_, sent),) = served.model.requests
    assert sent["model"] == "of-the-store"


def test_the_key_goes_to_the_model_server_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-upstream")
    with serving(path, some(8)) as served:
        answer = served.call(
            "POST",
            "/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": QUERY}]},
            headers={"Authorization": "Bearer erase_client"},
        )
        (headers,) = served.model.headers
    assert headers["authorization"] == "Bearer sk-upstream"
    assert "sk-upstream" not in f"{answer.headers}{answer.text}"
    assert "erase_client" not in str(headers)


def test_ids_can_be_hidden_and_any_id_is_a_valid_header(path: Path) -> None:
    ids = ["\u00e9\n\x7f", "a, b", "\N{SNOWMAN}"]
    with serving(path, [Example(id_, "a parcel", "yes") for id_ in ids]) as served:
        answer = served.chat()
        assert sorted(json.loads(answer.headers["Erase-Demonstrations"])) == sorted(ids)
    shared: dict[str, Any] = {"strategy": "random"}
    with serving(path.with_name("other"), some(8), settings=shared, shows_ids=False) as served:
        headers = served.chat().headers
        assert ("Erase-Demonstrations" in headers, headers["Erase-Demonstration-Count"]) == (False, "3")
        status = served.erase.status().to_dict()
        assert status.pop("prompts") != []
        assert served.call("GET", "/v1/status").json() == json.loads(json.dumps(status))


def test_an_empty_store_adds_nothing(path: Path) -> None:
    with serving(path) as served:
        answer = served.chat()
        assert served.model.bodies[0]["messages"] == [{"role": "user", "content": QUERY}]
        assert (json.loads(answer.headers["Erase-Demonstrations"]), answer.headers["Erase-Digest"]) == ([], "")


def test_a_model_in_this_process(path: Path) -> None:
    llm = CountingLLM()
    with serving_alone(path, some(20), llm=llm) as (url, erase):
        with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=PATIENCE) as client:
            asked: Any = {"model": "any", "messages": [{"role": "user", "content": QUERY}]}
            raw = client.chat.completions.with_raw_response.create(**asked)
            answer = raw.parse()
            stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
            chunks = list(stream)
            stopped = client.chat.completions.create(**asked, stop=["wer"])
            longer = [*asked["messages"], {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
            client.chat.completions.create(model="any", messages=longer)
            assert [model.id for model in client.models.list()] == ["counting"]
        shown_ids = [each.id for each in erase.demonstrations(QUERY)]
        assert json.loads(raw.headers["Erase-Demonstrations"]) == shown_ids
        expected = erase.ask(QUERY, max_tokens=256)
    assert answer.choices[0].message.content == expected.text
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == expected.n_prompt_tokens
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == expected.text
    assert chunks[-1].usage == answer.usage
    assert stopped.choices[0].message.content == expected.text.partition("wer")[0]
    assert llm.prompts[3].query == f"User: {QUERY}\n\nAssistant: a\n\nUser: b"


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "function"}]},
        {"n": 2},
        {"max_tokens": "many"},
        {"max_tokens": 0},
        {"stop": 3},
        {"messages": [SYSTEM, {"role": "user", "content": QUERY}]},
        {"messages": [{"role": "user", "content": QUERY}, {"role": "assistant", "content": "x"}]},
    ],
    ids=str,
)
def test_what_the_model_in_this_process_cannot_do_is_refused(path: Path, more: dict[str, Any]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": QUERY}], **more}
    with serving_alone(path, some(4)) as (url, _):
        refused = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE)
    assert refused.status_code == 400
    assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
