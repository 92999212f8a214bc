"""Negative preference optimisation: the forgotten answers as rejected ones (Zhang et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from erase_core.evaluate.peers.approximate.frame import Objective, Removal, Steps, entry

__all__ = ["NPO", "PEERS", "npo_loss"]


def npo_loss(log_p: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """Return the mean of -(2 / beta) log sigmoid(-beta (log p - log p_ref)), shape ().

    Its derivative by log p is 2 p^beta / (p^beta + p_ref^beta) for each answer: 1 where p = p_ref, so that the first
    step is one of gradient ascent on the log-probability of the whole answer, and towards 0 as the answer is forgotten.

    Parameters
    ----------
    log_p, reference : Tensor of shape (n,)
        Log-probabilities of whole answers, by the model and before the request.
    beta : float
    """
    return -2 / beta * torch.nn.functional.logsigmoid(-beta * (log_p - reference)).mean()


@dataclass(frozen=True)
class NPO(Steps):
    """Minimises gamma NPO_F + alpha NLL_R.

    Parameters
    ----------
    beta : float, default=0.1
    gamma, alpha : float, default=1.0
        The defaults are those of open-unlearning; alpha = 0 is the paper's NPO without retained examples.
    """

    beta: float = 0.1
    gamma: float = 1.0
    alpha: float = 1.0

    def objective(self, removal: Removal) -> Objective:
        """Return the weighted sum. The reference is the model before the request."""
        with removal.model.active(), torch.no_grad():
            reference = {example.id: removal.log_probabilities([example])[0] for example in removal.forgotten}
        return lambda forgotten, retained: (
            self.gamma
            * npo_loss(
                removal.log_probabilities(forgotten),
                torch.stack([reference[example.id] for example in forgotten]),
                self.beta,
            )
            + (self.alpha * removal.mean_loss(retained) if self.alpha else 0)
        )


PEERS = [
    entry(
        "npo",
        NPO(),
        "Zhang et al., Negative Preference Optimization, COLM 2024 (2404.05868); weights as in open-unlearning",
        "on a LoRA adapter instead of all weights; passes and rate are our own",
    )
]
