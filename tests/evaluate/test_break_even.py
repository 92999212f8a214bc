"""The holistic cost and the break-even of two peers, held against the closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from erase_core.errors import ParameterError
from erase_core.evaluate.measures.break_even import PeerCosts, break_even, holistic, in_unit
from erase_core.evaluate.measures.cost import Cost
from hypothesis import given
from hypothesis import strategies as st

COSTS = st.integers(0, 100).map(float)


def exact(forget: float, query: float, batch: int = 1) -> PeerCosts:
    return PeerCosts((forget,), (query,), batch)


@given(f=COSTS, q=COSTS, g=COSTS, p=COSTS)
def test_the_cheaper_one_is_the_one_with_the_smaller_holistic_cost(f: float, q: float, g: float, p: float) -> None:
    a, b = exact(f, q), exact(g, p)
    found = break_even(a, b, n_samples=2)
    for r in (0.003, 0.7, 1.0, 3.1, 250.7, 1e6):
        cheaper = {
            "always": True,
            "never": False,
            "below": found.r is not None and r < found.r,
            "above": found.r is not None and r > found.r,
        }[found.when]
        costs = holistic(a, r), holistic(b, r)
        if math.isclose(*costs, rel_tol=1e-12) or (found.r is not None and math.isclose(r, found.r)):
            continue
        # "always" includes a tie at one end, where r is 0 or without bound.
        assert cheaper == (costs[0] < costs[1])


def test_the_break_even_is_where_the_lines_cross() -> None:
    """Figures of evaluation.md: SISA-4 by retraining and knn: (90 - 0.016) / (1.31 - 1.16)."""
    knn, sisa = exact(0.016, 1.31), exact(90, 1.16)
    found = break_even(knn, sisa)
    assert found.when == "below"
    assert found.r == pytest.approx((90 - 0.016) / (1.31 - 1.16))
    assert found.low == found.high == pytest.approx(found.r)
    other = break_even(sisa, knn)
    assert other.when == "above"
    assert other.r == pytest.approx(found.r)
    assert holistic(knn, found.r or 0) == pytest.approx(holistic(sisa, found.r or 0))


@pytest.mark.parametrize(
    ("a", "b", "when"),
    [((1, 1), (2, 2), "always"), ((2, 2), (1, 1), "never"), ((1, 1), (1, 2), "always"), ((1, 1), (1, 1), "never")],
)
def test_lines_that_do_not_cross(a: tuple[float, float], b: tuple[float, float], when: str) -> None:
    found = break_even(exact(*a), exact(*b))
    assert (found.when, found.r, found.certainty) == (when, None, 1.0)
    assert math.isnan(found.low)
    assert str(found) == when


def test_a_batch_divides_the_cost_of_a_removal() -> None:
    assert holistic(exact(90, 1, batch=10), 3) == 90 / (10 * 3) + 1
    assert break_even(exact(90, 1, batch=10), exact(0, 2)).r == 9


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0)
    truth, n, covered = (60 - 5) / (1.5 - 1), 200, 0
    for seed in range(n):
        a, b = (
            PeerCosts(tuple(draws.normal(f, f / 10, 30)), tuple(draws.normal(q, q / 20, 30)))
            for f, q in ((60, 1), (5, 1.5))
        )
        found = break_even(a, b, level=0.9, n_samples=300, seed=seed)
        assert found.r is not None
        assert found.low <= found.r <= found.high
        covered += found.low <= truth <= found.high
    # A percentile bootstrap of 30 is a little short of its level.
    assert 0.9 - 4 * (0.09 / n) ** 0.5 - 0.03 < covered / n


def test_a_peer_that_may_never_be_cheaper_has_an_interval_without_end() -> None:
    # All three draws are 0 with a probability of 1/27, which is more than 0.025; then it is the other's query alone.
    found = break_even(PeerCosts((10.0,), (0.0, 2.1, 1.0)), exact(9, 1.04))
    assert found.when == "above"
    assert 0.3 < found.certainty < 0.9
    assert (found.low, found.high) == (1 / 1.04, math.inf)


def test_draws_in_which_the_other_peer_is_cheaper_widen_the_interval_at_both_ends() -> None:
    a, b = PeerCosts((0.0, 13.0), (0.0, 3.0)), PeerCosts((6.0,), (1.6,))  # both differences change their sign
    found = break_even(a, b)
    assert (found.when, found.low, found.high) == ("above", 0, math.inf)


def test_the_same_seed_gives_the_same_interval() -> None:
    a, b = PeerCosts((8.0, 10.0, 13.0), (1.0, 1.2)), PeerCosts((1.0,), (2.0, 2.5))
    assert break_even(a, b, seed=3) == break_even(a, b, seed=3)


def test_units() -> None:
    cost = Cost(3.0, 2.0, 100, 40)
    assert [in_unit(cost, unit) for unit in ("processor_seconds", "wall_seconds", "tokens")] == [3.0, 2.0, 180.0]
    assert PeerCosts.of([cost], [cost, Cost()], "tokens", batch=4) == PeerCosts((180.0,), (180.0, 0.0), 4)


def test_costs_are_checked() -> None:
    for wrong in ((), (-1.0,), (math.nan,)):
        with pytest.raises(ParameterError, match="forget"):
            PeerCosts(wrong, (1.0,))
    with pytest.raises(ParameterError, match="batch"):
        exact(1, 1, batch=0)
