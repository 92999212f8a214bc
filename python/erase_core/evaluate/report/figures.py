"""Figures of the report: a value with its interval and the number of measurements behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike

from erase_core.evaluate.tasks.task import Scale

__all__ = ["Figure", "figure", "of_correct", "of_costs", "shown"]

RESAMPLES = 2000


class Figure(TypedDict):
    """A value, its interval of 95 %, and how many measurements there are.

    Both bounds are None if there is only one measurement. An upper bound alone is None if it is infinite.
    """

    value: float
    low: float | None
    high: float | None
    n: int


def figure(value: float, low: float | None = None, high: float | None = None, n: int = 1) -> Figure:
    """Return a figure. Bounds that are not finite are left out."""
    bounds = [None if bound is None or not math.isfinite(bound) else float(bound) for bound in (low, high)]
    return Figure(value=float(value), low=bounds[0], high=bounds[1], n=n)


def of_correct(correct: ArrayLike, scale: Scale | None = None) -> Figure:
    """Return the share of right answers, or the score that it is.

    The interval resamples seeds and questions together, 2000 times.

    Parameters
    ----------
    correct : array-like of shape (n_seeds, n_questions)
        1 for each right answer, 0 for each wrong one.
    scale : Scale or None, default=None
        For BIG-bench's normalised score. None: the share.
    """
    right = np.asarray(correct, dtype=np.float64)
    if scale is not None:
        right = scale.normalised(right)
    draws = np.random.default_rng(0)
    n_seeds, n_questions = right.shape
    seeds = draws.integers(n_seeds, size=(RESAMPLES, n_seeds))
    questions = draws.integers(n_questions, size=(RESAMPLES, n_questions))
    means = right[seeds[:, :, None], questions[:, None, :]].mean(axis=(1, 2))
    below, above = np.quantile(means, [0.025, 0.975])
    return figure(right.mean(), below, above, right.size)


def of_costs(values: Sequence[float]) -> Figure:
    """Return the mean of measurements. The interval resamples them, 2000 times; a single one has none."""
    each = np.asarray(values, dtype=np.float64)
    if len(each) < 2:
        return figure(each.mean(), n=len(each))
    drawn = np.random.default_rng(0).integers(len(each), size=(RESAMPLES, len(each)))
    low, high = np.quantile(each[drawn].mean(axis=1), [0.025, 0.975])
    return figure(each.mean(), low, high, len(each))


def rounded(value: float) -> str:
    """Return a number with two or three digits that count."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.{max(0, 1 - math.floor(math.log10(size)))}f}" if size >= 1e-4 else f"{value:.0e}"


def shown(value: Figure | None) -> str:
    """Return a figure as tables have it: value, interval and number of measurements."""
    if value is None:
        return "-"
    text = rounded(value["value"])
    if value["low"] is not None:
        text += f" ({rounded(value['low'])} to {'∞' if value['high'] is None else rounded(value['high'])})"
    return f"{text}; n={value['n']}"
