"""OpenAILLM and stores against a real server: llama.cpp with the packaged model, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from erase_core.erase import Erase
from erase_core.errors import PromptTooLongError
from erase_core.examples.example import Example
from erase_core.llm import OpenAILLM
from erase_core.llm.prompt import Prompt, Template
from llama_server import packaged_model_served
from small_stores import ONE_PROMPT, WordEmbedder

pytest.importorskip("openai", reason="needs openai: pip install 'erase-core[openai]'")

CONTEXT = 512
OPTIONS = [
    "card arrival", "card not working", "lost or stolen card", "exchange rate", "top up failed",
    "transfer not received", "refund not showing up", "age limit", "verify my identity", "change pin",
]  # fmt: skip
QUESTIONS = [
    "When will my card come?", "My card is rejected everywhere.", "Somebody took my wallet.", "What is a dollar today?",
    "I cannot add money.", "My friend did not get the money.", "Where is my money back?", "Can my son have a card?",
    "Why do you need my passport?", "I want another pin.", "Hello?", "Tell me a joke about A) cards or B) banks.",
]  # fmt: skip
EXAMPLES = tuple(Example(i, f"a question about {option}", option) for i, option in enumerate(OPTIONS[:4]))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a server with the packaged model and a context of 512 tokens."""
    with packaged_model_served(CONTEXT) as url:
        yield url


@pytest.fixture(scope="module")
def llm(url: str) -> OpenAILLM:
    return OpenAILLM("packaged", base_url=url, api_key="", timeout=300)


def test_every_choice_of_ten_options_is_valid(llm: OpenAILLM) -> None:
    choices = [llm.choose(Prompt(Template(), EXAMPLES, question), OPTIONS) for question in QUESTIONS]
    assert [choice.option for choice in choices if choice.option not in OPTIONS] == []
    assert {choice.found_by for choice in choices} == {"constraint"}
    assert all(choice.scores == {each: float(each == choice.option) for each in OPTIONS} for choice in choices)


def test_a_choice_is_the_same_each_time(llm: OpenAILLM) -> None:
    prompt = Prompt(Template(), EXAMPLES, QUESTIONS[0])
    assert len({llm.choose(prompt, OPTIONS).option for _ in range(3)}) == 1


@pytest.mark.parametrize("option", ['say "yes"', "back\\slash", "two\nlines", "\N{SNOWMAN} snow", "1,000"])
def test_any_option_can_be_chosen(llm: OpenAILLM, option: str) -> None:
    assert llm.choose(Prompt(Template(), EXAMPLES, "What?"), [option]).option == option


def test_letters_are_scored_by_log_probabilities_where_answers_cannot_be_constrained(llm: OpenAILLM, url: str) -> None:
    free = OpenAILLM("packaged", base_url=url, api_key="", timeout=300)
    free._useless.update({"response_format", "response_format with an object", "guided_choice or grammar"})
    asked = Prompt(Template(), (Example(1, "Which letter?\nA) x\nB) y", "B"),), "Which letter?")
    choice = free.choose(asked, ["A", "B"])
    assert choice.found_by == "logprobs"
    assert all(score < 0 for score in choice.scores.values())


def test_the_context_is_the_servers(llm: OpenAILLM) -> None:
    assert llm.context_length == CONTEXT


def test_a_prompt_beyond_the_context_loses_demonstrations(url: str, path: Path) -> None:
    examples = [Example(i, f"question {i} " + "word " * 60, OPTIONS[i % 4]) for i in range(12)]
    options: dict[str, Any] = {"base_url": url, "llm": "packaged", "server": {"timeout": 300}, "api_key": ""}
    with Erase.create(path, embedder=WordEmbedder(), n_shots=8, **ONE_PROMPT, options=OPTIONS, **options) as erase:
        erase.ingest(examples)
        assert len(erase.demonstrations()) == 8
        answer = erase.ask("question 3?", max_tokens=8)
        assert 0 < answer.n_prompt_tokens <= CONTEXT - 8
        assert erase.choose("question 3?").option in OPTIONS
        with pytest.raises(PromptTooLongError):
            erase.ask("word " * 1000, max_tokens=8)


def test_a_prompt_that_only_the_server_finds_too_long(url: str) -> None:
    unaware = OpenAILLM("packaged", base_url=url, api_key="", context_length=10**6, timeout=300, max_retries=0)
    long = Prompt(Template(), (), "word " * 1000)
    with pytest.raises(PromptTooLongError, match=r"status 400, 'request .* exceeds the available context size"):
        unaware.generate(long)
    with pytest.raises(PromptTooLongError):
        unaware.choose(long, OPTIONS)


def test_an_answer_that_is_cut_off_says_so(llm: OpenAILLM) -> None:
    template = Template(stop="\n\n\n")
    answer = llm.generate(Prompt(template, (), "Write a long story."), max_tokens=5)
    assert (answer.cut_off, answer.n_tokens) == (True, 5)
