"""A model with an adapter: several sequences in one run give what each gives alone, for every kind of model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from erase_core.errors import LLMError, PromptTooLongError
from erase_core.evaluate.adapters import packing
from erase_core.evaluate.adapters.adapted_model import AdaptedModel
from erase_core.evaluate.measures.cost import measured
from erase_core.examples.example import Example
from erase_core.libraries import torch_threads
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Prompt
from fine_tuning import OPTIONS, TEMPLATE, adapted, examples, fill, same
from hypothesis import given
from hypothesis import strategies as st
from small_models import CONTEXT, make_model

KINDS = ("llama", "absolute", "sliding", "softcap")
EXAMPLES = examples(7)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AdaptedModel:
    made = adapted(tmp_path_factory.mktemp(request.param), request.param)
    fill(made)
    return made


def test_both_ways_of_running_are_tested(tmp_path: Path) -> None:
    takes = {kind: TransformersLLM(make_model(tmp_path / kind, kind)).takes_masks for kind in KINDS}
    assert takes == {"llama": True, "absolute": True, "sliding": False, "softcap": False}


def test_the_logits_of_answers_are_those_of_each_example_run_alone(model: AdaptedModel) -> None:
    batch = [model.encode(each, TEMPLATE) for each in EXAMPLES]
    with model.active(), torch.no_grad():
        found = model.answer_logits(batch)
        for each, logits in zip(batch, found, strict=True):
            whole = model.network(input_ids=torch.tensor([each.tokens])).logits[0]
            torch.testing.assert_close(logits, whole[each.n_prompt - 1 : -1], rtol=1e-4, atol=1e-4)


def test_padded_and_packed_runs_have_the_same_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(tmp_path)
    fill(model)
    batch = [model.encode(each, TEMPLATE) for each in EXAMPLES]

    def gradients() -> list[torch.Tensor]:
        with model.active():
            return list(torch.autograd.grad(model.losses(batch).mean(), list(model.parameters().values())))

    packed = gradients()
    monkeypatch.setattr(TransformersLLM, "takes_masks", False)
    for one, other in zip(packed, gradients(), strict=True):
        assert one.any()
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_scores_are_those_of_choose(model: AdaptedModel) -> None:
    with model.active():
        found = model.scores(EXAMPLES, OPTIONS, TEMPLATE)
        chosen = [model.llm.choose(Prompt(TEMPLATE, (), each.input), OPTIONS).scores for each in EXAMPLES]
    expected = np.array([[scores[option] for option in OPTIONS] for scores in chosen])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    without = model.scores(EXAMPLES, OPTIONS, TEMPLATE)
    assert np.abs(found - without).max() > 1e-2  # the adapter is off again


def test_there_may_be_no_question(model: AdaptedModel) -> None:
    assert model.scores([], OPTIONS, TEMPLATE).shape == (0, len(OPTIONS))


@given(st.lists(st.integers(1, 20)), st.integers(1, 30))
def test_groups_are_all_sequences_in_order_and_as_large_as_allowed(lengths: list[int], most: int) -> None:
    found = list(packing.groups(lengths, most))
    assert [place for start, stop in found for place in range(start, stop)] == list(range(len(lengths)))
    assert all(sum(lengths[start:stop]) <= most or stop - start == 1 for start, stop in found)
    assert all(sum(lengths[a:b]) + lengths[b] > most for (a, b), _ in pairwise(found))


def test_tokens_are_counted(model: AdaptedModel) -> None:
    batch = [model.encode(each, TEMPLATE) for each in EXAMPLES]
    with measured() as meter, model.active():
        model.losses(batch).sum().backward()
        with torch.no_grad():
            model.losses(batch[:2])
    n_tokens, read_only = (sum(len(each.tokens) for each in part) for part in (batch, batch[:2]))
    assert (meter.cost.tokens_forward, meter.cost.tokens_backward) == (n_tokens + read_only, n_tokens)


def test_a_new_adapter_depends_on_its_seed_alone_and_changes_no_answer(model: AdaptedModel) -> None:
    before = model.state()
    model.reset(1)
    first = model.state()
    with model.active():
        found = model.scores(EXAMPLES, OPTIONS, TEMPLATE)
    np.testing.assert_allclose(found, model.scores(EXAMPLES, OPTIONS, TEMPLATE), rtol=1e-5, atol=1e-5)
    model.reset(2)
    assert not same(model.state(), first)
    model.reset(1)
    assert same(model.state(), first)
    model.load(before)
    assert same(model.state(), before)


def test_layers_are_numbered_from_the_bottom(model: AdaptedModel) -> None:
    assert model.layers == (0, 1)


def test_an_example_that_does_not_fit_into_the_context_is_refused(model: AdaptedModel) -> None:
    long = Example(1, "x" * CONTEXT, OPTIONS[0])
    for call in (lambda: model.encode(long, TEMPLATE), lambda: model.scores([long], OPTIONS, TEMPLATE)):
        with pytest.raises(PromptTooLongError):
            call()


def test_a_model_that_peft_does_not_know_is_one_clear_error(tmp_path: Path) -> None:
    llm = TransformersLLM(make_model(tmp_path, "llama"))
    llm.network.config.model_type = "novel"
    with pytest.raises(LLMError, match=r"which layers of a novel model to adapt\. Use another model"):
        AdaptedModel(llm)
