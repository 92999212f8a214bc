"""Membership inference: was an example among those that a model was adapted to? A higher score says yes.

The attacks are those of RWKU (2406.10890) on the log-probabilities of tokens: their mean (*loss*); the same over the
length of the text compressed by zlib (Carlini et al., 2021); the mean of the lowest k percent (*Min-K*, Shi et al.,
2023); and the same of (lp - mu) / sigma (*Min-K++*, Zhang et al., 2024). Min-K of 100 % equals the loss attack. The
reference attack is LiRA (Carlini et al., 2022), with one variance for all examples, as the paper advises for few shadow
models; with a handful of them it is a weak version of the attack.

Every result is beside the same attack on a world that never had the examples.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from erase_core.evaluate.attacks.areas import Interval, area, area_difference
from erase_core.evaluate.attacks.log_probabilities import TokenLogProbs

__all__ = [
    "ATTACKS",
    "AttackResult",
    "compare_areas",
    "lira",
    "loss",
    "min_k",
    "min_k_plus",
    "shadow_members",
    "zlib_ratio",
]

Floats = NDArray[np.float64]
K = 0.2
# A token of a text with sigma 0 was certain. This keeps its quotient finite.
LEAST_SIGMA = 1e-6


def _mean(values: Sequence[float] | Floats) -> float:
    # A sum that does not depend on the order, so that Min-K of 100 % equals the mean to the bit.
    return math.fsum(values) / len(values)


def loss(tokens: TokenLogProbs) -> float:
    """Return the mean log-probability per token."""
    return _mean(tokens.lp)


def zlib_ratio(tokens: TokenLogProbs, text: str) -> float:
    """Return the mean log-probability per token over the length of the compressed text in bytes."""
    return loss(tokens) / len(zlib.compress(text.encode()))


def min_k(tokens: TokenLogProbs, k: float = K) -> float:
    """Return the mean of the lowest log-probabilities.

    Parameters
    ----------
    tokens : TokenLogProbs
    k : float, default=0.2
        Share of the tokens, rounded down, but at least one token.
    """
    return _lowest(tokens.lp, k)


def min_k_plus(tokens: TokenLogProbs, k: float = K) -> float:
    """Return the mean of the lowest (lp - mu) / sigma. Parameters are those of `min_k`."""
    return _lowest((tokens.lp - tokens.mu) / np.maximum(tokens.sigma, LEAST_SIGMA), k)


def _lowest(values: Floats, k: float) -> float:
    return _mean(np.sort(values)[: max(int(len(values) * k), 1)])


# The attacks that need no other model, by name: each takes the log-probabilities of an example, and its text.
ATTACKS: dict[str, Callable[[TokenLogProbs, str], float]] = {
    "loss": lambda tokens, _: loss(tokens),
    "zlib": zlib_ratio,
    "Min-K": lambda tokens, _: min_k(tokens),
    "Min-K++": lambda tokens, _: min_k_plus(tokens),
}


def lira(statistic: ArrayLike, shadows: ArrayLike, is_in: ArrayLike) -> Floats:
    """Return log N(x; mean in, variance in) - log N(x; mean out, variance out) for each example (LiRA, online).

    Parameters
    ----------
    statistic : array-like of shape (n,)
        Of the attacked model, such as `measures.distance.margins`: for classes they are the paper's logit of the
        confidence.
    shadows : array-like of shape (n_models, n)
        The same of shadow models.
    is_in : array-like of bool of shape (n_models, n)
        Whether a shadow model was fitted to an example. Each example needs a model of each kind.

    Returns
    -------
    ndarray of shape (n,)
        The two variances are each of all examples together, about the means of the examples.

    Raises
    ------
    ValueError
        An example has no model of one kind, or no example has two.
    """
    values, seen = np.asarray(shadows, dtype=np.float64), np.asarray(is_in, dtype=bool)
    x = np.asarray(statistic, dtype=np.float64)

    def log_density(group: NDArray[np.bool_]) -> Floats:
        counts = group.sum(axis=0)
        if (counts == 0).any() or counts.sum() == group.shape[1]:
            raise ValueError("each example needs shadow models with and without it, and some need two of each kind")
        means = np.where(group, values, 0).sum(axis=0) / counts
        residuals = np.where(group, values - means, 0)
        variance = max(float((residuals**2).sum() / (counts.sum() - group.shape[1])), 1e-12)
        return np.asarray(-0.5 * (x - means) ** 2 / variance - 0.5 * math.log(variance))

    return log_density(seen) - log_density(~seen)


def shadow_members(n_examples: int, n_worlds: int, seed: int) -> NDArray[np.bool_]:
    """Draw which examples each shadow world has: each example is in exactly half of the worlds.

    Parameters
    ----------
    n_examples : int
        Members and others together.
    n_worlds : int
        An even number, 2 or more; `lira` needs 4.
    seed : int

    Returns
    -------
    ndarray of bool of shape (n_worlds, n_examples)

    Raises
    ------
    ValueError
        `n_worlds` is not even, or below 2.
    """
    if n_worlds < 2 or n_worlds % 2:
        raise ValueError(f"n_worlds must be even and at least 2, got {n_worlds}")
    places = np.random.default_rng(seed).random((n_worlds, n_examples)).argsort(axis=0)
    return np.asarray(places < n_worlds // 2)


@dataclass(frozen=True, slots=True)
class AttackResult:
    """The area of an attack in three worlds, over the same examples.

    Parameters
    ----------
    name : str
    before : Interval
        On the peer that has the examples.
    after : Interval
        After it forgot them.
    target : Interval
        On a world that never had them. The aim of forgetting is this, and not 0.5.
    difference : Interval
        `after` minus `target`, paired by example.
    """

    name: str
    before: Interval
    after: Interval
    target: Interval
    difference: Interval


def compare_areas(
    name: str, before: ArrayLike, after: ArrayLike, never: ArrayLike, is_member: ArrayLike
) -> AttackResult:
    """Return the result of an attack from its scores in the three worlds, each of shape (n,)."""
    in_worlds = [area(scores, is_member) for scores in (before, after, never)]
    return AttackResult(name, in_worlds[0], in_worlds[1], in_worlds[2], area_difference(after, never, is_member))
