"""TransformersLLM: its answers are the model's own.

The oracle is a plain run of transformers over the whole text. What is kept between queries is test_prefix_cache's
business, and loading test_llm_loading's.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from erase_core.errors import ParameterError, PromptTooLongError
from erase_core.examples.example import Example
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Prompt, Template
from hypothesis import assume, given
from hypothesis import strategies as st
from small_models import CONTEXT, OPTIONS, QUERIES, buffers, is_zero, needs_packaged, prompt

torch = pytest.importorskip("torch", reason="needs torch: pip install 'erase-core[llm]'")
transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'erase-core[llm]'")

KINDS = ("llama", "sliding", "softcap", "absolute", "local", "alibi")


@pytest.fixture(scope="module")
def packaged() -> TransformersLLM:
    return TransformersLLM()


@pytest.fixture(scope="module")
def chatty() -> TransformersLLM:
    return TransformersLLM(chat=True)


def oracle_scores(folder: Path, text: str, options: tuple[str, ...]) -> list[float]:
    """Mean log-probabilities by a run for each option, over whole texts, with nothing kept."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)
    wholes = [tokens(f"{text} {option}")["input_ids"] for option in options]
    columns = zip(tokens(text)["input_ids"], *wholes, strict=False)
    start = len(list(itertools.takewhile(lambda column: len(set(column)) == 1, columns)))
    scores = []
    for whole in wholes:
        with torch.inference_mode():
            logs = model(torch.tensor([whole]), use_cache=False).logits[0].log_softmax(-1)
        scores.append(float(torch.stack([logs[i - 1, whole[i]] for i in range(start, len(whole))]).mean()))
    return scores


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [OPTIONS, OPTIONS[:1], ("a", "b")], ids=["several", "one", "letters"])
def test_scores_are_those_of_whole_texts(folders: Callable[[str], Path], kind: str, options: tuple[str, ...]) -> None:
    llm = TransformersLLM(folders(kind))
    for query in (prompt(), prompt(QUERIES[1]), prompt(shots=0)):  # cold, warm, another prefix
        choice = llm.choose(query, options)
        expected = oracle_scores(folders(kind), query.text, options)
        assert list(choice.scores) == list(options)
        assert list(choice.scores.values()) == pytest.approx(expected, abs=1e-3)
        assert choice.scores[choice.option] == max(choice.scores.values())
        if options == OPTIONS:
            assert max(expected) - min(expected) > 0.1  # else everything would agree with everything


@pytest.mark.parametrize("kind", KINDS)
def test_generated_text_is_that_of_transformers(folders: Callable[[str], Path], kind: str) -> None:
    llm = TransformersLLM(folders(kind))
    model = transformers.AutoModelForCausalLM.from_pretrained(folders(kind))
    tokens = transformers.AutoTokenizer.from_pretrained(folders(kind))
    for query in (prompt(), prompt(QUERIES[1]), prompt(shots=0)):
        ids = tokens(query.text, return_tensors="pt")
        made = model.generate(**ids, do_sample=False, max_new_tokens=20)[0, ids["input_ids"].shape[1] :]
        text = tokens.decode(made, skip_special_tokens=True)
        answer = llm.generate(query, max_tokens=20)
        assert answer.text == text.split("\n")[0].strip()
        assert answer.n_prompt_tokens == ids["input_ids"].shape[1] == llm.count_tokens(query)


def test_a_long_query_is_run_before_its_options(folders: Callable[[str], Path]) -> None:
    asked = prompt("Why is that so? " * 25)
    choice = TransformersLLM(folders("llama")).choose(asked, OPTIONS)
    assert list(choice.scores.values()) == pytest.approx(oracle_scores(folders("llama"), asked.text, OPTIONS), abs=1e-3)


def test_many_options_take_several_runs_and_have_the_same_scores(folders: Callable[[str], Path]) -> None:
    options = tuple(f"answer number {i} of a hundred" for i in range(40))
    choice = TransformersLLM(folders("llama")).choose(prompt(), options)
    expected = oracle_scores(folders("llama"), prompt().text, options)
    assert list(choice.scores.values()) == pytest.approx(expected, abs=1e-3)


def test_a_warm_choice_takes_one_run(small: TransformersLLM) -> None:
    small.choose(prompt(), OPTIONS)
    runs: list[int] = []
    hook = small._memory.model.register_forward_pre_hook(
        lambda _module, _args, inputs: runs.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    small.choose(prompt(QUERIES[1]), OPTIONS)
    hook.remove()
    assert len(runs) == 1
    # Of the three demonstrations nothing was run again: only the query, and the options but for their last tokens.
    assert runs[0] < small.count_tokens(prompt(QUERIES[1], shots=0)) + sum(map(len, OPTIONS)) + 5


# Arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "at least 1 string, got none"),
        ("yes", "a sequence of strings, got str"),
        (None, "a sequence of strings, got NoneType"),
        (["yes", " "], "not blank, got ' ' at position 1"),
        (["yes", 3], "got 3 at position 1"),
        (["yes", "no", "yes"], "unique, got 'yes' twice"),
        (["yes", "\ud800"], "the one at position 1 contains half of a surrogate pair"),
    ],
)
def test_options_are_checked(small: TransformersLLM, options: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        small.choose(prompt(), options)


@pytest.mark.parametrize("max_tokens", [0, -1, 1.5, True, None])
def test_max_tokens_is_checked(small: TransformersLLM, max_tokens: Any) -> None:
    with pytest.raises(ParameterError, match="max_tokens must be an integer from 1"):
        small.generate(prompt(), max_tokens=max_tokens)


def test_prompts_up_to_the_context_are_answered_and_longer_ones_refused(small: TransformersLLM) -> None:
    length = small.count_tokens(prompt())
    room = CONTEXT - length
    assert small.context_length == CONTEXT
    assert small.generate(prompt(stop="never"), max_tokens=room).n_tokens <= room
    with pytest.raises(PromptTooLongError, match=f"{length} tokens and the answer may have {room + 1}.*{CONTEXT}"):
        small.generate(prompt(), max_tokens=room + 1)
    with pytest.raises(PromptTooLongError, match=f"more than the model's context of {CONTEXT}"):
        small.choose(prompt(), ["yes", "no" * room])


@given(data=st.data(), max_tokens=st.integers(1, 12))
def test_an_answer_is_cut_where_the_stop_string_first_comes(
    small: TransformersLLM, data: st.DataObject, max_tokens: int
) -> None:
    whole = small.generate(prompt(stop="never comes"), max_tokens=12).text
    start = data.draw(st.integers(0, len(whole) - 1))
    stop = whole[start : data.draw(st.integers(start + 1, len(whole)))]
    assume(stop == stop.strip() and "\ufffd" not in stop)
    answer = small.generate(prompt(stop=stop), max_tokens=max_tokens)
    assert answer.n_tokens <= max_tokens
    if answer.n_tokens < max_tokens:
        assert answer.text == whole.split(stop)[0].strip()
    assert stop not in answer.text


def test_an_answer_ends_at_any_of_the_models_end_tokens(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders("llama"), tmp_path / "llama")
    tokens = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = tokens(prompt().text, return_tensors="pt")
    made = model.generate(**ids, do_sample=False, max_new_tokens=9)[0, ids["input_ids"].shape[1] :].tolist()
    end = made.index(made[5])
    transformers.GenerationConfig(eos_token_id=[257, made[end]]).save_pretrained(folder)
    answer = TransformersLLM(folder).generate(prompt(stop="never comes"), max_tokens=9)
    assert (answer.text, answer.n_tokens) == (tokens.decode(made[:end], skip_special_tokens=True).strip(), end + 1)


# The packaged model


@needs_packaged
def test_the_packaged_model_knows_a_thing_or_two(packaged: TransformersLLM, chatty: TransformersLLM) -> None:
    cities = {"Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo"}
    shown = tuple(Example(1, f"What is the capital of {country}?", city) for country, city in cities.items())
    capital = Prompt(Template(), shown, "What is the capital of France?")
    for llm in (packaged, chatty):
        assert "Paris" in llm.generate(capital).text
        assert llm.choose(capital, ["a loaf of bread", "London", "Paris"]).option == "Paris"
        assert llm.name == packaged.name
    assert packaged.context_length == 8192
    assert packaged.name.startswith("SmolLM2-135M-Instruct")


@needs_packaged
@pytest.mark.parametrize("chat", [False, True])
def test_the_packaged_model_is_the_same_warm_and_cold(
    packaged: TransformersLLM, chatty: TransformersLLM, chat: bool
) -> None:
    llm = chatty if chat else packaged
    first, second = prompt(instruction="Answer the riddle."), prompt(QUERIES[1], instruction="Answer the riddle.")
    llm.choose(first, OPTIONS)
    assert llm._memory.n_tokens > llm.count_tokens(second) // 2  # most of it is shared
    warm, warm_text = llm.choose(second, OPTIONS), llm.generate(second, max_tokens=8).text
    held = buffers(llm)
    llm.forget()
    assert held
    assert is_zero(held)
    cold, cold_text = llm.choose(second, OPTIONS), llm.generate(second, max_tokens=8).text
    assert (warm.option, warm_text) == (cold.option, cold_text)
    assert list(warm.scores.values()) == pytest.approx(list(cold.scores.values()), abs=1e-3)


@needs_packaged
def test_a_chat_is_in_the_words_of_its_template(chatty: TransformersLLM) -> None:
    asked = prompt(instruction="Answer the riddle.")
    ids = chatty._tokenizer.apply_chat_template(asked.messages, add_generation_prompt=True, return_tensors="pt")
    assert chatty.count_tokens(asked) == ids["input_ids"].shape[1]
    made = chatty._memory.model.generate(**ids, do_sample=False, max_new_tokens=8)[0, ids["input_ids"].shape[1] :]
    text = chatty._tokenizer.decode(made, skip_special_tokens=True)
    assert chatty.generate(asked, max_tokens=8).text == text.split("\n")[0].strip()
