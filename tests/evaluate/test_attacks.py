"""Attacks: their formulas, and models of which the answer is known: one that memorised, and one that saw nothing."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch
from erase_core.errors import PromptTooLongError
from erase_core.evaluate.adapters.adapted_model import AdaptedModel
from erase_core.evaluate.adapters.training import TrainingSettings, train
from erase_core.evaluate.attacks.areas import area
from erase_core.evaluate.attacks.canaries import with_canaries
from erase_core.evaluate.attacks.extraction import common_share, decode, extract, guided
from erase_core.evaluate.attacks.linear_probe import hidden_states, probe_accuracy
from erase_core.evaluate.attacks.log_probabilities import AdaptedTokens, Part, PromptedTokens, TokenLogProbs
from erase_core.evaluate.attacks.membership import (
    ATTACKS,
    AttackResult,
    compare_areas,
    lira,
    loss,
    min_k,
    min_k_plus,
    shadow_members,
    zlib_ratio,
)
from erase_core.evaluate.attacks.probes import PARAPHRASES, PROBES, reworded
from erase_core.evaluate.measures.cost import measured
from erase_core.evaluate.tasks.task import Task
from erase_core.examples.example import Example
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Prompt, Template
from small_models import EXAMPLES

TEMPLATE = Template()
OPTIONS = ("yes", "no", "perhaps")
TASK = Task("small", tuple(Example(i, f"Is it {i}?", OPTIONS[i % 3]) for i in range(8)), (), OPTIONS, TEMPLATE)


def some_tokens(n: int, seed: int = 0) -> TokenLogProbs:
    draws = np.random.default_rng(seed)
    return TokenLogProbs(-draws.exponential(size=n), -draws.exponential(size=n), draws.uniform(0.5, 2, size=n))


# ---- formulas ----
@pytest.mark.parametrize("n", [1, 7, 64])
def test_min_k_of_all_tokens_is_the_loss_attack(n: int) -> None:
    tokens = some_tokens(n)
    assert min_k(tokens, 1.0) == loss(tokens)


def test_formulas_of_the_attacks() -> None:
    tokens = TokenLogProbs(*np.array([[-1.0, -4.0, -2.0, -3.0], [-2.0, -2.0, -3.0, -3.0], [1.0, 2.0, 0.5, 1.0]]))
    assert loss(tokens) == -2.5
    assert zlib_ratio(tokens, "aaaa") == -2.5 / len(zlib.compress(b"aaaa"))
    assert min_k(tokens, 0.5) == -3.5
    assert min_k(tokens, 0.1) == -4.0
    # (lp - mu) / sigma: 1, -1, 2, 0
    assert min_k_plus(tokens, 0.5) == -0.5


def test_lira_is_the_log_ratio_of_two_normal_densities() -> None:
    shadows = np.array([[1.0, 5.0], [3.0, 4.0], [0.0, 1.0], [-2.0, 3.0]])
    is_in = np.array([[True, True], [True, True], [False, False], [False, False]])

    def log_density(x: float, mean: float, variance: float) -> float:
        return -((x - mean) ** 2) / (2 * variance) - 0.5 * math.log(2 * math.pi * variance)

    var_in = (1 + 1 + 0.25 + 0.25) / 2  # residuals of both examples, four values less two means
    var_out = (1 + 1 + 1 + 1) / 2
    expected = [
        log_density(0.5, 2.0, var_in) - log_density(0.5, -1.0, var_out),
        log_density(4.0, 4.5, var_in) - log_density(4.0, 2.0, var_out),
    ]
    assert lira([0.5, 4.0], shadows, is_in) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="with and without"):
        lira([0.5, 4.0], shadows, np.ones((4, 2), dtype=bool))


def test_each_example_is_in_half_of_the_shadow_worlds() -> None:
    is_in = shadow_members(500, 4, seed=1)
    assert is_in.sum(axis=0).tolist() == [2] * 500
    assert all(abs(count - 250) < 60 for count in is_in.sum(axis=1))
    assert len(np.unique(is_in, axis=1).T) == 6  # every choice of two of four
    with pytest.raises(ValueError, match="even"):
        shadow_members(5, 3, seed=1)


def test_lira_finds_members_where_their_answers_alone_do_not() -> None:
    draws = np.random.default_rng(6)
    n = 400
    hardness = draws.normal(0, 5, size=n)
    member = np.arange(n) < n // 2
    is_in = shadow_members(n, 4, seed=0)
    shadows = hardness + 2.0 * is_in + draws.normal(size=is_in.shape)
    answers = hardness + 2.0 * member + draws.normal(size=n)
    assert area(lira(answers, shadows, is_in), member).low > area(answers, member).high


# ---- log-probabilities of tokens ----
def test_log_probabilities_of_an_answer_are_those_that_choose_has(small: TransformersLLM) -> None:
    for shots in (0, 3):
        reader = PromptedTokens(small, TEMPLATE, lambda _, shots=shots: EXAMPLES[:shots])  # type: ignore[misc]
        for example in TASK.pool[:2]:
            (read,) = reader.token_logprobs([example])
            chosen = small.choose(Prompt(TEMPLATE, EXAMPLES[:shots], example.input), [example.output])
            assert read.lp.mean() == pytest.approx(chosen.scores[example.output], abs=1e-4)


def test_mean_and_deviation_are_of_the_models_own_tokens(small: TransformersLLM) -> None:
    example = TASK.pool[0]
    reader = PromptedTokens(small, TEMPLATE)
    (read,) = reader.token_logprobs([example])
    tokens, _, answer = reader.tokens(example)
    with torch.no_grad():
        logits = small.network(input_ids=torch.tensor([tokens])).logits[0].double()
    for place, token in enumerate(tokens[answer:]):
        shares = torch.softmax(logits[answer + place - 1], 0)
        logs = shares.log()
        mean = float((shares * logs).sum())
        square = float((shares * logs**2).sum())
        assert read.lp[place] == pytest.approx(float(logs[token]), abs=1e-5)
        assert read.mu[place] == pytest.approx(mean, abs=1e-5)
        assert read.sigma[place] == pytest.approx(math.sqrt(square - mean**2), abs=1e-4)


@pytest.mark.parametrize("instruction", ["", "Answer shortly."])
def test_text_is_question_and_answer_without_demonstrations(small: TransformersLLM, instruction: str) -> None:
    template = Template(instruction=instruction)
    example = TASK.pool[0]
    alone = len(small.tokens(Prompt(Template(), (), example.input), [example.output])[0])
    answer = len(PromptedTokens(small, template).token_logprobs([example])[0].lp)
    for shots in (0, 2):
        reader = PromptedTokens(small, template, lambda _, shots=shots: EXAMPLES[:shots])  # type: ignore[misc]
        (read,) = reader.token_logprobs([example], "text")
        # The very first token of all has nothing before it.
        first = 0 if shots or instruction else 1
        assert len(read.lp) == alone - first + answer


def test_tokens_read_are_counted_and_too_many_are_refused(small: TransformersLLM) -> None:
    reader = PromptedTokens(small, TEMPLATE)
    with measured() as meter:
        reader.token_logprobs(TASK.pool[:1])
    assert meter.cost.tokens_forward == len(reader.tokens(TASK.pool[0]).tokens) - 1
    with pytest.raises(PromptTooLongError, match="fewer demonstrations"):
        reader.token_logprobs([Example(1, "x" * 1000, "yes")])


# ---- models of which the answer is known ----
@pytest.fixture(scope="module")
def model(folders: object) -> AdaptedModel:
    return AdaptedModel(TransformersLLM(folders("llama")), rank=8)  # type: ignore[operator]


CANARIES = with_canaries(Task("none", (), (), OPTIONS, TEMPLATE), 24, seed=1, n_words=2)
INSERTED = CANARIES.task.examples(CANARIES.inserted)
OUTPUTS = [example.output for example in (*INSERTED, *CANARIES.held_out)]


@pytest.fixture(scope="module")
def memory(model: AdaptedModel) -> tuple[AdaptedTokens, AdaptedTokens]:
    """A model that has learned the inserted canaries by heart, and one that saw none."""
    model.reset(0)
    blank = model.state()
    train(model, INSERTED, TEMPLATE, 0, TrainingSettings(passes=40, rate=2e-2))
    return AdaptedTokens(model, model.state(), TEMPLATE), AdaptedTokens(model, blank, TEMPLATE)


def attacked(learned: AdaptedTokens, blank: AdaptedTokens) -> list[AttackResult]:
    """All attacks on a model that has learned the inserted canaries, and forgets them by becoming the blank one."""
    asked = [*INSERTED, *CANARIES.held_out]
    is_member = [True] * len(INSERTED) + [False] * len(CANARIES.held_out)
    had, lacks = (world.token_logprobs(asked) for world in (learned, blank))
    results = []
    for name, attack in ATTACKS.items():
        before, never = ([attack(*each) for each in zip(seen, OUTPUTS, strict=True)] for seen in (had, lacks))
        results.append(compare_areas(name, before, never, never, is_member))
    return results


def test_attacks_find_what_was_memorised_and_nothing_in_a_model_that_never_saw_it(
    memory: tuple[AdaptedTokens, AdaptedTokens],
) -> None:
    learned, blank = memory
    results = attacked(learned, blank)
    for result in results:
        assert 0.5 in result.target, result
        assert result.before.low > 0.5, result
        assert result.before.low > result.target.value, result
        assert (result.difference.low, result.difference.high) == (0.0, 0.0)
    assert results[0].before.low > 0.75


def test_an_adapter_is_read_without_changing_the_one_that_is_loaded(
    model: AdaptedModel, memory: tuple[AdaptedTokens, AdaptedTokens]
) -> None:
    model.reset(7)
    before = model.state()
    memory[0].token_logprobs(INSERTED[:1])
    assert all(torch.equal(weights, before[name]) for name, weights in model.state().items())


# ---- extraction ----
def test_guided_decoding_without_a_change_has_no_effect(small: TransformersLLM) -> None:
    reader, same = PromptedTokens(small, TEMPLATE), PromptedTokens(small, TEMPLATE)
    tokens, _, answer = reader.tokens(TASK.pool[0])
    logs = reader.next_logprobs(tokens[:answer])
    for weight in (-3.0, 0.0, 2.0, 1e6):
        assert guided(logs, logs.copy(), weight).tobytes() == logs.tobytes()
        prefixes = tokens[:answer], tokens[:answer]
        assert decode(reader, same, prefixes, 5, weight) == decode(reader, reader, prefixes, 5, 0.0)
    for part in ("answer", "text"):
        found = extract(reader, same, TASK.pool[:2], part=part, weight=50.0)
        assert found.guided == found.after_alone


def test_weights_between_two_models() -> None:
    before, after = np.array([-1.0, -2.0]), np.array([-3.0, -0.5])
    assert guided(before, after, 1.0).tolist() == before.tolist()
    assert guided(before, after, 0.0).tolist() == after.tolist()
    assert guided(before, after, 2.0).tolist() == [1.0, -3.5]


def test_what_was_memorised_is_extracted_from_the_pair(memory: tuple[AdaptedTokens, AdaptedTokens]) -> None:
    learned, blank = memory
    found = extract(learned, blank, INSERTED[:8])
    assert found.guided > found.after_alone + 0.3
    assert found.same_text > 0.5


def test_common_share_is_the_recall_of_rouge_l() -> None:
    assert common_share([1, 2, 3], [1, 2, 3]) == 1
    assert common_share([9, 1, 8, 3], [1, 2, 3]) == pytest.approx(2 / 3)
    assert common_share([3, 2, 1], [1, 2, 3]) == pytest.approx(1 / 3)
    assert common_share([], [1, 2]) == 0


# ---- canaries ----
def test_canaries_are_new_differ_and_have_uniform_answers() -> None:
    made = with_canaries(TASK, 600, seed=2)
    inserted = made.task.examples(made.inserted)
    assert made.task.pool[: len(TASK.pool)] == TASK.pool
    assert len(inserted) == len(made.held_out) == 600
    every = [*made.task.pool, *made.held_out]
    assert len({example.id for example in every}) == len(every)
    assert len({example.input for example in every}) == len(every)
    counts = np.bincount(made.task.labels(inserted), minlength=3)
    assert ((counts - 200) ** 2 / 200).sum() < 13.8  # chi squared with two degrees: 1 in 1000
    assert made == with_canaries(TASK, 600, seed=2)
    assert made.inserted == with_canaries(TASK, 600, seed=3).inserted
    assert made.held_out != with_canaries(TASK, 600, seed=3).held_out


# ---- probes ----
@pytest.mark.parametrize("wording", [*PARAPHRASES.values(), *PROBES.values()])
def test_a_question_in_other_words_keeps_its_words_and_answer(wording: str) -> None:
    example = Example(1, "Is {options} or {input} meant?", "yes", subject="Ann")
    (asked,) = reworded([example], wording, OPTIONS)
    assert example.input in asked.input
    assert asked.input != example.input
    assert (asked.id, asked.output, asked.subject) == (1, "yes", "Ann")
    assert len(asked.input) - asked.input.count(example.input) * len(example.input) == len(
        wording.replace("{input}", "").replace("{options}", ", ".join(OPTIONS))
    )


def test_linear_probe_finds_a_direction_and_nothing_in_noise() -> None:
    draws = np.random.default_rng(8)
    labels = draws.integers(2, size=300)
    noise = draws.normal(size=(300, 10))
    states = noise + np.outer(2 * labels - 1, np.arange(10)) * 3
    assert probe_accuracy(states[:200], labels[:200], states[200:], labels[200:]) == 1
    assert abs(probe_accuracy(noise[:200], labels[:200], noise[200:], labels[200:]) - 0.5) < 0.2


def test_hidden_states_give_the_logits_of_the_next_token(small: TransformersLLM) -> None:
    example = TASK.pool[0]
    (state,) = hidden_states(small, TEMPLATE, [example])
    tokens, _ = small.tokens(Prompt(TEMPLATE, (), example.input), [example.output])
    with torch.no_grad():
        expected = small.network(input_ids=torch.tensor([tokens])).logits[0, -1]
        logits = small.network.lm_head(torch.tensor(state, dtype=torch.float32))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert hidden_states(small, TEMPLATE, [example], 0).shape == (1, 32)


PARTS: tuple[Part, ...] = ("answer", "text")


@pytest.mark.parametrize("part", PARTS)
def test_two_prompts_end_with_the_same_tokens(small: TransformersLLM, part: Part) -> None:
    shown = PromptedTokens(small, TEMPLATE, lambda _: EXAMPLES[:2])
    bare = PromptedTokens(small, TEMPLATE)
    found = extract(shown, bare, TASK.pool[:1], part=part, weight=0.0)
    assert found.guided == found.after_alone
