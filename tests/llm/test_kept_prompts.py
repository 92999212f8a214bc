"""What TransformersLLM keeps between queries: it changes no answer, and is overwritten when it is let go."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Prompt
from hypothesis import given
from hypothesis import strategies as st
from small_models import OPTIONS, QUERIES, buffers, is_zero, prompt

pytest.importorskip("torch", reason="needs torch: pip install 'erase-core[llm]'")
pytest.importorskip("transformers", reason="needs transformers: pip install 'erase-core[llm]'")


# Nothing stands between the demonstrations and the query, so that a token may reach across.
glued = functools.partial(prompt, separator="", input_prefix="")
queries = st.sampled_from([*QUERIES, "\nWhy?"])
prompts = st.builds(prompt, queries, st.integers(0, 4)) | st.builds(glued, queries, st.integers(0, 4))


@given(asked=st.lists(st.tuples(prompts, st.booleans()), min_size=1, max_size=6))
def test_an_answer_does_not_depend_on_what_was_asked_before(
    small: TransformersLLM, asked: list[tuple[Prompt, bool]]
) -> None:
    for each, generates in asked:
        (ask_text if generates else ask_choice)(small, each)
    assert_same_when_cold(small, asked[-1][0])


def test_a_token_across_the_border_of_the_prefix_is_not_kept(small: TransformersLLM) -> None:
    across, beside = glued("\nWhy?"), glued("Why?")
    shared = small._shared_tokens(beside)
    tokens = [small._encoded(small._read(each))[0][: len(shared)] for each in (beside, across)]
    assert tokens[0] == shared != tokens[1]
    for first, second in ((across, beside), (beside, across)):
        ask_choice(small, first)
        assert_same_when_cold(small, second)


def assert_same_when_cold(llm: TransformersLLM, asked: Prompt) -> None:
    warm, warm_text = llm.choose(asked, OPTIONS), llm.generate(asked, max_tokens=10).text
    llm.forget()
    cold, cold_text = llm.choose(asked, OPTIONS), llm.generate(asked, max_tokens=10).text
    assert (warm.option, warm_text) == (cold.option, cold_text)
    assert list(warm.scores.values()) == pytest.approx(list(cold.scores.values()), abs=1e-3)


def ask_choice(llm: TransformersLLM, asked: Prompt) -> None:
    llm.choose(asked, OPTIONS)


def ask_text(llm: TransformersLLM, asked: Prompt) -> None:
    llm.generate(asked, max_tokens=8)


@pytest.mark.parametrize("ask", [ask_choice, ask_text])
def test_after_a_query_only_the_shared_prefix_is_kept(
    small: TransformersLLM, ask: Callable[[TransformersLLM, Prompt], None]
) -> None:
    small.forget()
    for query in QUERIES:
        ask(small, prompt(query))
        kept = small._memory.n_tokens
        assert 0 < kept <= len(small._shared_tokens(prompt()))
        for tensor in buffers(small):
            assert tensor[..., :kept, :].any()
            assert not tensor[..., kept:, :].any()


def forgets(llm: TransformersLLM) -> None:
    llm.forget()


def sees_another_prefix(llm: TransformersLLM) -> None:
    with mock.patch.object(llm._memory, "_budget", 0):
        llm.choose(prompt(shots=2), OPTIONS)


def outgrows_the_buffers(llm: TransformersLLM) -> None:
    llm.choose(prompt("why " * 100), OPTIONS)


def is_interrupted(llm: TransformersLLM) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    hook = llm._memory.model.model.layers[1].register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        llm.choose(prompt(QUERIES[1]), OPTIONS)
    hook.remove()


@pytest.mark.parametrize("let_go", [forgets, sees_another_prefix, outgrows_the_buffers, is_interrupted])
def test_what_was_kept_is_overwritten_when_it_is_let_go(
    small: TransformersLLM, let_go: Callable[[TransformersLLM], None]
) -> None:
    small.forget()
    before = small.choose(prompt(), OPTIONS)
    held = buffers(small)
    assert held
    assert not any(is_zero([tensor]) for tensor in held)
    let_go(small)
    assert is_zero(held)
    assert small.choose(prompt(), OPTIONS).scores == before.scores


def test_threads_get_the_answers_of_one_after_the_other(small: TransformersLLM) -> None:
    asked = [prompt(query, shots) for query in QUERIES for shots in (2, 3)] * 3
    expected = [small.choose(each, OPTIONS).option for each in asked]
    texts = [small.generate(each, max_tokens=5).text for each in asked]
    with ThreadPoolExecutor(4) as pool:
        options = pool.map(lambda each: small.choose(each, OPTIONS).option, asked)
        written = pool.map(lambda each: small.generate(each, max_tokens=5).text, asked)
        assert list(options) == expected
        assert list(written) == texts
