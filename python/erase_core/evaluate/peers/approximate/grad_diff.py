"""Gradient difference: ascent on the forgotten examples, descent on retained ones (Liu et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from erase_core.evaluate.peers.approximate.frame import Objective, Removal, Steps, entry

__all__ = ["PEERS", "GradDiff"]


@dataclass(frozen=True)
class GradDiff(Steps):
    """Minimises gamma (-NLL_F) + alpha NLL_R.

    Parameters
    ----------
    gamma, alpha : float, default=1.0
        The defaults are those of open-unlearning.
    """

    gamma: float = 1.0
    alpha: float = 1.0

    def objective(self, removal: Removal) -> Objective:
        """Return the weighted sum."""
        return lambda forgotten, retained: (
            -self.gamma * removal.mean_loss(forgotten) + self.alpha * removal.mean_loss(retained)
        )


PEERS = [
    entry(
        "grad-diff",
        GradDiff(),
        "Liu et al., Continual Learning and Private Unlearning, 2022 (2203.12817); loss as in open-unlearning",
        "on a LoRA adapter instead of all weights; passes and rate are our own",
    )
]
