"""DSPy programs with a store's demonstrations: shown at each call, and after `forget` nothing that DSPy has holds them.

The language model is `dspy.LM` with its default engine, in front of a server on this machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from canary_stores import UnrecordedEmbedder
from erase_core import Erase, Example, ParameterError
from reachable import canary, holders, renew_canaries
from small_stores import create, found, refused

# Read when DSPy is imported: its cache is in the home folder otherwise.
os.environ["DSPY_CACHEDIR"] = tempfile.mkdtemp()

import dspy  # type: ignore[import-untyped]
from chat_server import Server, by_request, says, serving
from dspy.teleprompt import BootstrapFewShot, LabeledFewShot  # type: ignore[import-untyped]
from erase_core.integrations.dspy import Demonstrated

QUESTION = "is my parcel late"
ASKED: dict[str, Any] = {"question": QUESTION, "place": "home"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
PROGRAMS: dict[str, Callable[[], Any]] = {
    "predict": lambda: dspy.Predict("question, place -> answer"),
    "chain of thought": lambda: dspy.ChainOfThought("question, place -> answer"),
}
ADAPTERS: dict[str, Callable[[], Any]] = {
    "chat": dspy.ChatAdapter,
    "json": dspy.JSONAdapter,
    "xml": dspy.XMLAdapter,
}
Call = Callable[..., Any]
WAYS: dict[str, Call] = {
    "sync": lambda program, **inputs: program(**inputs),
    "async": lambda program, **inputs: asyncio.run(program.acall(**inputs)),
}
ways = pytest.mark.parametrize("call", WAYS.values(), ids=WAYS)
programs = pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)


@pytest.fixture(autouse=True)
def _memory_cache() -> None:
    """DSPy's cache, empty and in memory only; another on the disk takes a second."""
    dspy.configure_cache(enable_disk_cache=False)


@pytest.fixture
def cache(_memory_cache: None, tmp_path: Path) -> Iterator[Path]:
    """DSPy's cache as it is by default, in memory and on the disk, but in a folder of the test."""
    dspy.configure_cache(disk_cache_dir=tmp_path / "cache")
    yield tmp_path / "cache"
    dspy.cache.disk_cache.close()


@pytest.fixture
def erase(path: Path) -> Iterator[Erase]:
    """A store with a canary in the first of its three examples, which nothing in the test refers to."""
    with stored(path) as erase:
        yield erase


def stored(path: Path) -> Erase:
    renew_canaries()
    examples = [
        Example(1, f"my parcel {canary()} is late", f"late {canary()}", f"because {canary()}"),
        Example(2, "please refund the kettle", "refund", "money"),
        Example(3, "the parcel is broken", "broken"),
    ]
    return create(path, examples, strategy="knn", n_shots=2, embedder=UnrecordedEmbedder())


@pytest.fixture
def server() -> Iterator[Server]:
    """A model that quotes in its reasoning and in its answer all that it was sent of the demonstrations."""

    def reply(request: dict[str, Any]) -> Any:
        said = canary() if canary() in str(request["messages"]) else "nothing"
        form = str(request["messages"][0])
        if "[[ ## completed ## ]]" in form:
            text = f"[[ ## reasoning ## ]]\n{said}\n\n[[ ## answer ## ]]\n{said}\n\n[[ ## completed ## ]]"
        elif "<answer>" in form:
            text = f"<reasoning>{said}</reasoning><answer>{said}</answer>"
        else:
            text = json.dumps({"reasoning": said, "answer": said})
        return says(text, usage=USAGE)

    with serving(by_request(reply)) as server:
        yield server


def model(server: Server, **options: Any) -> Any:
    return dspy.LM("openai/model", api_base=server.url, api_key="key", **options)


def turns(server: Server) -> list[tuple[str, str]]:
    """The demonstrations in the last request: what the user said, and what the assistant answered."""
    said = [message["content"] for message in server.requests[-1]["messages"][1:-1]]
    return list(zip(said[::2], said[1::2], strict=True))


def quotes(texts: list[tuple[str, str]], examples: list[Example]) -> bool:
    """Whether turns show these examples, in order."""
    return len(texts) == len(examples) and all(
        example.input in asked and example.output in answered
        for (asked, answered), example in zip(texts, examples, strict=True)
    )


# ---- shown ----
@ways
@programs
def test_each_call_shows_the_demonstrations_of_its_query(
    erase: Erase, server: Server, program: Call, call: Call
) -> None:
    demonstrated = Demonstrated(program(), erase, query="question")
    with dspy.context(lm=model(server)):
        for question in (QUESTION, "refund the kettle"):
            call(demonstrated, question=question, place="home")
            assert quotes(turns(server), erase.demonstrations(question))
            assert question in server.requests[-1]["messages"][-1]["content"]
        erase.forget(1)
        call(demonstrated, **ASKED)
    assert quotes(turns(server), erase.demonstrations(QUESTION))
    assert canary() not in str(server.requests[-1])


def test_a_rationale_is_shown_as_reasoning(erase: Erase, server: Server) -> None:
    with dspy.context(lm=model(server)):
        Demonstrated(dspy.ChainOfThought("question -> answer"), erase)(question="refund the kettle")
        assert any("money" in answered for _, answered in turns(server))
        Demonstrated(dspy.Predict("question -> answer"), erase)(question="refund the kettle")
        assert not any("money" in answered for _, answered in turns(server))


def test_the_programs_own_demonstrations_come_first(erase: Erase, server: Server) -> None:
    demonstrated = Demonstrated(dspy.Predict("question -> answer"), erase)
    demonstrated.program.demos = [dspy.Example(question="who", answer="me")]
    with dspy.context(lm=model(server)):
        demonstrated(question=QUESTION)
        shown = turns(server)
        assert "who" in shown[0][0]
        assert quotes(shown[1:], erase.demonstrations(QUESTION))
        demonstrated(question=QUESTION, demos=[])
    assert quotes(turns(server), erase.demonstrations(QUESTION))
    assert demonstrated.program.demos == [dspy.Example(question="who", answer="me")]


@pytest.mark.parametrize(
    ("kind", "output", "shown"),
    [(bool, "True", "true"), (int, "3", "3"), (Literal["no", "yes"], "yes", '"yes"'), (int, "three", '"three"')],
)
def test_outputs_are_shown_as_values_of_their_field(path: Path, kind: Any, output: str, shown: str) -> None:
    signature = dspy.Signature("question -> answer").with_updated_fields("answer", type_=kind)
    with create(path, [Example(1, "a parcel", output)], n_shots=1) as erase, serving(says('{"answer": "3"}')) as server:
        demonstrated = Demonstrated(dspy.Predict(signature), erase)
        with dspy.context(lm=model(server), adapter=dspy.JSONAdapter()), suppress_parse_errors():
            demonstrated(question=QUESTION)
        assert f'"answer": {shown}' in turns(server)[0][1]


def suppress_parse_errors() -> Any:
    """The server's answer is not of every type."""
    from contextlib import suppress

    from dspy.utils.exceptions import AdapterParseError  # type: ignore[import-untyped]

    return suppress(AdapterParseError)


def test_threads_get_the_demonstrations_of_their_own_query(erase: Erase, server: Server) -> None:
    demonstrated = Demonstrated(dspy.Predict("question -> answer"), erase)
    questions = [QUESTION, "refund the kettle", "the parcel is broken"] * 4
    with dspy.context(lm=model(server)):
        demonstrated.batch(
            [dspy.Example(question=each).with_inputs("question") for each in questions],
            num_threads=4,
            disable_progress_bar=True,
        )
    assert len(server.requests) == len(questions)
    for request in server.requests:
        said = [message["content"] for message in request["messages"][1:]]
        question = next(each for each in questions if f"\n{each}\n" in said[-1])
        assert quotes(list(zip(said[:-1:2], said[1:-1:2], strict=True)), erase.demonstrations(question))


# ---- nothing stays ----
def test_after_forget_nothing_holds_the_text(erase: Erase, server: Server, cache: Path) -> None:
    lm, kept = model(server), []
    for adapter in ADAPTERS.values():
        for program in PROGRAMS.values():
            kept.append((adapter(), Demonstrated(program(), erase, query="question")))
            for call in WAYS.values():
                with dspy.context(lm=lm, adapter=kept[-1][0]):
                    assert call(kept[-1][1], **ASKED).answer == canary()
    assert all(canary() in str(request) for request in server.requests)
    server.requests.clear()
    erase.forget(1)
    assert holders(canary()) == []
    assert found(cache, {"text": canary().encode()}) == {}


def test_the_search_finds_what_dspy_keeps_of_demonstrations_in_a_program(erase: Erase, server: Server) -> None:
    program, lm = dspy.Predict("question -> answer"), model(server)
    program.demos = [dspy.Example(question=each.input, answer=each.output) for each in erase.demonstrations(QUESTION)]
    with dspy.context(lm=lm):
        program(question=QUESTION)
    erase.forget(1)
    server.requests.clear()
    program.demos = []
    assert holders(canary())
    for kept in (lm.history, program.history, dspy.clients.base_lm.GLOBAL_HISTORY, dspy.settings.trace):
        assert canary() in str(kept)
        kept.clear()
    # The answer quotes.
    assert canary() in str(dspy.cache.memory_cache)
    dspy.cache.reset_memory_cache()
    assert holders(canary()) == []


def test_a_trace_has_answers_but_no_demonstrations(erase: Erase, server: Server) -> None:
    demonstrated, before = Demonstrated(dspy.Predict("question -> answer"), erase), len(dspy.settings.trace)
    with dspy.context(lm=model(server)):
        demonstrated(question=QUESTION)
        assert len(dspy.settings.trace) == before
        with dspy.context(trace=[]):
            demonstrated(question=QUESTION)
            assert [inputs for _, inputs, _ in dspy.settings.trace] == [{"question": QUESTION}]


def test_a_cached_answer_goes_as_the_page_says(erase: Erase, server: Server, cache: Path) -> None:
    demonstrated = Demonstrated(dspy.Predict("question -> answer"), erase, cache=True)
    with dspy.context(lm=model(server)):
        for _ in range(2):
            demonstrated(question=QUESTION)
    assert len(server.requests) == 1
    server.requests.clear()
    erase.forget(1)
    assert found(cache, {"text": canary().encode()})
    dspy.cache.reset_memory_cache()
    dspy.cache.disk_cache.clear()
    dspy.cache.disk_cache.close()
    assert holders(canary()) == []
    left = found(cache, {"text": canary().encode()})
    assert left == {}, left


def test_answers_are_not_cached_unless_asked(erase: Erase, server: Server) -> None:
    demonstrated = Demonstrated(dspy.Predict("question -> answer"), erase)
    with dspy.context(lm=model(server)):
        for _ in range(2):
            demonstrated(question=QUESTION)
        assert len(server.requests) == 2
        for _ in range(2):
            demonstrated(question=QUESTION, config={"cache": True})
    assert len(server.requests) == 3


# ---- programs are saved, copied, optimised ----
@programs
def test_saved_programs_hold_no_text(erase: Erase, server: Server, tmp_path: Path, program: Call) -> None:
    demonstrated = Demonstrated(program(), erase, query="question")
    with dspy.context(lm=model(server)):
        demonstrated(**ASKED)
    folder = tmp_path / "saved"
    folder.mkdir()
    demonstrated.save(folder / "state.json")
    demonstrated.save(folder / "state.pkl")
    demonstrated.save(folder / "whole", save_program=True)
    assert found(folder, {"text": canary().encode()}) == {}
    demonstrated.load(folder / "state.json")


def test_a_loaded_program_opens_the_store(path: Path, server: Server, tmp_path: Path) -> None:
    with create(path, [Example(1, "a parcel", "one"), Example(2, "a kettle", "two")], strategy="knn") as erase:
        Demonstrated(dspy.Predict("question -> answer"), erase).save(tmp_path / "whole", save_program=True)
        loaded = dspy.load(tmp_path / "whole", allow_pickle=True)
        erase.forget(1)
        with dspy.context(lm=model(server)), loaded.erase:
            loaded(question=QUESTION)
    assert [example.id for example in erase_of(server)] == [2]


def erase_of(server: Server) -> list[Example]:
    """The examples that the last request shows, by their outputs."""
    numbers = {"one": 1, "two": 2}
    return [Example(number, "a", word) for word, number in numbers.items() for _, said in turns(server) if word in said]


def test_copies_share_the_handle(erase: Erase) -> None:
    demonstrated = Demonstrated(dspy.ChainOfThought("question -> answer"), erase)
    for copied in (demonstrated.deepcopy(), demonstrated.reset_copy()):
        assert copied.erase is erase
        assert copied.program is not demonstrated.program
        assert copied.program.predict.demos is not demonstrated.program.predict.demos
        assert (copied.query, copied.answer, copied.cache) == ("question", "answer", False)


@pytest.mark.parametrize("optimiser", ["labelled", "bootstrapped"])
def test_optimisers_find_only_their_own_demonstrations(erase: Erase, server: Server, optimiser: str) -> None:
    student = Demonstrated(dspy.Predict("question -> answer"), erase)
    training = [dspy.Example(question="who", answer="me").with_inputs("question")]
    with dspy.context(lm=model(server)):
        if optimiser == "labelled":
            compiled = LabeledFewShot(k=1).compile(student, trainset=training)
        else:
            compiled = BootstrapFewShot(max_bootstrapped_demos=1).compile(student, trainset=training)
    assert {demo.question for _, predictor in compiled.named_predictors() for demo in predictor.demos} == {"who"}
    assert student.program.demos == []
    assert compiled.erase is erase


# ---- what is refused ----
@pytest.mark.parametrize(
    ("program", "fields", "words"),
    [
        (lambda: dspy.ReAct("question -> answer", tools=[]), {}, ["program", "ReAct", "program.answer ="]),
        (lambda: "question -> answer", {}, ["program", "str"]),
        (PROGRAMS["predict"], {}, ["query", "question, place", "None"]),
        (PROGRAMS["predict"], {"query": "answer"}, ["query", "question, place", "'answer'"]),
        (lambda: dspy.Predict("question -> answer, score"), {}, ["answer", "answer, score", "None"]),
        (lambda: dspy.ChainOfThought("question -> answer"), {"answer": "reasoning"}, ["answer", "'reasoning'"]),
    ],
    ids=["another module", "no module", "two inputs", "no input", "two outputs", "the reasoning"],
)
def test_wrong_programs_and_fields_are_refused(
    erase: Erase, program: Callable[[], Any], fields: dict[str, Any], words: list[str]
) -> None:
    refused(lambda: Demonstrated(program(), erase, **fields), ParameterError, *words)


def test_a_store_that_is_none_is_refused() -> None:
    refused(lambda: Demonstrated(dspy.Predict("question -> answer"), "store"), ParameterError, "erase", "Erase.open")  # type: ignore[arg-type]


@pytest.mark.parametrize("inputs", [{}, {"question": " "}, {"question": 3}], ids=["missing", "blank", "a number"])
def test_a_query_that_is_no_text_is_refused(erase: Erase, server: Server, inputs: dict[str, Any]) -> None:
    demonstrated = Demonstrated(dspy.Predict("question -> answer"), erase)
    with dspy.context(lm=model(server)):
        refused(lambda: demonstrated(**inputs), ParameterError, "query")
    assert server.requests == []
