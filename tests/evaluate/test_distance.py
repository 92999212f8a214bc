"""Distances to retraining: known answers, and zeros only where bits were compared."""

from __future__ import annotations

import math

import numpy as np
import pytest
from erase_core.evaluate.measures.distance import GROUPS, Distance, bits_equal, distance_rows, klom, margins, option_kl
from numpy.typing import NDArray
from scipy.stats import norm


def test_margin_is_the_log_odds_of_the_right_option() -> None:
    shares = np.array([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]])
    expected = [math.log(0.7 / 0.3), math.log(0.25 / 0.75)]
    np.testing.assert_allclose(margins(np.log(shares) + 5, [0, 2]), expected, rtol=1e-12)


def test_margins_are_clipped() -> None:
    scores = np.array([[0.0, -1e4], [-1e4, 0.0]])
    assert margins(scores, [0, 0]).tolist() == [100.0, -100.0]


def test_klom_of_equal_sets_is_zero() -> None:
    values = np.random.default_rng(0).normal(size=(7, 5))
    assert klom(values, values[::-1]).tolist() == [0.0] * 5
    assert klom(np.ones((3, 2)), np.ones((4, 2))).tolist() == [0.0, 0.0]


def test_klom_of_two_gaussians() -> None:
    n = 200_000
    draws = np.random.default_rng(1)
    p, q = draws.normal(1.0, 0.8, (n, 1)), draws.normal(0.3, 1.0, (n, 1))
    analytic = math.log(1.0 / 0.8) + (0.8**2 + 0.7**2) / 2 - 0.5
    (value,) = klom(p, q)
    # Bins of a quarter lose a few percent, and can only lose.
    assert 0.93 * analytic < value < 1.01 * analytic
    # And the KL of the binned distributions, from their distribution functions.
    edges = np.linspace(min(p.min(), q.min()), max(p.max(), q.max()), 21)
    binned_p, binned_q = np.diff(norm.cdf(edges, 1.0, 0.8)), np.diff(norm.cdf(edges, 0.3, 1.0))
    assert value == pytest.approx(np.sum(binned_p * np.log(binned_p / binned_q)), abs=0.003)


def test_klom_of_disjoint_sets_has_the_floor() -> None:
    # Half of the bins are empty on either side: each side has one full bin.
    (value,) = klom([[0.0]] * 4, [[1.0]] * 4)
    total = 1 + 19e-5
    assert value == pytest.approx((1 - 1e-5) / total * math.log(1e5), rel=1e-12)


def test_kl_of_options_is_a_sum_over_options_and_ignores_constants() -> None:
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert option_kl(np.log(p)[None] + 3, np.log(q)[None] - 8) == pytest.approx([expected], rel=1e-12)


@pytest.mark.parametrize(
    "other",
    [
        np.array([1.0, -0.0]),
        np.array([1.0, 0.0], dtype=np.float32),
        np.array([[1.0, 0.0]]),
        np.array([np.nextafter(1.0, 2.0), 0.0]),
    ],
)
def test_bits_differ(other: NDArray[np.floating]) -> None:
    assert bits_equal(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    assert not bits_equal(np.array([1.0, 0.0]), other)


def test_zero_is_printed_only_after_a_comparison() -> None:
    scores = np.random.default_rng(0).normal(size=(4, 3))
    assert str(Distance.between(scores, scores.copy())) == "0"
    # Another constant for each question: the distributions are the same, the bits are not.
    shifted = Distance.between(scores, scores + 1)
    assert not shifted.same_bits
    assert str(shifted) == "< 0.0001"
    assert str(Distance(0.0)) == "< 0.0001"
    assert str(Distance(-1e-17)) == "< 0.0001"
    assert str(Distance(0.04321)) == "0.0432"
    with pytest.raises(ValueError, match="must be 0"):
        Distance(0.1, same_bits=True)


def test_rows_are_means_over_retrains_beside_doing_nothing_and_the_floor() -> None:
    draws = np.random.default_rng(2)
    before, after, *retrains = ({group: draws.normal(size=(6, 3)) for group in GROUPS} for _ in range(5))
    ours, nothing, floor = distance_rows(before, after, retrains, twin=after)
    assert [row.name for row in (ours, nothing, floor)] == ["after", "do nothing", "floor"]
    for group in GROUPS:
        expected = np.mean([option_kl(each[group], after[group]).mean() for each in retrains])
        assert ours.to_retrains[group].value == pytest.approx(expected, rel=1e-12)
        among = [option_kl(a[group], b[group]).mean() for a in retrains for b in retrains if a is not b]
        assert len(among) == 6
        assert floor.to_retrains[group].value == pytest.approx(np.mean(among), rel=1e-12)
        assert ours.to_twin is not None
        assert str(ours.to_twin[group]) == "0"
        assert nothing.to_twin is not None
        assert not nothing.to_twin[group].same_bits
    assert floor.to_twin is None
    assert len(distance_rows(before, after, retrains[:1])) == 2
