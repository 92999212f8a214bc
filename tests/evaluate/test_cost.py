"""What is counted: tokens by hooks of the network, peak memory, and costs within costs."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from erase_core.evaluate.adapters.adapted_model import AdaptedModel
from erase_core.evaluate.measures import cost as module
from erase_core.evaluate.measures.cost import Cost, add_cost, count_tokens_of, measured
from erase_core.examples.example import Example
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Prompt, Template
from small_models import OPTIONS, prompt

MEGABYTE = 2**20
needs_linux = pytest.mark.skipif(not module.PROCESS.exists(), reason="needs /proc")


def answered(llm: TransformersLLM, asked: Prompt, options: Sequence[str]) -> int:
    with measured() as meter:
        llm.choose(asked, options)
    return meter.cost.tokens_forward


# ---- tokens ----
def test_a_cold_query_reads_the_prompt_and_a_warm_one_what_follows_it(small: TransformersLLM) -> None:
    count_tokens_of(small.network)
    count_tokens_of(small.network)  # counts nothing twice
    asked = prompt(shots=3)
    shared, continuations = small.tokens(asked, OPTIONS)
    small.forget()
    cold, warm = answered(small, asked, OPTIONS), answered(small, asked, OPTIONS)
    # The last token of an option is predicted, and never read.
    options = sum(len(tokens) - 1 for tokens in continuations)
    assert cold == len(shared) + options
    assert warm == cold - small._memory.n_tokens
    small.forget()
    assert answered(small, asked, OPTIONS) == cold


def test_a_run_counts_forward_and_a_gradient_backward(small: TransformersLLM) -> None:
    model = AdaptedModel(small)
    encoded = [model.encode(Example(i, text, "yes"), Template()) for i, text in enumerate(("Is it?", "Is it not so?"))]
    n = sum(len(each.tokens) for each in encoded)  # they differ in length, so one of them is padded
    with model.active():
        with measured() as meter, torch.no_grad():
            model.losses(encoded)
        assert (meter.cost.tokens_forward, meter.cost.tokens_backward) == (n, 0)
        with measured() as outer, measured() as meter:
            loss = model.losses(encoded).mean()
            assert (meter.tokens_forward, meter.tokens_backward) == (n, 0)
            loss.backward()
        assert (meter.cost.tokens_forward, meter.cost.tokens_backward) == (n, n)
        assert outer.cost.tokens_backward == n
        # A gradient of hidden states counts too, and only once.
        with measured() as meter:
            tokens = torch.tensor([encoded[0].tokens])
            states = model.network(input_ids=tokens, output_hidden_states=True).hidden_states
            (states[-1].sum() + states[1].sum()).backward()
        assert meter.cost.tokens_backward == len(encoded[0].tokens)


# ---- memory ----
@needs_linux
def test_the_peak_is_what_was_resident_at_once() -> None:
    with measured() as outer:
        with measured() as first:
            np.ones(64 * MEGABYTE, dtype=np.uint8)  # freed at once
        with measured() as second:
            time.sleep(0.001)
    assert 60 * MEGABYTE < first.cost.peak_bytes < 90 * MEGABYTE
    assert second.cost.peak_bytes < 20 * MEGABYTE
    assert outer.cost.peak_bytes >= first.cost.peak_bytes - MEGABYTE


def test_the_peak_is_0_where_it_cannot_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROCESS", module.PROCESS / "missing")
    with measured() as meter:
        np.ones(MEGABYTE)
    assert meter.cost.peak_bytes == 0


# ---- costs ----
def test_costs_add_up_and_peaks_do_not() -> None:
    assert Cost(1, 2, 3, 4, 50) + Cost(10, 20, 30, 40, 5) == Cost(11, 22, 33, 44, 50)


def test_earlier_costs_are_added() -> None:
    with measured() as meter:
        add_cost(Cost(100.0, 200.0, 7, 8, 0))
    assert (meter.cost.tokens_forward, meter.cost.tokens_backward) == (7, 8)
    assert 100 <= meter.cost.processor_seconds < 101
