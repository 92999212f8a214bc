"""SimNPO: negative preference optimisation without a reference model, normalised by length (Fan et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from erase_core.evaluate.peers.approximate.frame import Objective, Removal, Steps, entry

__all__ = ["PEERS", "SimNPO", "simnpo_loss"]


def simnpo_loss(losses: torch.Tensor, beta: float, delta: float) -> torch.Tensor:
    """Return the mean of -(2 / beta) log sigmoid(beta (NLL - delta)), shape ().

    Parameters
    ----------
    losses : Tensor of shape (n,)
        Mean negative log-probability per token of each answer.
    beta, delta : float
    """
    return -2 / beta * torch.nn.functional.logsigmoid(beta * (losses - delta)).mean()


@dataclass(frozen=True)
class SimNPO(Steps):
    """Minimises gamma SimNPO_F + alpha NLL_R.

    Parameters
    ----------
    beta, delta, gamma, alpha : float, default=4.5, 0.0, 0.125, 1.0
        The defaults are those of open-unlearning. `beta` times `delta` is what the paper calls gamma.
    """

    beta: float = 4.5
    delta: float = 0.0
    gamma: float = 0.125
    alpha: float = 1.0

    def objective(self, removal: Removal) -> Objective:
        """Return the weighted sum."""
        return lambda forgotten, retained: (
            self.gamma * simnpo_loss(removal.losses(forgotten), self.beta, self.delta)
            + self.alpha * removal.mean_loss(retained)
        )


PEERS = [
    entry(
        "simnpo",
        SimNPO(),
        "Fan et al., Simplicity Prevails, 2024 (2410.07163); weights as in open-unlearning",
        "on a LoRA adapter instead of all weights; passes and rate are our own",
    )
]
