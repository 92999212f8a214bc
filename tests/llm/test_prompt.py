"""Prompts as text and as messages: what is shared between queries, what a template may be, and the budget."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from erase_core.errors import ParameterError, PromptTooLongError
from erase_core.examples.example import Example
from erase_core.llm.prompt import Prompt, Template, fit_budget
from hypothesis import assume, given
from hypothesis import strategies as st
from made_examples import example_lists, storable, texts

ICE = Example(1, "Is ice cold?", "yes")
FIRE = Example(2, "Is fire cold?", "no", rationale="Fire burns.")
BAD_TEXTS: dict[str, tuple[Any, str]] = {
    "None": (None, "must be text, got NoneType"),
    "a number": (3, "must be text, got int"),
    "NUL": ("\0", "contains a NUL character"),
    "a lone surrogate": ("\ud800", "contains half of a surrogate pair"),
}

templates = st.builds(
    Template,
    instruction=storable,
    input_prefix=storable,
    output_prefix=st.one_of(storable, st.sampled_from(["A: ", "\nA: ", " \nA:\t", "\n", ""])),
    separator=storable,
    stop=storable.filter(bool),
)
demonstrations = example_lists(least=0).map(tuple)


# ---- text ----
def test_a_plain_prompt() -> None:
    template = Template(instruction="Answer.")
    assert Prompt(template, (ICE, FIRE), "Is snow cold?").text == (
        "Answer.\n\n"
        "Q: Is ice cold?\nA: yes\n\n"
        "Q: Is fire cold?\nA: Fire burns. So the answer is no\n\n"
        "Q: Is snow cold?\nA:"
    )
    assert Prompt(Template(), (), "Is snow cold?").text == "Q: Is snow cold?\nA:"


@pytest.mark.parametrize(
    ("output_prefix", "text"),
    [
        ("A: ", "Q: a\nA: yes"),
        ("\nA: ", "Q: a\nA: yes"),
        (" \nA:\t", "Q: a \nA: yes"),
        ("  A:", "Q: a\n  A: yes"),
        ("\n", "Q: a\n yes"),
        ("", "Q: a\n yes"),
        ("A:\n", "Q: a\nA:\n yes"),
    ],
)
def test_the_output_prefix_stands_on_a_line_of_its_own(output_prefix: str, text: str) -> None:
    shown = Prompt(Template(output_prefix=output_prefix), (Example(1, "a", "yes"),), "b").shared
    assert shown == text


@given(templates, demonstrations, texts, texts)
def test_what_is_shared_begins_every_prompt_and_depends_on_no_query(
    template: Template, shown: tuple[Example, ...], query: str, other: str
) -> None:
    one, two = Prompt(template, shown, query), Prompt(template, shown, other)
    assert one.shared == two.shared
    assert one.shared_messages == two.shared_messages
    assert one.text.startswith(one.shared)
    assert one.messages == [*one.shared_messages, {"role": "user", "content": query}]


@given(templates, demonstrations, texts, texts)
def test_an_answer_continues_the_prompt_as_in_a_demonstration(
    template: Template, shown: tuple[Example, ...], query: str, answer: str
) -> None:
    asked = Prompt(template, shown, query)
    answered = Prompt(template, (*shown, Example(1, query, answer)), query)
    assert answered.shared == f"{asked.text} {answer}"
    assert not asked.text.endswith((" ", "\t")) or not template.output_prefix.strip(" \t")


@given(templates, demonstrations, texts)
def test_more_demonstrations_only_lengthen_what_is_shared(
    template: Template, shown: tuple[Example, ...], query: str
) -> None:
    shared = [Prompt(template, shown[:n], query).shared for n in range(len(shown) + 1)]
    assert all(longer.startswith(shorter) for shorter, longer in pairwise(shared))


@given(templates, demonstrations, texts)
def test_the_given_parts_are_those_of_examples_and_query(
    template: Template, shown: tuple[Example, ...], query: str
) -> None:
    asked = Prompt(template, shown, query)
    given_texts = [part.text for part in asked.parts if part.given]
    assert given_texts == [message["content"] for message in asked.messages if message["role"] != "system"]
    assert "".join(part.text for part in asked.parts) == asked.text
    assert asked.parts[: len(asked.shared_parts)] == asked.shared_parts


# ---- messages ----
def test_messages_are_turns_after_the_instruction() -> None:
    assert Prompt(Template(instruction="Answer."), (ICE, FIRE), "Is snow cold?").messages == [
        {"role": "system", "content": "Answer."},
        {"role": "user", "content": "Is ice cold?"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "Is fire cold?"},
        {"role": "assistant", "content": "Fire burns. So the answer is no"},
        {"role": "user", "content": "Is snow cold?"},
    ]
    assert Prompt(Template(), (), "Is snow cold?").messages == [{"role": "user", "content": "Is snow cold?"}]


# ---- parameters ----
@given(templates)
def test_a_template_is_its_texts(template: Template) -> None:
    assert Template.from_dict(template.to_dict()) == template


def test_absent_texts_are_the_default_ones() -> None:
    assert Template.from_dict({}) == Template()
    assert Template.from_dict({"stop": "END"}) == Template(stop="END")


@pytest.mark.parametrize("name", Template().to_dict())
@pytest.mark.parametrize(("value", "words"), BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_texts_of_a_template_are_checked(name: str, value: Any, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Template(**{name: value})
    assert str(caught.value).startswith(f"{name} of the template {words}")


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"prefix": "Q: "}, "got 'prefix'"),
        ({"stop": ""}, "stop of the template must not be empty"),
        (None, "must be a mapping of names to texts, got NoneType"),
    ],
)
def test_what_is_no_template_is_refused(texts: Any, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Template.from_dict(texts)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("query", "words"),
    [*BAD_TEXTS.values(), ("", "white space"), (" \n", "white space")],
    ids=[*BAD_TEXTS, "", "blank"],
)
def test_a_query_is_checked(query: Any, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Prompt(Template(), (), query)
    assert str(caught.value).startswith("query ")
    assert words in str(caught.value)


# ---- budget ----
@given(example_lists(least=0), texts, st.data())
def test_the_longest_beginning_that_fits_is_kept(examples: list[Example], query: str, data: st.DataObject) -> None:
    # Any number of tokens for each number of demonstrations: a tokenizer promises no order of them.
    size = st.integers(1, 9)
    tokens = data.draw(st.lists(size, min_size=len(examples) + 1, max_size=len(examples) + 1))
    most = data.draw(st.integers(1, 10))
    fitting = [n for n, count in enumerate(tokens) if count <= most]
    assume(fitting)
    whole, reverse = (Prompt(Template(), tuple(shown), query) for shown in (examples, examples[::-1]))
    prompt = fit_budget(whole, most, lambda prompt: tokens[len(prompt.demonstrations)])
    assert prompt == Prompt(Template(), tuple(examples[: max(fitting)]), query)
    mirrored = fit_budget(reverse, most, lambda prompt: tokens[len(prompt.demonstrations)], keep="last")
    assert mirrored.demonstrations == prompt.demonstrations[::-1]


@given(example_lists(least=0), texts, st.integers(1, 60))
def test_of_windows_each_is_kept_that_fits(examples: list[Example], query: str, most: int) -> None:
    def longest(prompt: Prompt) -> int:
        return max((len(each.input) for each in prompt.demonstrations), default=0)

    whole = Prompt(Template(), tuple(examples), query, "windows")
    kept = fit_budget(whole, most, longest).demonstrations
    assert kept == tuple(each for each in examples if len(each.input) <= most)


@given(example_lists(least=0), texts)
def test_a_prompt_that_cannot_fit_is_an_error_that_says_by_how_much(examples: list[Example], query: str) -> None:
    bare = len(Prompt(Template(), (), query).text)
    whole = Prompt(Template(), tuple(examples), query)
    fits = fit_budget(whole, bare, lambda prompt: len(prompt.text))
    assert fits.demonstrations == ()
    with pytest.raises(PromptTooLongError) as caught:
        fit_budget(whole, bare - 1, lambda prompt: len(prompt.text))
    assert f"has {bare} tokens without any demonstration, but at most {bare - 1} are allowed" in str(caught.value)


@pytest.mark.parametrize("most", [0, -1, 1.5, True, None, "8"], ids=repr)
def test_the_budget_is_a_positive_integer(most: Any) -> None:
    with pytest.raises(ParameterError, match="max_tokens must be an integer from 1 to"):
        fit_budget(Prompt(Template(), (), "a"), most, lambda prompt: 1)
