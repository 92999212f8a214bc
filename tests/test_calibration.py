"""Calibrated choices: the arithmetic, when it is done, and that nothing is kept of what was forgotten."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from erase_core.erase import Erase
from erase_core.llm import Choice
from erase_core.llm.prompt import Prompt
from hypothesis import given
from hypothesis import strategies as st
from processes import HANG
from small_stores import CountingLLM, WordEmbedder, new_path, parts_of, reopened, some
from small_stores import create as usual

OPTIONS = ("yes", "no", "perhaps")
CONTENT_FREE = ("N/A", "[MASK]", "none")
QUERY = "where is my parcel"


create = functools.partial(usual, calibrate=True)


class BiasedLLM(CountingLLM):
    """Scores that depend on the query, and a bias that depends on the demonstrations alone."""

    def __init__(self, found_by: Any = "scoring") -> None:
        super().__init__()
        self.found_by = found_by

    def bias(self, prompt: Prompt, option: str) -> float:
        shown = sum(int(each.id or 0) ** 2 for each in prompt.demonstrations)
        return -1.0 - (shown * len(option)) % 7

    def choose(self, prompt: Prompt, options: Sequence[str]) -> Choice:
        self.prompts.append(prompt)
        own = len(prompt.query)
        scores = {each: self.bias(prompt, each) - (own * len(each)) % 5 / 10 for each in options}
        return Choice(max(options, key=scores.__getitem__), scores, 0.5, self.found_by)


def by_hand(llm: BiasedLLM, prompt: Prompt, options: Sequence[str]) -> dict[str, float]:
    plain = llm.choose(prompt, options).scores
    free = [llm.choose(Prompt(prompt.template, prompt.demonstrations, text), options).scores for text in CONTENT_FREE]
    return {each: plain[each] - math.log(sum(math.exp(scores[each]) for scores in free) / 3) for each in options}


@pytest.mark.parametrize("strategy", ["kmeans", "random"])
def test_each_probability_is_divided_by_its_mean_without_content(path: Path, strategy: str) -> None:
    llm = BiasedLLM()
    with create(path, some(20), llm=llm, strategy=strategy) as erase:
        for query in (QUERY, "late", "refund the parcel"):
            choice = erase.choose(query, OPTIONS)
            expected = by_hand(llm, erase.prompt(query), OPTIONS)
            assert choice.scores == pytest.approx(expected, rel=1e-12)
            assert choice.option == max(OPTIONS, key=expected.__getitem__)
            assert choice.calibrated
            assert choice.seconds == 0.5


def test_a_known_prompt_takes_one_call(path: Path) -> None:
    llm = BiasedLLM()
    with create(path, some(20), llm=llm) as erase:
        for number, expected in ((0, 4), (1, 1), (2, 1)):
            before = len(llm.prompts)
            erase.choose(f"query {number}", OPTIONS)
            assert len(llm.prompts) - before == expected
        erase.choose(QUERY, OPTIONS[:2])
        assert len(llm.prompts) == 4 + 1 + 1 + 4  # other options have other probabilities


@pytest.mark.parametrize("found_by", ["constraint", "text"])
def test_answers_without_probabilities_stay_as_they_are(path: Path, found_by: str) -> None:
    llm = BiasedLLM(found_by)
    with create(path, some(20), llm=llm) as erase:
        choice = erase.choose(QUERY, OPTIONS)
        assert choice == llm.choose(erase.prompt(QUERY), OPTIONS)
        assert not choice.calibrated


def test_a_server_that_changes_its_way_is_not_calibrated(path: Path) -> None:
    class Changing(BiasedLLM):
        def choose(self, prompt: Prompt, options: Sequence[str]) -> Choice:
            self.found_by = "text" if prompt.query == "[MASK]" else "logprobs"
            return super().choose(prompt, options)

    llm = Changing()
    with create(path, some(20), llm=llm) as erase:
        assert not erase.choose(QUERY, OPTIONS).calibrated
        before = len(llm.prompts)
        assert not erase.choose("late", OPTIONS).calibrated
        assert len(llm.prompts) == before + 1, "what cannot be calibrated was tried again"


@pytest.mark.parametrize("impossible", ["asked", *CONTENT_FREE])
def test_scores_of_impossible_options_stay_as_they_are(path: Path, impossible: str) -> None:
    class Sure(BiasedLLM):
        def bias(self, prompt: Prompt, option: str) -> float:
            is_asked = prompt.query not in CONTENT_FREE and impossible == "asked"
            never = option == OPTIONS[0] and (is_asked or prompt.query == impossible)
            return -math.inf if never else super().bias(prompt, option)

    with create(path, some(20), llm=Sure()) as erase:
        choice = erase.choose(QUERY, OPTIONS)
        assert not choice.calibrated
        assert choice.scores == Sure().choose(erase.prompt(QUERY), OPTIONS).scores


def test_scores_that_lack_an_option_stay_as_they_are(path: Path) -> None:
    class Lacking(BiasedLLM):
        def choose(self, prompt: Prompt, options: Sequence[str]) -> Choice:
            choice = super().choose(prompt, options)
            return Choice("no", {"no": choice.scores["no"]}, 0.5)

    with create(path, some(20), llm=Lacking()) as erase:
        choice = erase.choose(QUERY, OPTIONS)
        assert (choice.option, choice.calibrated) == ("no", False)


@pytest.mark.parametrize("bounded", ["asked", *CONTENT_FREE])
def test_scores_that_are_only_bounds_stay_as_they_are(path: Path, bounded: str) -> None:
    """A bound minus a bound says nothing. By it, an option that the server never named could win."""

    class Bounded(BiasedLLM):
        def choose(self, prompt: Prompt, options: Sequence[str]) -> Choice:
            asked = prompt.query if prompt.query in CONTENT_FREE else "asked"
            return replace(super().choose(prompt, options), bounded=("no",) if asked == bounded else ())

    with create(path, some(20), llm=Bounded("logprobs")) as erase:
        choice = erase.choose(QUERY, OPTIONS)
        assert not choice.calibrated
        assert choice.scores == Bounded().choose(erase.prompt(QUERY), OPTIONS).scores


def test_queries_at_a_time_calibrate_a_prompt_once(path: Path) -> None:
    llm = BiasedLLM()
    together = Barrier(4)

    def choose(prompt: Prompt, options: Sequence[str]) -> Choice:
        if prompt.query not in CONTENT_FREE:
            together.wait(HANG)
        return BiasedLLM.choose(llm, prompt, options)

    llm.choose = choose  # type: ignore[method-assign]
    with create(path, some(20), llm=llm) as erase:
        several = erase.choose_many([f"query {place}" for place in range(8)], OPTIONS, parallel=4)
        assert all(choice.calibrated for choice in several)
        assert len(llm.prompts) == 8 + len(CONTENT_FREE)


def test_demonstrations_fit_with_every_input_of_the_calibration(path: Path) -> None:
    class Short(BiasedLLM):
        def count_tokens(self, prompt: Prompt) -> int:
            return len(prompt.query) + 8 * len(prompt.demonstrations)

        def choose(self, prompt: Prompt, options: Sequence[str]) -> Choice:
            assert self.count_tokens(prompt) + max(map(len, options)) + 1 <= room
            return super().choose(prompt, options)

    room, llm = 40, Short()
    llm.context_length = room
    with create(path, some(20), llm=llm, n_shots=4, options=("yes", "no")) as erase:
        assert erase.choose("a").calibrated
        shown = {len(prompt.demonstrations) for prompt in llm.prompts}
        assert len(llm.prompts) == 4
        assert len(shown) == 1
        assert 0 < shown.pop() < 4, "all fits, or nothing does: the test shows nothing"


def test_a_known_prompt_is_counted_once_before_it_is_run(path: Path) -> None:
    """And the inputs of its calibration not at all, so that a query does not pay for them again."""
    llm, counted = BiasedLLM(), list[Prompt]()
    llm.context_length = 10_000
    llm.count_tokens = lambda prompt: counted.append(prompt) or 1  # type: ignore[method-assign, func-returns-value]
    with create(path, some(20), llm=llm) as erase:
        erase.choose(QUERY, OPTIONS)
        assert [prompt.query for prompt in counted] == [*CONTENT_FREE, QUERY]
        counted.clear()
        erase.choose("late", OPTIONS)
        assert len(counted) == 1
        assert counted[0] is llm.prompts[-1], "a model that keeps the newest prompt's tokens would make them again"


@pytest.mark.parametrize("settings", [{"strategy": "knn"}, {"strategy": "routed"}, {"calibrate": False}])
def test_when_it_is_not_done(path: Path, settings: dict[str, Any]) -> None:
    llm = BiasedLLM()
    with create(path, some(20), llm=llm, **settings) as erase:
        assert not erase.choose(QUERY, OPTIONS).calibrated
        assert len(llm.prompts) == 1


# ---- forgetting ----
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 14)), min_size=1, max_size=6))
def test_choices_are_those_of_a_fresh_store(steps: list[tuple[bool, int]]) -> None:
    present = {each.id: each for each in some(15)}
    with new_path() as path, new_path() as other:
        erase = create(path, list(present.values()), llm=BiasedLLM())
        for forgets, id_ in steps:
            if forgets and id_ in present and len(present) > 1:
                del present[id_]
                erase.forget(id_)
            elif not forgets and id_ not in present:
                # The same id again, with another text.
                present[id_] = some(1, id_)[0]
                erase.ingest([present[id_]], on_forgotten="allow")
            erase.choose(QUERY, OPTIONS)
        anew = create(other, list(present.values()), llm=BiasedLLM())
        assert erase.choose(QUERY, OPTIONS) == anew.choose(QUERY, OPTIONS)
        erase.close()
        anew.close()


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_the_prior_of_a_prompt_goes_with_each_of_its_examples(path: Path, where: str) -> None:
    erase = create(path, some(20), llm=BiasedLLM())
    erase.choose(QUERY, OPTIONS)
    priors = parts_of(erase).priors
    (array,) = priors._kept.values()
    shown = erase.demonstrations()
    assert array.any()
    if where == "here":
        erase.forget(shown[2].id)
    else:
        with reopened(path) as other:
            other.forget(shown[2].id)
        erase.refresh()
    assert not priors._kept
    assert not array.any(), "the prior was dropped, but not overwritten"


def test_closing_overwrites_all_priors(path: Path) -> None:
    with Erase.create(path, strategy="kmeans", embedder=WordEmbedder(), llm=BiasedLLM()) as erase:
        erase.ingest(some(9))
        erase.choose(QUERY, OPTIONS)
        (array,) = parts_of(erase).priors._kept.values()
    assert not array.any()
