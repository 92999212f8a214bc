"""Areas under ROC curves: analytic areas, the formulas of DeLong written out, and the coverage of intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from erase_core.evaluate.attacks.areas import area, area_difference
from scipy.stats import norm
from sklearn.metrics import roc_auc_score


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_area_of_a_constructed_score(shift: float) -> None:
    n = 3000
    member = np.arange(2 * n) < n
    scores = np.random.default_rng(3).normal(size=2 * n) + shift * member
    found = area(scores, member)
    assert norm.cdf(shift / math.sqrt(2)) in found
    assert found.value == pytest.approx(roc_auc_score(member, scores), abs=1e-12)
    assert found.high - found.low < 0.03


def test_intervals_cover_the_area_in_19_of_20_draws() -> None:
    draws, truth = np.random.default_rng(4), norm.cdf(1 / math.sqrt(2))
    member = np.arange(120) < 60
    covered = [truth in area(draws.normal(size=120) + member, member) for _ in range(400)]
    # 0.95 within four standard deviations, 0.044, and some for the normal approximation.
    assert abs(np.mean(covered) - 0.95) < 0.05


def test_ties_count_half() -> None:
    assert area([1, 1, 1, 1], [True, True, False, False]).value == 0.5
    assert area([2, 1, 1, 0], [True, True, False, False]).value == 3.5 / 4


def test_interval_of_a_perfect_attack_has_a_width() -> None:
    member = [True] * 10 + [False] * 20
    found = area(np.array(member, dtype=float), member)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low**10 == pytest.approx(0.025)
    below = area(-np.array(member, dtype=float), member)
    assert (below.value, below.low) == (0.0, 0.0)
    assert below.high == pytest.approx(1 - found.low)


def test_difference_is_paired() -> None:
    draws = np.random.default_rng(5)
    member = np.arange(40) < 15
    first = draws.normal(size=40) + member
    second = first + 0.3 * draws.normal(size=40)
    found = area_difference(first, second, member)

    def kernel(a: float, b: float) -> float:
        return float(a > b) + 0.5 * float(a == b)

    def structural(scores: np.ndarray) -> tuple[list[float], list[float]]:
        ours, others = scores[member], scores[~member]
        return (
            [float(np.mean([kernel(a, b) for b in others])) for a in ours],
            [float(np.mean([kernel(a, b) for a in ours])) for b in others],
        )

    (v1, w1), (v2, w2) = structural(first), structural(second)
    s10, s01 = np.cov(v1, v2), np.cov(w1, w2)
    covariance = s10 / 15 + s01 / 25
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert found.value == pytest.approx(np.mean(v1) - np.mean(v2), abs=1e-12)
    assert found.high - found.value == pytest.approx(norm.ppf(0.975) * math.sqrt(variance), rel=1e-9)
    # Far narrower than if the two areas were independent.
    assert variance < 0.3 * (covariance[0, 0] + covariance[1, 1])


def test_equal_scores_have_no_difference() -> None:
    scores, member = np.random.default_rng(0).normal(size=20), np.arange(20) < 9
    found = area_difference(scores, scores, member)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_too_few_examples_or_no_number() -> None:
    with pytest.raises(ValueError, match="two members"):
        area([1.0, 2.0, 3.0], [True, False, False])
    with pytest.raises(ValueError, match="NaN"):
        area([1.0, 2.0, 3.0, math.nan], [True, True, False, False])
