"""The holistic cost of a peer, removals and queries together, and from how many queries on one peer is cheaper.

This is our own definition, not compared with Definition 4.1 of the ERASE paper: with r queries for each removal, and
removals done b at once,

    H_r = C_forget(b) / (b r) + C_query

is the cost of a query with its share of the removals. The cost of a removal with its queries is r H_r, which is
C_forget(b) / b + r C_query. C_forget(b) is the cost of one call that forgets b examples, as measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from erase_core.errors import ParameterError
from erase_core.evaluate.measures.cost import Cost

__all__ = ["BreakEven", "PeerCosts", "Unit", "break_even", "holistic", "in_unit"]

Unit = Literal["processor_seconds", "wall_seconds", "tokens"]
When = Literal["always", "never", "below", "above"]
Values = NDArray[np.float64]


def in_unit(cost: Cost, unit: Unit) -> float:
    """Return a cost as one number.

    Parameters
    ----------
    cost : Cost
    unit : {"processor_seconds", "wall_seconds", "tokens"}
        "tokens": those forward, and twice those backward, since a backward pass takes about twice the operations of a
        forward one (Kaplan et al., 2020).
    """
    if unit == "tokens":
        return float(cost.tokens_forward + 2 * cost.tokens_backward)
    return cost.processor_seconds if unit == "processor_seconds" else cost.wall_seconds


@dataclass(frozen=True)
class PeerCosts:
    """Measured costs of a peer in one unit.

    Parameters
    ----------
    forget : tuple of float
        Of repeated calls that forget `batch` examples each, at least one.
    query : tuple of float
        Of repeated queries, at least one.
    batch : int, default=1
        Examples that a call forgets.
    """

    forget: tuple[float, ...]
    query: tuple[float, ...]
    batch: int = 1

    def __post_init__(self) -> None:
        for name in ("forget", "query"):
            values = getattr(self, name)
            if not values or not all(math.isfinite(value) and value >= 0 for value in values):
                raise ParameterError(f"{name} must have costs of 0 or more, at least one, got {values!r}")
        if self.batch < 1:
            raise ParameterError(f"batch must be at least 1, got {self.batch!r}")

    @classmethod
    def of(cls, forget: Sequence[Cost], query: Sequence[Cost], unit: Unit, batch: int = 1) -> PeerCosts:
        """Return measured costs in one unit."""
        forgets, queries = (tuple(in_unit(cost, unit) for cost in costs) for costs in (forget, query))
        return cls(forgets, queries, batch)

    @property
    def removal(self) -> float:
        """Mean cost of one removal: of a call, divided by the examples that it forgets."""
        return float(np.mean(self.forget)) / self.batch

    @property
    def per_query(self) -> float:
        """Mean cost of a query."""
        return float(np.mean(self.query))

    def resampled(self, n: int, draws: np.random.Generator) -> tuple[Values, Values]:
        """Return `n` bootstrap means of a removal and of a query, each of shape (n,)."""
        means = [
            draws.choice(np.array(values, dtype=np.float64), (n, len(values))).mean(axis=1)
            for values in (self.forget, self.query)
        ]
        return means[0] / self.batch, means[1]


@dataclass(frozen=True)
class BreakEven:
    """For which numbers of queries for each removal a peer is cheaper than another.

    Parameters
    ----------
    when : {"always", "never", "below", "above"}
        "below": it is cheaper with fewer than `r` queries for each removal. "above": with more.
    r : float or None
        The break-even; None for "always" and "never".
    low, high : float
        Interval of the break-even: percentiles of the bootstrap. 0 and infinity stand for a peer that is cheaper always
        or never. Both are nan for "always" and "never".
    certainty : float
        Share of the bootstrap samples with the same `when`. With one repeat of each it is 1 and says nothing.
    """

    when: When
    r: float | None
    low: float
    high: float
    certainty: float

    def __str__(self) -> str:
        if self.r is None:
            return self.when
        return f"{self.when} {self.r:.3g} queries a removal ({self.low:.3g} to {self.high:.3g})"


def holistic(costs: PeerCosts, r: float) -> float:
    """Return H_r, the cost of a query with its share of the removals, with r queries for each removal, r above 0."""
    return costs.removal / r + costs.per_query


def break_even(a: PeerCosts, b: PeerCosts, *, level: float = 0.95, n_samples: int = 2000, seed: int = 0) -> BreakEven:
    """Return for which numbers of queries peer `a` is cheaper than peer `b`.

    The means are equal at r = (F_a - F_b) / (Q_b - Q_a), with F the cost of a removal and Q that of a query. Where both
    are equal, `a` is not cheaper.

    Parameters
    ----------
    a, b : PeerCosts
        In the same unit. Their batches may differ.
    level : float, default=0.95
        Of the interval.
    n_samples : int, default=2000
        Bootstrap samples: repeats of removals and of queries, of both peers, drawn again independently.
    seed : int, default=0
    """
    when, r = _crossing(a.removal - b.removal, a.per_query - b.per_query)
    draws = np.random.default_rng(seed)
    (forget_a, query_a), (forget_b, query_b) = a.resampled(n_samples, draws), b.resampled(n_samples, draws)
    found = [_crossing(f, q) for f, q in zip(forget_a - forget_b, query_a - query_b, strict=True)]
    certainty = sum(each == when for each, _ in found) / n_samples
    if r is None:
        return BreakEven(when, None, math.nan, math.nan, certainty)
    # Samples without a crossing are at an end of the line. Those where it is the other peer that is cheaper on this
    # side say nothing of where: they widen the interval at both ends.
    ends = {"always": math.inf, "never": 0.0} if when == "below" else {"always": 0.0, "never": math.inf}
    low = [value if each == when and value is not None else ends.get(each, 0.0) for each, value in found]
    high = [value if each == when and value is not None else ends.get(each, math.inf) for each, value in found]
    tail = (1 - level) / 2
    return BreakEven(when, r, _percentile(low, tail), _percentile(high, 1 - tail), certainty)


def _crossing(forget: float, query: float) -> tuple[When, float | None]:
    """Return for which r above 0 ``forget + r * query``, of two differences, is below zero, and where it is zero."""
    if forget <= 0 and query <= 0:
        return ("never" if forget == query == 0 else "always"), None
    if forget >= 0 and query >= 0:
        return "never", None
    return ("below" if forget < 0 else "above"), float(forget / -query)


def _percentile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share, method="inverted_cdf"))  # no arithmetic with infinity
