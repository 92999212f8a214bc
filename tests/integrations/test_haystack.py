"""Haystack: the component in pipelines, saved and loaded, what it refuses, and what is kept of a removed text."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canary_stores import GONE, canary_store, query
from erase_core import Erase
from erase_core.errors import ParameterError, StoreError
from erase_core.integrations.haystack import EraseDemonstrations
from haystack import Pipeline
from haystack.components.builders import ChatPromptBuilder, PromptBuilder
from haystack.components.generators.chat import MockChatGenerator
from haystack.core.errors import PipelineRuntimeError
from haystack.core.serialization import allow_deserialization_module
from haystack.dataclasses import ChatMessage
from haystack.tracing.logging_tracer import LoggingTracer
from haystack.tracing.tracer import disable_tracing, enable_tracing, tracer
from reachable import canary, holders
from small_stores import refused

ASKED = query(0)
TEMPLATE = "{% for each in documents %}{{ each.content }} -> {{ each.meta.output }}\n{% endfor %}{{ query }} ->"


@pytest.fixture(autouse=True, scope="module")
def trusted() -> None:
    allow_deserialization_module("erase_core.integrations.haystack")


@pytest.fixture
def erase(path: Path) -> Iterator[Erase]:
    with canary_store(path, template={"instruction": "Be kind."}) as erase:
        yield erase


def chat(component: EraseDemonstrations, generator: Any = None) -> Pipeline:
    """Question, demonstrations, and a model that returns the last message."""
    pipeline = Pipeline()
    pipeline.add_component("demonstrations", component)
    pipeline.add_component("llm", generator or MockChatGenerator())
    pipeline.connect("demonstrations.messages", "llm.messages")
    return pipeline


def asked(pipeline: Pipeline) -> str:
    answer: str = pipeline.run({"demonstrations": {"query": ASKED}})["llm"]["replies"][0].text
    return answer


def turns(messages: list[ChatMessage]) -> list[tuple[str, str | None]]:
    return [(message.role.value, message.text) for message in messages]


# ---- what is shown ----
def test_messages_are_those_of_the_stores_prompt(erase: Erase) -> None:
    messages = EraseDemonstrations(erase).run(query=ASKED)["messages"]
    assert turns(messages) == [(each["role"], each["content"]) for each in erase.prompt(ASKED).messages]
    assert len(messages) == 6


def test_a_conversation_is_kept_around_the_demonstrations(erase: Erase) -> None:
    shown = [(each["role"], each["content"]) for each in erase.prompt(ASKED).shared_messages[1:]]
    talk = [ChatMessage.from_user("hello"), ChatMessage.from_assistant("yes?"), ChatMessage.from_user(ASKED)]
    run = EraseDemonstrations(erase).run
    assert turns(run(messages=talk)["messages"]) == [("system", "Be kind."), *shown, *turns(talk)]
    system = ChatMessage.from_system("Be short.")
    assert turns(run(messages=[system, *talk])["messages"]) == [("system", "Be short."), *shown, *turns(talk)]
    assert turns(run(query=ASKED, messages=talk[:2])["messages"])[1:5] == shown


def test_documents_are_the_demonstrations_without_their_subjects(erase: Erase) -> None:
    documents = EraseDemonstrations(erase).run(query=ASKED)["documents"]
    shown = erase.demonstrations(ASKED)
    assert [(each.id, each.content, each.meta) for each in documents] == [
        (str(each.id), each.input, {"output": each.output, "rationale": None}) for each in shown
    ]


def test_a_prompt_builder_takes_documents(erase: Erase) -> None:
    pipeline = Pipeline()
    pipeline.add_component("demonstrations", EraseDemonstrations(erase))
    pipeline.add_component("prompt", PromptBuilder(TEMPLATE, required_variables="*"))
    pipeline.connect("demonstrations.documents", "prompt.documents")
    made = pipeline.run({"demonstrations": {"query": ASKED}, "prompt": {"query": ASKED}})["prompt"]["prompt"]
    expected = [f"{each.input} -> {each.output}" for each in erase.demonstrations(ASKED)]
    assert made == "\n".join([*expected, f"{ASKED} ->"])


def test_a_chat_prompt_builder_gives_the_conversation(erase: Erase) -> None:
    pipeline = chat(EraseDemonstrations(erase))
    builder = ChatPromptBuilder([ChatMessage.from_user("{{ place }}?")], required_variables="*")
    pipeline.add_component("builder", builder)
    pipeline.connect("builder.prompt", "demonstrations.messages")
    given = {"builder": {"place": "where"}}
    done = pipeline.run(given, include_outputs_from={"demonstrations"})
    assert len(done["demonstrations"]["messages"]) == 6
    assert done["llm"]["replies"][0].text == "where?"


def test_an_asynchronous_run_answers_alike(erase: Erase) -> None:
    pipeline = chat(EraseDemonstrations(erase))
    answer = asyncio.run(pipeline.run_async({"demonstrations": {"query": ASKED}}))
    assert answer["llm"]["replies"][0].text == asked(pipeline) == ASKED


# ---- saved and loaded ----
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "by path"])
def test_a_pipeline_is_saved_without_texts_and_works_where_it_is_loaded(
    path: Path, tmp_path: Path, is_open: bool
) -> None:
    canary_store(path, strategy="kmeans", receipts=tmp_path / "receipts").close()
    with Erase.open(path) as erase:
        saved = chat(EraseDemonstrations(erase if is_open else path)).dumps()
        assert str(path) in saved
        assert "canary" not in saved
        expected = turns(EraseDemonstrations(erase).run(query=ASKED)["messages"])
    loaded = Pipeline.loads(saved)
    component: Any = loaded.get_component("demonstrations")
    assert asked(loaded) == ASKED
    assert turns(component.run(query=ASKED)["messages"]) == expected
    component.close()
    assert asked(loaded) == ASKED
    component.close()


def test_threads_that_run_it_together_open_the_store_once(
    path: Path, erase: Erase, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    all_want_it = threading.Barrier(5)

    def opening(folder: object) -> Erase:
        opened.append(folder)
        time.sleep(0.2)  # so long that the others, which are not stopped, come in between
        return erase

    monkeypatch.setattr(Erase, "open", opening)
    component = EraseDemonstrations(str(path))

    def warm_up() -> None:
        all_want_it.wait()
        component.warm_up()

    threads = [threading.Thread(target=warm_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    all_want_it.wait()
    for thread in threads:
        thread.join()
    assert opened == [str(path)]


def test_options_to_open_a_store_are_saved(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_KEY", "k" * 32)
    canary_store(path, strategy="kmeans", key="env:STORE_KEY").close()
    with Erase.open(path, key="env:STORE_KEY") as erase:
        by_path = EraseDemonstrations(path, key="env:STORE_KEY").to_dict()
        assert EraseDemonstrations(erase).to_dict() == by_path
    made = EraseDemonstrations.from_dict(by_path)
    assert len(made.run(query=ASKED)["documents"]) == 2
    made.close()


def test_what_is_no_text_is_not_saved(path: Path, erase: Erase) -> None:
    """Neither a model that is an object, nor a key."""
    refused(EraseDemonstrations(erase).to_dict, ParameterError, "embedder must be text")
    refused(lambda: EraseDemonstrations(path, key=b"k" * 32), ParameterError, "key must be text")  # type: ignore[arg-type]


# ---- what is refused ----
def test_what_is_given_is_checked(path: Path, erase: Erase) -> None:
    refused(lambda: EraseDemonstrations(5), ParameterError, "Erase.open")  # type: ignore[arg-type]
    refused(lambda: EraseDemonstrations(erase, receipts="there"), ParameterError, "receipts", "Erase.open")
    component = EraseDemonstrations(erase)
    refused(component.run, ParameterError, "no question")
    refused(lambda: component.run(messages=[ChatMessage.from_system("Hi.")]), ParameterError, "no question")
    refused(lambda: component.run(query=" "), ParameterError, "white space")
    component.close()
    assert erase.status().n_examples > 0
    nowhere = EraseDemonstrations(path / "nowhere")
    refused(nowhere.warm_up, StoreError, "nowhere")


# ---- what is left of a removed text ----
def test_after_a_removal_nothing_holds_the_text(erase: Erase) -> None:
    """Neither the component, nor pipelines that have run in each way."""
    pipeline, needle = chat(EraseDemonstrations(erase)), canary(0)
    held: list[object] = [asked(pipeline)]
    held.append(asyncio.run(pipeline.run_async({"demonstrations": {"query": ASKED}})))
    held.append(pipeline.run({"demonstrations": {"query": ASKED}}, include_outputs_from={"demonstrations"}))
    assert holders(needle) != []
    held.clear()
    erase.forget(subject=GONE)
    assert holders(needle) == []
    assert needle not in str(EraseDemonstrations(erase).run(query=ASKED))


def test_a_run_that_failed_keeps_its_prompt_in_the_error(erase: Erase) -> None:
    def fail(messages: list[ChatMessage]) -> str:
        raise RuntimeError("no answer")

    pipeline, needle = chat(EraseDemonstrations(erase), MockChatGenerator(response_fn=fail)), canary(0)
    with pytest.raises(PipelineRuntimeError) as caught:
        asked(pipeline)
    assert needle not in str(caught.value)
    assert needle in str(caught.value.pipeline_snapshot)
    erase.forget(subject=GONE)
    del caught
    assert holders(needle) == []


@pytest.mark.parametrize("is_shown", [False, True])
def test_a_trace_has_texts_only_if_it_is_asked_for(
    erase: Erase, is_shown: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracer, "is_content_tracing_enabled", is_shown)
    enable_tracing(LoggingTracer())
    try:
        with caplog.at_level(logging.DEBUG):
            asked(chat(EraseDemonstrations(erase)))
    finally:
        disable_tracing()
    assert (canary(0) in caplog.text) is is_shown
