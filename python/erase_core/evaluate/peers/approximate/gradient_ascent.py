"""Gradient ascent on the forgotten examples, which makes their answers less likely (Jang et al., ACL 2023)."""

from __future__ import annotations

from dataclasses import dataclass

from erase_core.evaluate.peers.approximate.frame import Objective, Removal, Steps, entry

__all__ = ["PEERS", "GradientAscent"]


@dataclass(frozen=True)
class GradientAscent(Steps):
    """Minimises -NLL over the forgotten examples, NLL being the mean per token of an answer.

    Nothing bounds it: with enough steps the model is destroyed.
    """

    def objective(self, removal: Removal) -> Objective:
        """Return -NLL of the forgotten examples."""
        return lambda forgotten, _: -removal.mean_loss(forgotten)


PEERS = [
    entry(
        "gradient-ascent",
        GradientAscent(),
        "Jang et al., Knowledge Unlearning, ACL 2023 (2210.01504); loss as in open-unlearning",
        "on a LoRA adapter instead of all weights; passes and rate are our own",
    )
]
