"""LangChain: the selector in prompt templates and chains, what it refuses, and what is kept of a removed text."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canary_stores import COUNT, GONE, canary_store, query
from erase_core import Erase, IngestReport
from erase_core.errors import (
    DuplicateIdError,
    ExampleError,
    ForgottenError,
    ParameterError,
    SourceError,
    UnknownSubjectError,
)
from erase_core.integrations.langchain import EraseExampleSelector
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import ParrotFakeChatModel
from langchain_core.prompts import (
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    FewShotPromptTemplate,
    PromptTemplate,
)
from langchain_core.runnables import Runnable
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from reachable import canary, holders
from small_stores import refused

ASKED = query(0)
FIELDS = {"input": "question", "output": "answer"}


@pytest.fixture
def erase(path: Path) -> Iterator[Erase]:
    with canary_store(path) as erase:
        yield erase


def texts(selector: EraseExampleSelector) -> FewShotPromptTemplate:
    example = PromptTemplate.from_template("{input} -> {output}")
    return FewShotPromptTemplate(
        example_selector=selector, example_prompt=example, suffix="{question} ->", input_variables=["question"]
    )


def chat(selector: EraseExampleSelector) -> Runnable[Any, Any]:
    shown = FewShotChatMessagePromptTemplate(
        example_selector=selector,
        example_prompt=ChatPromptTemplate.from_messages([("human", "{input}"), ("ai", "{output}")]),
        input_variables=["question"],
    )
    return ChatPromptTemplate.from_messages([("system", "Answer."), shown, ("human", "{question}")])


def chain(selector: EraseExampleSelector) -> Runnable[Any, Any]:
    return chat(selector) | ParrotFakeChatModel()


# ---- what is shown ----
def test_a_prompt_has_the_stores_demonstrations_in_their_order(erase: Erase) -> None:
    shown = erase.demonstrations(ASKED)
    assert len(shown) == 2
    expected = [f"{each.input} -> {each.output}" for each in shown]
    assert texts(EraseExampleSelector(erase)).format(question=ASKED) == "\n\n".join([*expected, f"{ASKED} ->"])


def test_a_chat_has_them_as_messages(erase: Erase) -> None:
    messages = chat(EraseExampleSelector(erase)).invoke({"question": ASKED}).to_messages()
    turns = [turn for each in erase.demonstrations(ASKED) for turn in (("human", each.input), ("ai", each.output))]
    assert [(each.type, each.content) for each in messages] == [("system", "Answer."), *turns, ("human", ASKED)]


def test_a_chain_and_its_coroutine_answer_alike(erase: Erase) -> None:
    answer = chain(EraseExampleSelector(erase))
    assert answer.invoke({"question": ASKED}).content == ASKED
    assert asyncio.run(answer.ainvoke({"question": ASKED})).content == ASKED
    assert [each.content for each in answer.batch([{"question": query(i)} for i in range(3)])] == list(
        map(query, range(3))
    )


def test_coroutines_select_what_calls_select(erase: Erase) -> None:
    selector = EraseExampleSelector(erase)

    async def every() -> list[list[dict[str, Any]]]:
        return await asyncio.gather(*(selector.aselect_examples({"question": query(i)}) for i in range(COUNT)))

    assert asyncio.run(every()) == [selector.select_examples({"question": query(i)}) for i in range(COUNT)]


def test_keys_are_those_of_fields_and_the_subject_is_not_shown(erase: Erase) -> None:
    erase.ingest([{"id": 50, "input": "why is it so late", "output": "snow", "rationale": "It snows.", "subject": "x"}])
    shown = EraseExampleSelector(erase, fields=FIELDS).select_examples({"question": "why is it so late"})
    assert shown[-1] == {"id": 50, "question": "why is it so late", "answer": "snow", "rationale": "It snows."}
    assert shown[0]["rationale"] == ""


def test_braces_in_an_example_are_kept_in_a_chat_and_read_as_variables_in_a_text(erase: Erase) -> None:
    """So the page advises the chat template."""
    erase.ingest([{"id": 60, "input": "what do {braces} mean", "output": "{nothing}"}])
    asked = "what do {braces} mean"
    messages = chat(EraseExampleSelector(erase)).invoke({"question": asked}).to_messages()
    assert "{nothing}" in [each.content for each in messages]
    with pytest.raises(KeyError, match="braces"):
        texts(EraseExampleSelector(erase)).format(question=asked)


# ---- which variable is the question ----
def test_the_question_is_named_or_the_only_variable(erase: Erase) -> None:
    named, only = EraseExampleSelector(erase, query="question"), EraseExampleSelector(erase)
    assert named.select_examples({"tone": "kind", "question": ASKED}) == only.select_examples({"anything": ASKED})
    refused(lambda: only.select_examples({"tone": "kind", "question": ASKED}), ParameterError, "'question', 'tone'")
    refused(lambda: named.select_examples({"tone": "kind"}), ParameterError, "'question'", "'tone'")
    refused(lambda: only.select_examples({}), ParameterError, "input_variables")
    refused(lambda: only.select_examples({"question": [ASKED]}), ParameterError, "must be text")


def test_no_question_is_needed_if_all_get_the_same_prompt(path: Path) -> None:
    with canary_store(path, strategy="kmeans") as erase:
        selector = EraseExampleSelector(erase)
        assert selector.select_examples({}) == selector.select_examples({"a": "kind", "b": ASKED}) != []


# ---- adding and removing ----
def test_an_example_is_added_and_removed(erase: Erase) -> None:
    selector = EraseExampleSelector(erase, fields=FIELDS)
    added = selector.add_example({"question": "is it blue", "answer": "no", "subject": "dan", "id": 70})
    assert isinstance(added, IngestReport)
    assert asyncio.run(selector.aadd_example({"question": "is it red", "answer": "no", "subject": "dan", "id": 71}))
    assert {each.id for each in erase.examples() if each.subject == "dan"} == {70, 71}
    assert selector.remove(70).ids == [70]
    assert asyncio.run(selector.aremove(subject="dan")).ids == [71]
    refused(lambda: selector.remove(subject="dan"), UnknownSubjectError, "dan")
    assert selector.remove(subject="dan", on_missing="skip").ids == []
    again = {"question": "is it red", "answer": "no", "id": 71}
    refused(lambda: selector.add_example(again), ForgottenError)


@pytest.mark.parametrize(
    ("example", "error", "word"),
    [
        ({"input": "a", "output": "b", "lable": "c"}, ExampleError, "'lable'"),
        ({"question": "a", "answer": "b"}, ExampleError, "fields="),
        ({"input": "a"}, SourceError, "'output'"),
        ({"input": "a", "output": 0.5}, ExampleError, "'output'"),
        ({"input": "a", "output": "b", "id": 1}, DuplicateIdError, "1"),
        (["a", "b"], ExampleError, "dict"),
    ],
    ids=["unknown", "renamed", "missing", "float", "id", "list"],
)
def test_a_wrong_example_is_refused_and_nothing_is_added(
    erase: Erase, example: Any, error: type[Exception], word: str
) -> None:
    selector = EraseExampleSelector(erase)
    refused(lambda: selector.add_example(example), error, word)
    refused(lambda: asyncio.run(selector.aadd_example(example)), error, word)
    assert len(erase.examples()) == COUNT


def test_unknown_keys_are_left_out_if_asked(erase: Erase) -> None:
    selector = EraseExampleSelector(erase, ignore_unknown=True)
    selector.add_example({"input": "is it blue", "output": "no", "lable": "c"})
    assert erase.examples()[-1].input == "is it blue"


def test_what_a_selector_is_made_of_is_checked(erase: Erase) -> None:
    refused(lambda: EraseExampleSelector("store"), ParameterError, "Erase.open")  # type: ignore[arg-type]
    refused(lambda: EraseExampleSelector(erase, fields={"question": "input"}), ParameterError, "'question'")
    refused(lambda: EraseExampleSelector(erase, fields={"input": "output"}), ParameterError, "key of its own")


def test_a_deep_copy_has_a_handle_of_its_own(erase: Erase) -> None:
    other = copy.deepcopy(texts(EraseExampleSelector(erase)))
    erase.forget(subject=GONE)
    assert other.format(question=ASKED) == texts(EraseExampleSelector(erase)).format(question=ASKED)


# ---- what is left of a removed text ----
def test_after_a_removal_nothing_holds_the_text(erase: Erase) -> None:
    """Neither the selector, nor templates, nor a chain that has run in each way."""
    selector, needle = EraseExampleSelector(erase), canary(0)
    template, answer = texts(selector), chain(selector)
    held = [template.format(question=ASKED), answer.invoke({"question": ASKED})]
    asyncio.run(answer.ainvoke({"question": ASKED}))
    held += [*answer.batch([{"question": ASKED}] * 3), *answer.stream({"question": ASKED})]
    assert holders(needle) != []
    held.clear()
    selector.remove(subject=GONE)
    assert holders(needle) == []
    assert needle not in template.format(question=ASKED)


def test_the_cache_of_a_language_model_keeps_prompts_until_it_is_cleared(erase: Erase) -> None:
    selector, cache, needle = EraseExampleSelector(erase), InMemoryCache(), canary(0)
    set_llm_cache(cache)
    try:
        chain(selector).invoke({"question": ASKED})
        selector.remove(subject=GONE)
        assert holders(needle) != []
        cache.clear()
        assert holders(needle) == []
    finally:
        set_llm_cache(None)


def test_a_tracer_keeps_runs_until_they_are_dropped(erase: Erase) -> None:
    selector, collector, needle = EraseExampleSelector(erase), RunCollectorCallbackHandler(), canary(0)
    chain(selector).invoke({"question": ASKED}, {"callbacks": [collector]})
    selector.remove(subject=GONE)
    assert holders(needle) != []
    collector.traced_runs.clear()
    assert holders(needle) == []
