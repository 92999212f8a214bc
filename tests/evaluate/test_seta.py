"""SeTa: a pass is a pure function of losses, seed and iteration; the window goes over all groups, easy ones first."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from erase_core.errors import ParameterError
from erase_core.evaluate.adapters.seta import SeTa, loss_groups, pruned_orders, pruned_pass
from numpy.typing import NDArray

N = 200
LOSSES: NDArray[np.float64] = np.random.default_rng(0).gamma(1.0, size=N)
IDS = list(range(100, 100 + N))
ALL = SeTa(keep=1.0)


def test_groups_are_a_partition_from_easy_to_hard_without_overlap() -> None:
    groups = loss_groups(LOSSES, IDS, 10, 0)
    assert len(groups) == 10
    assert sorted(np.concatenate(groups).tolist()) == list(range(N))
    for easier, harder in pairwise(groups):
        assert LOSSES[easier].max() <= LOSSES[harder].min()


def test_windows_go_over_all_groups_and_begin_again() -> None:
    """With G groups and a window of W, pass `it` starts at group `it mod (G - W + 1)`."""
    means = []
    seen: set[int] = set()
    period = ALL.groups - ALL.window + 1
    for iteration in range(1, 1 + period):
        places = pruned_pass(LOSSES, IDS, 0, iteration, ALL)
        assert len(set(places.tolist())) == len(places) < N
        seen |= set(places.tolist())
        means.append(LOSSES[places].mean())
    assert seen == set(range(N))
    # Starts 1, 2, ..., G - W, and then 0, which is the easiest.
    assert means[:-1] == sorted(means[:-1])
    assert means[-1] == min(means)


def test_a_window_is_the_groups_from_its_start() -> None:
    """Losses that are clearly in four groups, so that any clustering must find them."""
    losses = np.repeat([0.0, 1.0, 2.0, 3.0], 5) + np.tile(np.linspace(0, 0.01, 5), 4)
    settings = SeTa(keep=1.0, groups=4, window=2)
    for iteration in range(1, 8):
        start = iteration % 3
        found = pruned_pass(losses, list(range(20)), 1, iteration, settings)
        assert sorted(found.tolist()) == list(range(5 * start, 5 * start + 10))
    assert sorted(pruned_pass(losses, list(range(20)), 1, 0, settings).tolist()) == list(range(20))


def test_a_pass_is_a_function_of_losses_seed_and_iteration() -> None:
    first = pruned_pass(LOSSES, IDS, 0, 3, SeTa()).tolist()
    assert pruned_pass(LOSSES.copy(), IDS, 0, 3, SeTa()).tolist() == first
    assert pruned_pass(LOSSES, IDS, 1, 3, SeTa()).tolist() != first
    assert pruned_pass(LOSSES, IDS, 0, 4, SeTa()).tolist() != first
    assert pruned_pass(LOSSES * np.linspace(2, 0, N), IDS, 0, 3, SeTa()).tolist() != first


def test_groups_do_not_depend_on_the_order_of_examples() -> None:
    order = np.random.default_rng(1).permutation(N)
    there = {frozenset(group.tolist()) for group in loss_groups(LOSSES, IDS, 10, 0)}
    shuffled = loss_groups(LOSSES[order], [IDS[i] for i in order], 10, 0)
    assert {frozenset(order[group].tolist()) for group in shuffled} == there


@pytest.mark.parametrize("keep", [0.3, 0.9, 1.0])
def test_the_random_step_keeps_its_proportion(keep: float) -> None:
    for iteration in (0, 5):
        places = pruned_pass(LOSSES, IDS, 0, iteration, SeTa(keep=keep), windowed=False)
        assert len(set(places.tolist())) == len(places) == round(keep * N)


def test_the_last_passes_use_no_window() -> None:
    lengths = [len(order) for order in pruned_orders(IDS, LOSSES, 8, 0, SeTa(keep=1.0, until=0.75))]
    assert [length == N for length in lengths] == [True, *[False] * 5, True, True]


def test_losses_are_read_when_a_pass_begins() -> None:
    losses = np.zeros(N)
    orders = pruned_orders(IDS, losses, 8, 0, ALL)
    next(orders)
    losses[:] = LOSSES
    assert next(orders) == pruned_pass(LOSSES, IDS, 0, 1, ALL).tolist()


@pytest.mark.parametrize("n", [0, 1, 2, 12])
def test_few_examples_or_equal_losses_leave_a_pass_that_is_not_empty(n: int) -> None:
    for losses in (np.ones(n), LOSSES[:n], np.array([1e-7] * (n - 1) + [9.0] * (n > 0))):
        for iteration in range(8):
            assert bool(len(pruned_pass(losses, IDS[:n], 0, iteration, SeTa()))) == bool(n)


@pytest.mark.parametrize("bad", [{"keep": 0.0}, {"keep": 1.5}, {"until": 0.0}, {"window": 0}, {"window": 11}])
def test_bad_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match=f"{next(iter(bad))} must be"):
        SeTa(**bad)  # type: ignore[arg-type]
