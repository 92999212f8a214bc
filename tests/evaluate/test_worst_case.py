"""The search for hard forget sets: its projection, toys that can be searched completely, and an adapter."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from erase_core.evaluate.adapters.adapted_model import AdaptedModel
from erase_core.evaluate.adapters.training import TrainingSettings, train
from erase_core.evaluate.attacks.worst_forget_sets import AscentLosses, project, unlearned_loss, worst_forget_set
from erase_core.examples.example import Example
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Template
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

Floats = NDArray[np.float64]
values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)


def closed_form(v: Floats, total: float) -> Floats:
    """The projection by sorting: between neighbouring breakpoints v and v - 1, the sum is linear in t."""

    def sum_at(t: float) -> float:
        return float(np.minimum(np.maximum(v - t, 0), 1).sum())

    breaks = np.sort(np.concatenate([v, v - 1]))
    for low, high in itertools.pairwise(breaks):
        if sum_at(low) >= total >= sum_at(high):
            inside = ((v - 1 <= low) & (v >= high)).sum()
            t = low + (sum_at(low) - total) / inside if inside else low
            return np.asarray(np.minimum(np.maximum(v - t, 0), 1))
    raise AssertionError("no interval has the total")


@given(values, st.floats(0, 1))
def test_projection_sums_to_the_total_and_is_the_closed_form(v: list[float], share: float) -> None:
    total = share * len(v)
    found = project(v, total)
    assert abs(found.sum() - total) < 1e-5
    assert found.min() >= 0
    assert found.max() <= 1
    np.testing.assert_allclose(found, closed_form(np.array(v), total), atol=1e-7)


@given(values, st.integers(0, 2**32 - 1))
def test_no_feasible_point_is_nearer_than_the_projection(v: list[float], seed: int) -> None:
    draws = np.random.default_rng(seed)
    total = float(draws.integers(len(v) + 1))
    found = project(v, total)
    for _ in range(5):
        point = np.zeros(len(v))
        point[draws.permutation(len(v))[: int(total)]] = 1
        # The projection makes an obtuse angle with every direction into a convex set.
        assert (np.array(v) - found) @ (point - found) <= 1e-6 * (1 + np.abs(v).max())


def test_total_out_of_range() -> None:
    with pytest.raises(ValueError, match="from 0 to 2"):
        project([0.0, 1.0], 2.5)


def quadratics(seed: int, n: int = 12) -> Callable[[Floats], Floats]:
    """Convex losses of candidates, and one step of gradient ascent from their common minimum."""
    draws = np.random.default_rng(seed)
    centres = draws.normal(size=(n, 3))
    curvatures = draws.uniform(0.5, 2.0, size=n)
    start = (curvatures @ centres) / curvatures.sum()

    def losses(weights: Floats) -> Floats:
        gradient = (weights * curvatures) @ (start - centres) / weights.sum()
        theta = start + 0.1 * gradient
        return np.asarray(0.5 * curvatures * ((theta - centres) ** 2).sum(axis=1))

    return losses


@pytest.mark.parametrize("seed", range(8))
def test_one_example_is_the_one_that_brute_force_finds(seed: int) -> None:
    losses = quadratics(seed)
    by_brute_force = min(range(12), key=lambda i: unlearned_loss(losses, 12, [i]))
    found = worst_forget_set(losses, 12, 1, steps=200)
    assert found.chosen == (by_brute_force,)
    assert found.weights.sum() == pytest.approx(1, abs=1e-5)


def test_sets_are_worse_than_almost_all_others() -> None:
    losses = quadratics(100)
    found = worst_forget_set(losses, 12, 3, steps=100)
    every = [unlearned_loss(losses, 12, some) for some in itertools.combinations(range(12), 3)]
    own = unlearned_loss(losses, 12, found.chosen)
    assert np.mean([other < own for other in every]) < 0.02
    assert found.losses[-1] < found.losses[0]
    assert len(found.losses) == 100


# ---- an adapter ----
EXAMPLES = [
    Example(i, f"What is {word}?", answer) for i, (word, answer) in enumerate(zip("abcdef", "uvwxyz", strict=True))
]


@pytest.fixture(scope="module")
def trained(folders: Callable[[str], Path]) -> AscentLosses:
    model = AdaptedModel(TransformersLLM(folders("llama")))
    model.reset(0)
    train(model, EXAMPLES, Template(), 0, TrainingSettings(passes=12, rate=1e-2))
    return AscentLosses(model, model.state(), EXAMPLES, Template(), rate=3e-3, batch=4)


def test_ascent_raises_the_loss_of_what_is_unlearned_and_leaves_the_model_as_it_was(trained: AscentLosses) -> None:
    model = trained.model
    with torch.no_grad(), model.active():
        before = model.losses(trained.encoded).double().numpy()
    for place in range(6):
        weights = np.eye(6)[place]
        assert trained(weights)[place] > before[place]
    assert all(torch.equal(weights, trained.state[name]) for name, weights in model.state().items())
    assert all(weights.grad is None for weights in model.parameters().values())


def test_step_is_the_sign_of_the_weighted_gradient(trained: AscentLosses) -> None:
    model, weights = trained.model, np.array([0.5, 0.0, 1.0, 0.25, 0.0, 0.25])
    model.load(trained.state)
    with model.active():
        share = torch.tensor(weights / 2.0, dtype=torch.float32)
        (share * model.losses(trained.encoded)).sum().backward()
        moved = {
            name: each + 3e-3 * each.grad.sign() for name, each in model.parameters().items() if each.grad is not None
        }
        model.load({name: each.detach() for name, each in moved.items()})
        with torch.no_grad():
            expected = model.losses(trained.encoded).double().numpy()
    for each in model.parameters().values():
        each.grad = None
    np.testing.assert_allclose(trained(weights), expected, rtol=0.02, atol=0.02)


def test_search_over_an_adapter_finds_a_hard_example(trained: AscentLosses) -> None:
    found = worst_forget_set(trained, 6, 1, steps=8, eta=0.3)
    every = sorted(unlearned_loss(trained, 6, [i]) for i in range(6))
    assert unlearned_loss(trained, 6, found.chosen) <= every[2]
