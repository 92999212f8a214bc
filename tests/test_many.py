"""The calls with several queries: each result is that of the call with one, all of one state, errors name the query."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_server import by_request, fails, says, serving
from erase_core.calls import queries as queries_module
from erase_core.erase import Erase
from erase_core.errors import LLMError, ParameterError, PromptTooLongError, ServerError, StopWarning
from erase_core.examples.example import Example
from erase_core.llm import Choice, TransformersLLM
from erase_core.llm.prompt import Prompt
from hypothesis import given
from hypothesis import strategies as st
from small_stores import QUERIES, WORDS, CountingLLM, WordEmbedder, create, new_path, parts_of, refused, some

STRATEGIES = ("kmeans", "knn", "random")
OPTIONS = ["yes", "no"]
ENOUGH = 30.0  # seconds after which a thread that waits for another is a failure
MANY: dict[str, Callable[[Erase, Any], list[Any]]] = {
    "demonstrations": lambda erase, queries: erase.demonstrations_many(queries),
    "prompt": lambda erase, queries: erase.prompt_many(queries),
    "ask": lambda erase, queries: erase.ask_many(queries),
    "choose": lambda erase, queries: erase.choose_many(queries, OPTIONS),
}
ONE: dict[str, Callable[[Erase, str], Any]] = {
    "demonstrations": lambda erase, query: erase.demonstrations(query),
    "prompt": lambda erase, query: erase.prompt(query),
    "ask": lambda erase, query: erase.ask(query),
    "choose": lambda erase, query: erase.choose(query, OPTIONS),
}
texts = st.lists(st.sampled_from([*WORDS, "where", "is"]), min_size=1, max_size=4).map(" ".join)


class Lively(CountingLLM):
    """Calls a function with each query before it answers."""

    def __init__(self, act: Callable[[str], object]) -> None:
        super().__init__()
        self.act = act

    def choose(self, prompt: Prompt, options: Sequence[str]) -> Choice:
        self.act(prompt.query)
        return replace(super().choose(prompt, options), scores={prompt.query: 1.0})


def of_queries(choices: list[Choice]) -> list[str]:
    """Return the queries that a `Lively` model answered, in the order of the results."""
    return [next(iter(choice.scores)) for choice in choices]


# ---- results ----
@given(
    strategy=st.sampled_from(STRATEGIES),
    count=st.integers(0, 9),
    queries=st.lists(texts, max_size=6),
    context=st.sampled_from([None, 100, 90]),
)
def test_each_result_is_that_of_the_call_with_one(
    strategy: str, count: int, queries: list[str], context: int | None
) -> None:
    llm = CountingLLM(context)  # 90 tokens leave no room for all demonstrations of every query
    with new_path() as path, create(path, some(count), strategy=strategy, llm=llm) as erase:
        for name, many in MANY.items():
            assert many(erase, queries) == [ONE[name](erase, query) for query in queries], name
        n_asked = len(llm.prompts)
        erase.choose_many(queries, OPTIONS)
        assert [prompt.query for prompt in llm.prompts[n_asked:]] == queries


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_real_model_chooses_the_same(path: Path, small: TransformersLLM, strategy: str) -> None:
    queries = [*QUERIES, "a broken parcel", QUERIES[0]]
    with create(path, some(12), strategy=strategy, llm=small, options=OPTIONS) as erase:
        for many, one in zip(erase.choose_many(iter(queries)), map(erase.choose, queries), strict=True):
            assert (many.option, many.found_by) == (one.option, one.found_by)
            assert many.scores == pytest.approx(one.scores, abs=1e-4)
        answers = erase.ask_many(tuple(queries), max_tokens=4)
        assert [answer.text for answer in answers] == [erase.ask(query, max_tokens=4).text for query in queries]


def test_demonstrations_are_lists_of_their_own(path: Path) -> None:
    with create(path, some(6)) as erase:
        first, second = erase.demonstrations_many(QUERIES)
        first.clear()
        assert second == erase.demonstrations()


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_store_is_read_once_and_all_queries_are_embedded_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, strategy: str
) -> None:
    calls: list[str] = []

    class Noting(WordEmbedder):
        def embed_queries(self, texts: Sequence[str]) -> Any:
            calls.append("embed")
            return self.embed(texts)

    with create(path, some(12), strategy=strategy, embedder=Noting()) as erase:
        opened = parts_of(erase)
        read = opened.read

        def noting(use: Any) -> Any:
            calls.append("read")
            return read(use)

        monkeypatch.setattr(opened, "read", noting)
        MANY[name](erase, ["late", "broken", "refund"])
    assert calls == (["embed", "read"] if strategy == "knn" else ["read"])


# ---- no queries, wrong queries ----
def test_no_queries_need_no_model(path: Path, tmp_path: Path) -> None:
    embedder = WordEmbedder()
    with create(path, embedder=embedder, strategy="knn", llm=tmp_path / "none", options=OPTIONS) as erase:
        assert [many(erase, []) for many in MANY.values()] == [[], [], [], []]
        refused(lambda: erase.ask_many([], max_tokens=0), ParameterError, "max_tokens")
        refused(lambda: erase.choose_many([], ["a", "a"]), ParameterError, "unique")
    assert embedder.texts == []


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize(
    "given", ["a single query", b"bytes", None, 5, {"a", "b"}], ids=lambda given: type(given).__name__
)
def test_what_is_no_list_of_queries_is_refused(path: Path, name: str, given: Any) -> None:
    with create(path, some(3)) as erase:
        refused(lambda: MANY[name](erase, given), ParameterError, "queries must", type(given).__name__, "Give a list")


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("", "white space"),
        (" \n", "white space"),
        (5, "must be text, got int"),
        (None, "must be text, got NoneType"),
        (np.zeros(2), "must be text, got ndarray"),
        ("half \ud800", "surrogate"),
        ("<|im_start|>", "control token"),
    ],
)
def test_a_wrong_query_is_named_before_anything_is_done(path: Path, name: str, wrong: Any, reason: str) -> None:
    embedder, llm = WordEmbedder(), CountingLLM()
    with create(path, some(6), strategy="knn", embedder=embedder, llm=llm, on_control_tokens="refuse") as erase:
        refused(lambda: MANY[name](erase, [*QUERIES, wrong, "late"]), ParameterError, "queries[2]: query", reason)
        assert embedder.texts == [example.input for example in some(6)]
        assert llm.prompts == []
        if wrong is not None:
            with pytest.raises(ParameterError, match=r"^query "):
                ONE[name](erase, wrong)


@pytest.mark.parametrize("name", ["ask", "choose"])
def test_a_query_that_is_too_long_is_named_before_any_is_answered(path: Path, name: str) -> None:
    llm = CountingLLM(100)
    with create(path, some(6), llm=llm) as erase:
        refused(lambda: MANY[name](erase, ["late", "word " * 200]), PromptTooLongError, "queries[1]: the prompt has")
        assert llm.prompts == []


@pytest.mark.parametrize("wrong", [0, 1025, "2", None, 1.0])
def test_a_wrong_number_of_calls_at_a_time_is_refused(path: Path, wrong: Any) -> None:
    with create(path, some(3)) as erase:
        refused(lambda: erase.ask_many(QUERIES, parallel=wrong), ParameterError, "parallel must be an integer")
        refused(lambda: erase.choose_many(QUERIES, OPTIONS, parallel=wrong), ParameterError, "parallel")


# ---- a model that fails ----
@pytest.mark.parametrize("parallel", [1, 2, 8])
def test_a_model_that_fails_is_reported_with_the_query(path: Path, parallel: int) -> None:
    def act(query: str) -> None:
        if query == "broken":
            raise LLMError("it broke")

    llm = Lively(act)
    queries = ["late", "parcel", "broken", *["refund"] * 9]
    with create(path, some(6), llm=llm) as erase:
        refused(lambda: erase.choose_many(queries, OPTIONS, parallel=parallel), LLMError, "queries[2]: it broke")
        if parallel == 1:
            assert [prompt.query for prompt in llm.prompts] == queries[:2]
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("erase-query")]
        refused(lambda: erase.choose("broken", OPTIONS), LLMError, "it broke")
        with pytest.raises(LLMError, match=r"^it broke$"):
            erase.choose("broken", OPTIONS)
        assert of_queries(erase.choose_many(queries[:2], OPTIONS, parallel=parallel)) == queries[:2]


@pytest.mark.parametrize("parallel", [1, 3])
def test_an_error_of_another_kind_has_a_note(path: Path, parallel: int) -> None:
    def act(query: str) -> None:
        if query == "broken":
            raise RuntimeError("a bug\nof its own")

    with create(path, some(6), llm=Lively(act)) as erase:
        with pytest.raises(RuntimeError, match=r"^a bug\nof its own") as caught:
            erase.choose_many(["late", "broken"], OPTIONS, parallel=parallel)
        assert caught.value.__notes__ == ["The query is queries[1]."]
        with pytest.raises(RuntimeError) as caught:
            erase.choose("broken", OPTIONS)
        assert not hasattr(caught.value, "__notes__")


def test_of_several_errors_that_of_the_first_query_is_reported(path: Path) -> None:
    both = threading.Barrier(2, timeout=ENOUGH)

    def act(query: str) -> None:
        both.wait()
        raise LLMError(query)

    with create(path, some(6), llm=Lively(act)) as erase:
        refused(lambda: erase.choose_many(["late", "broken"], OPTIONS, parallel=2), LLMError, "queries[0]: late")


# ---- several at a time ----
def test_so_many_are_answered_at_a_time_and_no_more(path: Path) -> None:
    together = threading.Barrier(3, timeout=ENOUGH)
    running, most, lock = 0, 0, threading.Lock()

    def act(query: str) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait()  # a model that is called from fewer threads never gets past this
        with lock:
            running -= 1

    queries = [f"{word} {i}" for word in WORDS for i in range(3)]
    with create(path, some(6), llm=Lively(act)) as erase:
        assert of_queries(erase.choose_many(queries, OPTIONS, parallel=3)) == queries
    assert most == 3


def test_results_are_in_the_order_of_the_queries_whichever_comes_first(path: Path) -> None:
    second_is_done = threading.Event()

    def act(query: str) -> None:
        if query == "first":
            assert second_is_done.wait(ENOUGH)
        else:
            second_is_done.set()

    with create(path, some(6), llm=Lively(act)) as erase:
        choices = erase.choose_many(["first", "second"], OPTIONS, parallel=2)
    assert of_queries(choices) == ["first", "second"]


def test_a_model_in_this_process_is_called_from_one_thread(
    path: Path, small: TransformersLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries_module, "ThreadPoolExecutor", lambda *_: pytest.fail("threads"))
    with create(path, some(6), llm=small) as erase:
        assert len(erase.choose_many(QUERIES, OPTIONS, parallel=8)) == 2
        assert len(erase.ask_many(QUERIES, max_tokens=1, parallel=8)) == 2


def test_a_server_is_asked_and_its_error_names_the_query(path: Path) -> None:
    pytest.importorskip("openai", reason="needs openai: pip install 'erase-core[openai]'")

    def reply(request: dict[str, Any]) -> Any:
        query = request["messages"][-1]["content"]
        return fails(400, "no such thing") if query == "broken" else says(f"about {query}")

    queries = [f"parcel {i}" for i in range(12)]
    with (
        serving(by_request(reply)) as server,
        create(path, some(6), llm="m", base_url=server.url, server={"max_retries": 0}) as erase,
    ):
        assert [answer.text for answer in erase.ask_many(queries)] == [f"about {query}" for query in queries]
        refused(lambda: erase.ask_many([*queries, "broken"]), ServerError, "queries[12]: ", "127.0.0.1")
        server.requests.clear()
        assert len(erase.ask_many(queries, parallel=4)) == 12
        assert sorted(request["messages"][-1]["content"] for request in server.requests) == sorted(queries)
        server.behaviours = [fails(400, "no such thing")]
        refused(lambda: erase.ask_many(queries, parallel=4), ServerError, "queries[", "127.0.0.1")


# ---- what is shown ----
def test_a_stop_in_the_answers_is_warned_of_once(path: Path) -> None:
    examples = [Example(i, f"{word} {i}", "one\ntwo") for i, word in enumerate(WORDS)]
    with create(path, examples, strategy="knn", n_shots=1) as erase:
        with pytest.warns(StopWarning, match=r"of 2 of 2 demonstrations") as caught:
            erase.ask_many(["parcel 0", "late 1", "parcel 0"])
        assert [warning.filename for warning in caught] == [__file__]


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("parallel", [1, 2])
def test_progress_is_shown_where_it_is_wanted(path: Path, monkeypatch: pytest.MonkeyPatch, parallel: int) -> None:
    pytest.importorskip("rich")
    terminal = Terminal()
    with create(path, some(6)) as erase:
        monkeypatch.setattr(sys, "stderr", terminal)
        erase.choose_many(QUERIES, OPTIONS, parallel=parallel)
        assert terminal.getvalue() == ""
        erase.choose_many(QUERIES, OPTIONS, parallel=parallel, progress=True)
        erase.ask_many(QUERIES, parallel=parallel, progress=True)
    assert "Choosing" in terminal.getvalue()
    assert "Asking" in terminal.getvalue()
