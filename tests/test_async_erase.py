"""`AsyncErase`: the calls of a store in an event loop. What comes before what is told by events, never by time."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar, assert_type

import pytest
from erase_core import Answer, AsyncErase, Erase, errors
from erase_core.errors import LLMError, ParameterError, StopWarning, StoreError
from erase_core.examples.example import Example
from erase_core.llm import Choice
from erase_core.llm.prompt import Prompt
from small_stores import QUERIES, CountingLLM, create, refused, some

T = TypeVar("T")
OPTIONS = ["yes", "no"]
ENOUGH = 30.0  # seconds after which a thread that waits for another is a failure
request: ContextVar[str] = ContextVar("request", default="none")


class Noting(CountingLLM):
    """Answers with the query, and notes thread and context of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[str] = set()
        self.contexts: list[str] = []

    def choose(self, prompt: Prompt, options: Sequence[str]) -> Choice:
        self._record(prompt)
        self.threads.add(threading.current_thread().name)
        self.contexts.append(request.get())
        return Choice(prompt.query, {}, 0.0)


class Held(CountingLLM):
    """Waits, in the call for the query "held" and in `forget` if told so, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.let_go = threading.Event(), threading.Event()
        self.holds_forget = False
        self.events: list[str] = []

    def choose(self, prompt: Prompt, options: Sequence[str]) -> Choice:
        if prompt.query == "held":
            self._hold("choose")
        return super().choose(prompt, options)

    def forget(self) -> None:
        if self.holds_forget:
            self._hold("forget")
        super().forget()

    def _hold(self, what: str) -> None:
        self.events.append(f"{what} begins")
        self.begun.set()
        assert self.let_go.wait(ENOUGH), "the event loop is blocked"
        self.events.append(f"{what} ends")


def run(calls: Coroutine[Any, Any, T]) -> T:
    async def within() -> T:
        return await asyncio.wait_for(calls, ENOUGH)

    return asyncio.run(within())


async def until(event: threading.Event) -> None:
    """Let the event loop go round until another thread has set an event."""
    while not event.is_set():
        await asyncio.sleep(0.001)


@contextmanager
def opened(path: Path, llm: CountingLLM, examples: Sequence[Example] | None = None) -> Iterator[AsyncErase]:
    with create(path, some(8) if examples is None else examples, llm=llm, options=OPTIONS) as erase:
        yield AsyncErase(erase)


# ---- results ----
def test_results_are_those_of_the_store(path: Path) -> None:
    async def calls(twin: AsyncErase) -> None:
        erase = twin.erase
        assert await twin.demonstrations() == erase.demonstrations()
        assert await twin.prompt(QUERIES[0]) == erase.prompt(QUERIES[0])
        assert assert_type(await twin.ask(QUERIES[0], max_tokens=5), Answer) == erase.ask(QUERIES[0], max_tokens=5)
        assert await twin.choose(QUERIES[0], ["a", "b"]) == erase.choose(QUERIES[0], ["a", "b"])
        assert await twin.demonstrations_many(QUERIES) == erase.demonstrations_many(QUERIES)
        assert await twin.prompt_many(QUERIES) == erase.prompt_many(QUERIES)
        assert await twin.ask_many(QUERIES) == erase.ask_many(QUERIES)
        assert await twin.choose_many(QUERIES, parallel=2) == erase.choose_many(QUERIES, parallel=2)
        assert await twin.status() == erase.status()
        assert await twin.examples() == erase.examples()
        assert (await twin.verify(["nothing of this"])).ok
        assert await twin.id_type() is int
        assert twin.settings == erase.settings
        assert (await twin.ingest(some(2, 50))).n_added == 2
        assert (await twin.forget([50, 51])).ids == [50, 51]
        assert await twin.receipts() == erase.receipts()
        assert await twin.newest_receipt() == erase.newest_receipt
        assert (await twin.newest_receipt()).number == 1

    with opened(path, CountingLLM()) as twin:
        run(calls(twin))


def test_every_method_has_a_twin_with_its_parameters() -> None:
    for name, method in vars(Erase).items():
        if name.startswith("_") or name in ("create", "open"):
            continue
        twin = getattr(AsyncErase, name)
        if callable(method):
            assert inspect.signature(twin).parameters == inspect.signature(method).parameters, name
            assert f"`Erase.{name}`" in twin.__doc__ or f"See `Erase.{name}`" in twin.__doc__
            assert twin.__qualname__ == f"AsyncErase.{name}"


def test_errors_arrive_and_the_next_call_is_answered(path: Path) -> None:
    async def calls(twin: AsyncErase) -> None:
        for wrong, error, words in (
            (twin.ask(" "), ParameterError, "white space"),
            (twin.choose_many(["late", 5]), ParameterError, r"queries\[1\]"),  # type: ignore[list-item]
            (twin.forget(99), errors.UnknownIdError, "99"),
        ):
            with pytest.raises(error, match=words) as caught:
                await wrong
            assert type(caught.value) is error
        llm.error = LLMError("the device is gone")
        with pytest.raises(LLMError, match="the device is gone"):
            await twin.choose("late")
        llm.error = None
        assert (await twin.choose("late")).option == "yes"

    llm = CountingLLM()
    with opened(path, llm) as twin:
        run(calls(twin))


# ---- the event loop ----
def test_the_event_loop_runs_while_a_call_does(path: Path) -> None:
    async def calls(twin: AsyncErase) -> None:
        held = asyncio.create_task(twin.choose("held"))
        await until(llm.begun)
        llm.events.append("the loop runs")
        llm.let_go.set()
        await held

    llm = Held()
    with opened(path, llm) as twin:
        run(calls(twin))
    assert llm.events == ["choose begins", "the loop runs", "choose ends"]


def test_many_calls_at_once_are_all_answered_in_one_thread(path: Path) -> None:
    queries = [f"parcel {i}" for i in range(60)]

    async def calls(twin: AsyncErase) -> list[Choice]:
        return await asyncio.gather(*(twin.choose(query) for query in queries))

    llm = Noting()
    with opened(path, llm) as twin:
        assert [choice.option for choice in run(calls(twin))] == queries
        # Another event loop, later.
        assert [choice.option for choice in run(calls(twin))] == queries
    # None of those of the loop's own executor, which others need.
    assert [name.rpartition("_")[0] for name in llm.threads] == ["erase-async"]
    assert [prompt.query for prompt in llm.prompts] == queries * 2


def test_a_call_has_the_context_of_its_caller(path: Path) -> None:
    async def call(twin: AsyncErase, name: str) -> None:
        request.set(name)
        await twin.choose("late")
        await twin.choose_many(QUERIES, parallel=2)

    async def calls(twin: AsyncErase) -> None:
        await asyncio.gather(call(twin, "first"), call(twin, "second"))

    llm = Noting()
    with opened(path, llm) as twin:
        run(calls(twin))
    assert sorted(llm.contexts) == ["first"] * 3 + ["second"] * 3


# ---- cancelling ----
def test_a_cancelled_call_goes_on_and_one_that_waits_is_not_made(path: Path) -> None:
    async def calls(twin: AsyncErase) -> None:
        held, waits = asyncio.create_task(twin.choose("held")), asyncio.create_task(twin.choose("late"))
        await until(llm.begun)
        for task in (held, waits):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        llm.let_go.set()
        await twin.choose("broken")

    llm = Held()
    with opened(path, llm) as twin:
        run(calls(twin))
    assert llm.events == ["choose begins", "choose ends"]
    assert [prompt.query for prompt in llm.prompts] == ["held", "broken"]


def test_a_cancelled_removal_is_done(path: Path) -> None:
    async def calls(twin: AsyncErase) -> None:
        await twin.choose("late")
        llm.holds_forget = True
        removal = asyncio.create_task(twin.forget(1))
        await until(llm.begun)
        removal.cancel()
        with pytest.raises(asyncio.CancelledError):
            await removal
        llm.holds_forget = False
        llm.let_go.set()
        assert [example.id for example in await twin.examples()] == [0, 2, 3, 4, 5, 6, 7]
        assert (await twin.forget(1, on_missing="skip")).ids == []
        assert [receipt.number for receipt in await twin.receipts()] == [1]
        assert (await twin.verify()).ok

    llm = Held()
    with opened(path, llm) as twin:
        run(calls(twin))
    assert llm.events == ["forget begins", "forget ends"]


# ---- warnings ----
@pytest.mark.parametrize("together", [False, True])
def test_a_warning_names_the_line_of_the_call(path: Path, together: bool) -> None:
    async def calls(twin: AsyncErase) -> int:
        line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
        call = twin.ask("late")
        await (asyncio.gather(call) if together else call)
        return line

    examples = [Example(i, f"parcel {i}", "one\ntwo") for i in range(4)]
    with opened(path, CountingLLM(), examples) as twin:
        with pytest.warns(StopWarning) as caught:
            line = run(calls(twin))
        assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, line)]


def test_a_warning_that_is_an_error_arrives(path: Path) -> None:
    llm = CountingLLM()
    with opened(path, llm, [Example(0, "parcel", "one\ntwo")]) as twin, pytest.raises(StopWarning):
        run(twin.ask("late"))
    assert llm.prompts == []


# ---- closing ----
def test_the_store_is_closed_after_the_calls_before(path: Path) -> None:
    async def calls() -> AsyncErase:
        async with AsyncErase(create(path, some(8), llm=llm, options=OPTIONS)) as twin:
            held = asyncio.create_task(twin.choose("held"))
            await until(llm.begun)
            closing = asyncio.create_task(twin.close())
            await asyncio.sleep(0)
            llm.let_go.set()
            assert (await held).option == "yes"
            await closing
        for call in (twin.examples(), twin.choose("late"), twin.forget(1)):
            with pytest.raises(StoreError, match="closed"):
                await call
        return twin

    llm, others = Held(), set(threading.enumerate())
    twin = run(calls())
    refused(twin.erase.status, StoreError, "closed")
    # A call after closing has begun a thread, which ends with its object.
    del twin
    for thread in set(threading.enumerate()) - others:
        if thread.name.startswith("erase-async"):
            thread.join(ENOUGH)
            assert not thread.is_alive()


def test_a_store_is_closed_where_the_body_fails(path: Path) -> None:
    async def calls(erase: Erase) -> None:
        async with AsyncErase(erase):
            raise KeyError("of the user's")

    erase = create(path, some(3))
    with pytest.raises(KeyError, match="of the user's"):
        run(calls(erase))
    refused(erase.status, StoreError, "closed")


@pytest.mark.parametrize("given", ["store", None, CountingLLM()])
def test_what_is_no_store_is_refused(given: Any) -> None:
    refused(lambda: AsyncErase(given), ParameterError, "open store", type(given).__name__, "Erase.open(path)")
