"""Forget sets that are chosen to be hard to unlearn, by the bilevel search of Unlearn-WorstCase.

The search is that of "Challenging Forgets" (2403.07362; its code is called Unlearn-WorstCase). A weight in [0, 1] for
each candidate says how much it is in the forget set; the weights sum to the size m of the set. The inner problem
unlearns by the weights, and gives theta_u(w). The outer step is

    w <- projection onto {0 <= w <= 1, sum = m} of w - eta (loss_i(theta_u(w)) + 2 gamma w)

so weight moves to candidates whose loss stays low although they were unlearned. The step has no derivative of theta_u:
the inner steps here go by the sign of the gradient, so at almost all w a small change of w does not change theta_u. The
paper's inner method and its values of eta and gamma are not reproduced: here unlearning is weighted gradient ascent on
an adapter. Removals that are dear for ERASE are in `dear_removals`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from erase_core.evaluate.adapters.adapted_model import AdaptedModel, State
from erase_core.examples.example import Example
from erase_core.llm.prompt import Template

__all__ = ["AscentLosses", "WorstSet", "project", "unlearned_loss", "worst_forget_set"]

Floats = NDArray[np.float64]
# From the weights of the candidates to their losses after unlearning by these weights, both of shape (n,).
UnlearnedLosses = Callable[[Floats], Floats]


def project(values: ArrayLike, total: float) -> Floats:
    """Return the nearest point of {0 <= w <= 1, sum = total}: clip(values - t, 0, 1), with t by bisection.

    Parameters
    ----------
    values : array-like of shape (n,)
    total : float
        0 to n.

    Raises
    ------
    ValueError
        `total` is out of range.
    """
    v = np.asarray(values, dtype=np.float64)
    if not 0 <= total <= len(v):
        raise ValueError(f"total must be from 0 to {len(v)}, the number of values, got {total}")
    low, high = float(v.min()) - 1, float(v.max())  # here the sum is n, and 0
    while low < (middle := (low + high) / 2) < high:
        if np.clip(v - middle, 0, 1).sum() > total:
            low = middle
        else:
            high = middle
    return np.clip(v - high, 0, 1)


@dataclass(frozen=True)
class WorstSet:
    """What a search found.

    Parameters
    ----------
    chosen : tuple of int
        The places of the candidates with the largest weights, ascending.
    weights : ndarray of shape (n,)
        The last weights.
    losses : tuple of float
        The weighted mean of the losses after unlearning, at each step.
    """

    chosen: tuple[int, ...]
    weights: Floats
    losses: tuple[float, ...]


def worst_forget_set(
    losses: UnlearnedLosses, n: int, size: int, *, steps: int = 20, eta: float = 0.1, gamma: float = 1e-3
) -> WorstSet:
    """Search for the forget set whose examples have the lowest loss after they were unlearned.

    Parameters
    ----------
    losses : callable
        Unlearns by weights, and returns the loss of each candidate. It is called once for each step.
    n : int
        Number of candidates.
    size : int
        Of the set, 1 to n.
    steps : int, default=20
    eta : float, default=0.1
        Of a step. It is divided by the standard deviation of the first losses, so it does not depend on their unit.
    gamma : float, default=0.001
        Keeps weights apart from 0 and 1 while the search is undecided.

    Returns
    -------
    WorstSet
        The search begins at equal weights. It finds a set that is worse than most, and not always the worst.
    """
    weights = np.full(n, size / n)
    seen = []
    scale = 0.0
    for _ in range(steps):
        found = np.asarray(losses(weights), dtype=np.float64)
        seen.append(float(weights @ found / size))
        scale = scale or float(found.std()) or 1.0
        weights = project(weights - eta * (found / scale + 2 * gamma * weights), size)
    order = np.argsort(-weights, kind="stable")[:size]
    return WorstSet(tuple(sorted(order.tolist())), weights, tuple(seen))


def unlearned_loss(losses: UnlearnedLosses, n: int, chosen: Sequence[int]) -> float:
    """Return the mean loss of some candidates after they, and no others, were unlearned. Low is bad."""
    weights = np.zeros(n)
    weights[list(chosen)] = 1
    return float(np.asarray(losses(weights))[list(chosen)].mean())


class AscentLosses:
    """Losses of candidates after gradient ascent on an adapter, for `worst_forget_set`.

    Each step moves every weight of the adapter by `rate` in the direction that raises the weighted mean loss of the
    answers. Candidates of weight 0 are not run for it.

    Parameters
    ----------
    model : AdaptedModel
    state : dict of str to tensor
        The adapter that was trained on the candidates, among others.
    examples : sequence of Example
        The candidates.
    template : Template
    rate : float, default=1e-3
    steps : int, default=1
    batch : int, default=8
        Examples that are run at once. It changes nothing but rounding.
    """

    def __init__(
        self,
        model: AdaptedModel,
        state: State,
        examples: Sequence[Example],
        template: Template,
        *,
        rate: float = 1e-3,
        steps: int = 1,
        batch: int = 8,
    ) -> None:
        self.model, self.state = model, state
        self.encoded = [model.encode(example, template) for example in examples]
        self.rate, self.steps, self.batch = rate, steps, batch

    def __call__(self, weights: Floats) -> Floats:
        """Unlearn by weights, from the trained adapter, and return the loss of each candidate, shape (n,)."""
        self.model.load(self.state)
        with self.model.active():
            for _ in range(self.steps):
                self._ascend(weights)
            with torch.no_grad():
                found = [self.model.losses(self.encoded[part]) for part in self._parts(len(self.encoded))]
        self.model.load(self.state)
        return np.asarray(torch.cat(found).double().cpu().numpy())

    def _ascend(self, weights: Floats) -> None:
        parameters = [each for each in self.model.parameters().values() if each.requires_grad]
        for each in parameters:
            each.grad = None
        used = np.flatnonzero(weights)
        for part in self._parts(len(used)):
            places = used[part]
            share = torch.tensor(weights[places] / weights.sum(), dtype=torch.float32)
            losses = self.model.losses([self.encoded[place] for place in places])
            (losses * share.to(losses.device)).sum().backward()
        with torch.no_grad():
            for each in parameters:
                if each.grad is not None:
                    each += self.rate * each.grad.sign()
                    each.grad = None

    def _parts(self, n: int) -> list[slice]:
        return [slice(first, first + self.batch) for first in range(0, n, self.batch)]
