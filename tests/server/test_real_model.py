"""The server before a real one: llama.cpp with the packaged model, and the real client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from erase_core.examples.example import Example
from erase_core.llm import ServerOptions
from erase_core.server.app import build_app
from erase_core.server.upstream import Upstream
from llama_server import packaged_model_served
from openai import OpenAI
from served import running
from small_stores import create

EXAMPLES = [Example(i, f"Say the word number {i}.", "zebra") for i in range(12)]
ASKED: Any = {"model": "packaged", "temperature": 0, "max_tokens": 6, "seed": 1}
QUESTION: Any = {"role": "user", "content": "Say the word number 99."}


@pytest.fixture(scope="module")
def behind() -> Iterator[str]:
    """The address of a server with the packaged model and a context of 512 tokens."""
    with packaged_model_served(512) as url:
        yield url


@pytest.fixture
def client(behind: str, path: Path) -> Iterator[OpenAI]:
    with create(path, EXAMPLES, strategy="knn", n_shots=4) as erase:
        app = build_app(erase, upstream=Upstream(behind, ServerOptions(timeout=300)))
        with running(app) as url, OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300) as client:
            yield client


def test_a_real_model_reads_the_demonstrations_and_streams(client: OpenAI, behind: str) -> None:
    raw = client.chat.completions.with_raw_response.create(**ASKED, messages=[QUESTION])
    answer = raw.parse()
    ids = json.loads(raw.headers["Erase-Demonstrations"])
    assert len(ids) == 4
    assert "zebra" in (answer.choices[0].message.content or "").lower()
    chunks: Any = client.chat.completions.create(**ASKED, messages=[QUESTION], stream=True)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == answer.choices[0].message.content
    # It is the answer to the chat with these demonstrations.
    shown = [example for id_ in ids for example in EXAMPLES if example.id == id_]
    turns: list[Any] = [
        {"role": role, "content": text}
        for each in shown
        for role, text in (("user", each.input), ("assistant", each.output))
    ]
    with OpenAI(base_url=behind, api_key="none", timeout=300) as direct:
        same = direct.chat.completions.create(**ASKED, messages=[*turns, QUESTION])
    assert same.choices[0].message.content == answer.choices[0].message.content
    assert [model.object for model in client.models.list()] == ["model"]


def test_demonstrations_leave_room_in_the_context_of_the_real_server(client: OpenAI) -> None:
    long: Any = {"role": "user", "content": "word " * 165}
    raw = client.chat.completions.with_raw_response.create(**ASKED, messages=[long])
    assert int(raw.headers["Erase-Demonstration-Count"]) < 4
    with pytest.raises(openai.BadRequestError, match="tokens"):
        client.chat.completions.create(**ASKED, messages=[{"role": "user", "content": "word " * 1000}])
