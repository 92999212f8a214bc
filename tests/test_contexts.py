"""`context=`: stores whose demonstrations are windows answer as a fresh store does, and nothing is run again."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import command_line
import pytest
from erase_core.erase import Erase
from erase_core.errors import LLMError, ParameterError, ScrubError
from erase_core.examples.example import Example
from erase_core.llm import TransformersLLM
from hypothesis import given
from hypothesis import strategies as st
from small_stores import CountingLLM, WordEmbedder, create, new_path, parts_of, some

pytest.importorskip("torch", reason="needs torch: pip install 'erase-core[llm]'")
pytest.importorskip("transformers", reason="needs transformers: pip install 'erase-core[llm]'")

QUERY = "where is my parcel"
OPTIONS = ("yes", "no", "perhaps not")
SHARED = ("kmeans", "random")


def store(path: Path, llm: Any, examples: list[Example], **settings: Any) -> Erase:
    return create(path, examples, llm=llm, options=OPTIONS, **{"strategy": "knn", "context": "windows", **settings})


def runs_of(llm: TransformersLLM) -> list[int]:
    """The numbers of tokens of the model's runs from now on."""
    runs: list[int] = []
    llm._memory.model.register_forward_pre_hook(
        lambda _module, _args, inputs: runs.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    return runs


steps = st.lists(
    st.tuples(st.sampled_from(["forget", "ingest", "choose", "ask"]), st.integers(0, 11)), min_size=1, max_size=8
)


@pytest.mark.parametrize("strategy", ["knn", *SHARED])
@given(steps=steps)
def test_answers_are_those_of_a_fresh_store(
    small: TransformersLLM, strategy: Any, steps: list[tuple[str, int]]
) -> None:
    with new_path() as path, new_path() as other:
        present = {each.id: each for each in some(12)}
        erase = store(path, small, list(present.values()), strategy=strategy)
        for step, id_ in steps:
            if step == "forget" and id_ in present and len(present) > 1:
                del present[id_]
                erase.forget(id_)
            elif step == "ingest":
                new = 100 + len(present) + 20 * id_
                if new not in present:
                    present[new] = some(1, new)[0]
                    erase.ingest([present[new]])
            elif step == "choose":
                erase.choose(QUERY)
            else:
                erase.ask(QUERY, max_tokens=3)
        warm = erase.choose(QUERY).scores, erase.ask(QUERY, max_tokens=4).text
        small.forget()
        anew = store(other, small, list(present.values()), strategy=strategy)
        assert warm == (anew.choose(QUERY).scores, anew.ask(QUERY, max_tokens=4).text)
        erase.close()
        anew.close()


def kept_ids(llm: TransformersLLM) -> set[Any]:
    return {id_ for kept in llm._memory._kept.values() for id_ in kept.ids}


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_to_forget_runs_nothing_and_drops_one_window(path: Path, folders: Callable[[str], Path], where: str) -> None:
    llm = TransformersLLM(folders("llama"))
    erase = store(path, llm, some(12))
    erase.choose(QUERY)
    shown = [each.id for each in erase.demonstrations(QUERY)]
    assert kept_ids(llm) == set(shown)
    going = shown[-1]
    runs = runs_of(llm)
    if where == "here":
        erase.forget(going)
        assert kept_ids(llm) == {*shown} - {going}
    else:
        with Erase.open(path, embedder=WordEmbedder()) as other:
            other.forget(going)
        erase.refresh()
    assert kept_ids(llm) == {*shown} - {going}
    assert runs == []
    erase.choose(QUERY)
    assert len(runs) == 2, "more than the window that came in, and the query, were run"


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_prompt_without_the_example_stays_warm(path: Path, folders: Callable[[str], Path], where: str) -> None:
    llm = TransformersLLM(folders("llama"))
    erase = store(path, llm, some(40), strategy="kmeans", context="joint")
    erase.choose(QUERY)
    shown = [each.id for each in erase.demonstrations()]
    other = Erase.open(path, embedder=WordEmbedder(), llm=CountingLLM())
    writer = erase if where == "here" else other
    runs = runs_of(llm)
    for going in [each.id for each in erase.examples() if each.id not in shown][:6]:
        writer.forget(going)
        del runs[:]
        erase.choose(QUERY)
        if [each.id for each in erase.demonstrations()] == shown:
            assert len(runs) == 1, "a prompt was computed again that does not show what was forgotten"
            break
    else:
        pytest.fail("each removal changed the prompt")
    writer.forget(shown[0])
    erase.refresh()
    assert shown[0] not in kept_ids(llm)
    other.close()


def test_what_is_too_far_behind_drops_everything(path: Path, folders: Callable[[str], Path]) -> None:
    llm = TransformersLLM(folders("llama"))
    erase = store(path, llm, some(12))
    erase.choose(QUERY)
    parts_of(erase).clustering._drop()
    with Erase.open(path, embedder=WordEmbedder()) as other:
        other.forget(11)
    erase.refresh()
    assert kept_ids(llm) == set()


@pytest.mark.parametrize("strategy", ["knn", "kmeans"])
def test_a_removal_drops_what_another_process_forgot_before(
    path: Path, folders: Callable[[str], Path], strategy: str
) -> None:
    llm = TransformersLLM(folders("llama"))
    erase = store(path, llm, some(12), strategy=strategy)
    erase.choose(QUERY)
    shown = [each.id for each in erase.demonstrations(QUERY)]
    with Erase.open(path, embedder=WordEmbedder()) as other:
        other.forget(shown[0])
    erase.forget(next(each.id for each in some(12) if each.id not in shown))
    assert kept_ids(llm) == {*shown} - {shown[0]}
    assert not any(shown[0] in ids for ids, _ in parts_of(erase).priors._kept)


def test_what_an_interrupted_removal_forgot_is_dropped_by_the_next_call(
    path: Path, folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = TransformersLLM(folders("llama"))
    erase = store(path, llm, some(12))
    erase.choose(QUERY)
    shown = [each.id for each in erase.demonstrations(QUERY)]

    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(parts_of(erase).removals, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            erase.forget(shown[0])
    erase.refresh()
    assert kept_ids(llm) == {*shown} - {shown[0]}


# ---- a model that several handles use ----
def two(path: Path, llm: TransformersLLM, strategy: str = "knn", **settings: Any) -> tuple[Erase, Erase]:
    """Two stores with one language model, whose examples have different ids; the first one has answered."""
    first = store(path / "first", llm, some(12), strategy=strategy, **settings)
    second = store(path / "second", llm, some(12, 100), strategy=strategy, **settings)
    first.choose(QUERY)
    return first, second


@pytest.mark.parametrize("strategy", ["knn", "kmeans"])
def test_another_store_drops_nothing_of_the_first(path: Path, folders: Callable[[str], Path], strategy: str) -> None:
    llm = TransformersLLM(folders("llama"))
    first, second = two(path, llm, strategy)
    kept = kept_ids(llm)
    assert kept == {each.id for each in first.demonstrations(QUERY)}
    second.choose(QUERY)
    assert kept_ids(llm) == kept | {each.id for each in second.demonstrations(QUERY)}
    second.ingest(some(1, 200))
    second.forget(second.demonstrations(QUERY)[0].id)
    assert kept_ids(llm) >= kept
    second.close()
    assert kept_ids(llm) == kept
    first.close()
    assert kept_ids(llm) == set()


def test_a_copy_of_a_handle_drops_nothing_of_the_handle(path: Path, folders: Callable[[str], Path]) -> None:
    Erase.create(path, llm=folders("llama"), options=OPTIONS, embedder=WordEmbedder()).close()
    with Erase.open(path, embedder=WordEmbedder()) as erase:
        erase.ingest(some(12))
        erase.choose(QUERY)
        llm = erase.llm
        assert isinstance(llm, TransformersLLM)
        kept = kept_ids(llm)
        with copy.copy(erase) as other:
            assert other.llm is llm
            assert other.status().n_examples == 12
            assert kept_ids(llm) == kept != set()
        assert kept_ids(llm) == kept


@pytest.mark.parametrize("closes", [False, True])
def test_whoever_forgets_an_example_drops_it_whoever_has_shown_it(
    path: Path, folders: Callable[[str], Path], closes: bool
) -> None:
    llm = TransformersLLM(folders("llama"))
    erase = store(path, llm, some(12))
    erase.choose(QUERY)
    shown = [each.id for each in erase.demonstrations(QUERY)]
    with Erase.open(path, embedder=WordEmbedder(), llm=llm) as other:
        other.forget(shown[0])  # the first call of this handle
        assert kept_ids(llm) == {*shown} - {shown[0]}
        if closes:
            erase.close()
            assert kept_ids(llm) == set()
        erase_again = other if closes else erase
        erase_again.choose(QUERY)
        assert shown[0] not in kept_ids(llm)


def test_a_drop_that_failed_is_done_by_the_next_call_whoever_has_shown_it(
    path: Path, folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = TransformersLLM(folders("llama"))
    erase = store(path, llm, some(12))
    erase.choose(QUERY)
    shown = [each.id for each in erase.demonstrations(QUERY)]

    def failing(ids: object) -> None:
        raise RuntimeError("the device is busy")

    with Erase.open(path, embedder=WordEmbedder(), llm=llm) as other:
        with monkeypatch.context() as patch:
            patch.setattr(llm, "forget_examples", failing)
            with pytest.raises(ScrubError):
                other.forget(shown[0])
        assert shown[0] in kept_ids(llm)
        other.refresh()
        assert kept_ids(llm) == {*shown} - {shown[0]}


# ---- which context ----
@pytest.mark.parametrize(
    ("kind", "strategy", "expected"),
    [
        ("llama", "knn", "windows"),
        ("sliding", "knn", "joint"),
        ("llama", "kmeans", "joint"),
        ("llama", "random", "joint"),
    ],
)
def test_auto_is_windows_where_each_query_has_its_own_demonstrations(
    path: Path, folders: Callable[[str], Path], kind: str, strategy: str, expected: str
) -> None:
    llm = TransformersLLM(folders(kind))
    scores = []
    for context in ("auto", expected):
        with store(path / context, llm, some(12), strategy=strategy, context=context) as erase:
            scores.append(erase.choose(QUERY).scores)
        llm.forget()
    assert scores[0] == scores[1]


def test_a_model_object_that_cannot_read_windows_is_refused_before_a_store_is_made(path: Path) -> None:
    with pytest.raises(LLMError, match=r'"windows" among its `contexts`.*context="auto" or "joint".*erase export'):
        store(path, CountingLLM(), [])
    assert not path.exists()
    Erase.create(path, embedder=WordEmbedder(), strategy="knn", context="windows").close()
    with pytest.raises(LLMError, match="contexts"):
        Erase.open(path, embedder=WordEmbedder(), llm=CountingLLM())


def test_windows_at_a_server_are_refused(path: Path) -> None:
    with pytest.raises(ParameterError, match=r"context.*server.*base_url"):
        create(path, base_url="http://localhost:1/v1", llm="some", context="windows")
    assert not path.exists()


def test_the_command_line_sets_the_context(path: Path) -> None:
    command_line.erase("init", "--store", path, "--no-calibrate", "--strategy", "knn", "--context", "windows")
    with Erase.open(path) as erase:
        assert (erase.settings.context, erase.settings.calibrate) == ("windows", False)
