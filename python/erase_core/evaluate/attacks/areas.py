"""The area under a ROC curve, with its interval, and the difference of two areas over the same examples.

Intervals of 95 % are by DeLong, DeLong and Clarke-Pearson (Biometrics 1988), normal and cut to [0, 1]. Where all
members score higher than all others, or all lower, their variance is 0. Then the bound for an area of 1 is 0.025^(1/m),
with m the size of the smaller group: m disjoint pairs are all in order with the m-th power of the area as probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Interval", "area", "area_difference"]

Floats = NDArray[np.float64]
TWO_SIDED = 1.959963984540054
TAIL = 0.025


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its interval of 95 %."""

    value: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def area(scores: ArrayLike, is_member: ArrayLike) -> Interval:
    """Return the probability that a member scores higher than another example; ties count half.

    Parameters
    ----------
    scores : array-like of shape (n,)
    is_member : array-like of bool of shape (n,)
        Two of each kind at least.

    Raises
    ------
    ValueError
        There are fewer than two members, or fewer than two others, or a score is not a number.
    """
    value, ours, others = _components(scores, is_member)
    half = TWO_SIDED * np.sqrt(_variance(ours, others))
    low, high = max(value - half, 0.0), min(value + half, 1.0)
    bound = TAIL ** (1 / min(len(ours), len(others)))
    if value == 1:
        low = bound
    elif value == 0:
        high = 1 - bound
    return Interval(value, float(low), float(high))


def area_difference(first: ArrayLike, second: ArrayLike, is_member: ArrayLike) -> Interval:
    """Return the area of the first scores minus that of the second, paired by example (DeLong, as in `area`).

    Parameters
    ----------
    first, second : array-like of shape (n,)
        Scores of the same examples in two worlds.
    is_member : array-like of bool of shape (n,)
    """
    a, a_ours, a_others = _components(first, is_member)
    b, b_ours, b_others = _components(second, is_member)
    half = TWO_SIDED * np.sqrt(_variance(a_ours - b_ours, a_others - b_others))
    return Interval(a - b, float(a - b - half), float(a - b + half))


def _components(scores: ArrayLike, is_member: ArrayLike) -> tuple[float, Floats, Floats]:
    """Return the area, for each member the share of others below it, and for each other the share of members above."""
    values, member = np.asarray(scores, dtype=np.float64), np.asarray(is_member, dtype=bool)
    if member.sum() < 2 or (~member).sum() < 2:
        raise ValueError(f"an area needs two members and two others, got {member.sum()} and {(~member).sum()}")
    if np.isnan(values).any():
        raise ValueError("scores must be numbers, got NaN")
    ours, others = values[member], values[~member]
    higher = (ours[:, None] > others) + 0.5 * (ours[:, None] == others)
    return float(higher.mean()), higher.mean(axis=1), higher.mean(axis=0)


def _variance(ours: Floats, others: Floats) -> float:
    return float(ours.var(ddof=1) / len(ours) + others.var(ddof=1) / len(others))
