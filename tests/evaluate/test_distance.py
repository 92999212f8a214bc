"""Distances to retraining: known answers, and zeros only where bits were compared."""

from __future__ import annotations

import math

import numpy as np
import pytest
from erase_core.evaluate.measures.distance import bits_equal, klom, margins, option_kl
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
