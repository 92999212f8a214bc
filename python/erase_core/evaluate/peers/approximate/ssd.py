"""Selective synaptic dampening: weights that matter for the forgotten examples above all are scaled down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch

from erase_core.evaluate.adapters.adapted_model import State
from erase_core.evaluate.peers.approximate.frame import Removal, Rule, entry, gradients
from erase_core.examples.example import Example

__all__ = ["PEERS", "SSD", "dampened"]


def dampened(
    weight: torch.Tensor, forgotten: torch.Tensor, full: torch.Tensor, alpha: float, lambda_: float
) -> torch.Tensor:
    """Return weights times min(lambda I_D / I_F, 1) where I_F > alpha I_D, and the same bits elsewhere.

    Parameters
    ----------
    weight, forgotten, full : Tensor
        Weights and their importances I_F and I_D for the forgotten and for all examples, of one shape.
    alpha, lambda_ : float
    """
    return torch.where(forgotten > alpha * full, weight * (lambda_ * full / forgotten).clamp(max=1), weight)


@dataclass(frozen=True)
class SSD(Rule):
    """Dampens by importances: the mean over examples of the squared gradient of the loss.

    The importances for all examples are computed once, after fitting, as in the paper. So they still count examples
    that earlier requests removed. All examples include the forgotten ones, so I_F is at most N / |F| times I_D: a
    request for a share of 1 / alpha or more changes nothing.

    Parameters
    ----------
    alpha, lambda_ : float, default=10.0, 1.0
        The paper's defaults.
    """

    alpha: float = 10.0
    lambda_: float = 1.0

    def prepare(self, fitted: Removal) -> State:
        """Return the importances for all examples."""
        return importances(fitted, fitted.retained)

    def __call__(self, removal: Removal) -> None:
        """Dampen the adapter's weights."""
        forgotten = importances(removal, removal.forgotten)
        state = removal.model.state()
        removal.model.load(
            {
                name: dampened(state[name], forgotten[name], removal.kept[name], self.alpha, self.lambda_)
                for name in state
            }
        )

    def grid(self) -> list[Self]:
        """Return rules with other alphas and lambdas."""
        return [
            replace(self, alpha=self.alpha * factor, lambda_=self.lambda_ * share)
            for factor in (0.2, 0.5, 1)
            for share in (0.5, 1)
        ]


def importances(removal: Removal, examples: Sequence[Example]) -> State:
    """Return the mean over examples of the squared gradient of the loss, by weight."""
    sums: State = {name: torch.zeros_like(weight) for name, weight in removal.model.parameters().items()}
    for gradient in gradients(removal, examples):
        for name, values in gradient.items():
            sums[name] += values.detach() ** 2
    return {name: each.detach() / max(len(examples), 1) for name, each in sums.items()}


PEERS = [
    entry(
        "ssd",
        SSD(),
        "Foster, Schoepf and Brintrup, Fast Machine Unlearning Without Retraining Through Selective Synaptic "
        "Dampening, AAAI 2024 (2308.07707)",
        "on a LoRA adapter instead of all weights; squared gradients of single examples, where the authors' code "
        "squares those of batches; with alpha = 10, a request for a tenth of the examples or more changes nothing",
    )
]
