"""Selective amnesia, the recipe of SHA256 at SemEval-2025: only the MLPs of the first layers are changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from erase_core.errors import LLMError
from erase_core.evaluate.peers.approximate.frame import Removal, Steps, entry

__all__ = ["PEERS", "SelectiveAmnesia", "retain_weight"]

# A layer's number and its MLP, as most architectures name them.
MLP = re.compile(r"\.(\d+)\.mlp\.")


def retain_weight(change: float) -> float:
    """Return alpha = clip(round(0.3 * 6^change + 0.8, 1), 1.2, 2.3) for a change of the retain loss.

    The change is that since the first pass. The paper's text says 2.8 for the upper bound, the authors' code 2.3.
    """
    return float(min(max(round(0.3 * 6.0**change + 0.8, 1), 1.2), 2.3))


@dataclass(frozen=True)
class SelectiveAmnesia(Steps):
    """Minimises -CE_F + alpha CE_R by the MLPs of the first layers; the adapter and all other weights stay.

    alpha is 1.2 in the first pass. Later it follows the rise of the retain loss above its mean in the first pass. (The
    authors' code divides the sum of that pass's batch means by the number of examples, not of batches.)

    Parameters
    ----------
    layers : int, default=6
        Number of the first layers, 0 to 5 in the paper. The default list in the authors' code is 1 to 6.
    passes, batch, rate : int, int, float, default=5, 8, 1.5e-5
        The paper's rate. A pass is over the forgotten examples, each batch with as many retained ones; the paper's
        eight passes are over all examples.
    """

    rate: float = 1.5e-5
    layers: int = 6

    def weights(self, names: Iterable[str]) -> list[str]:
        """Return the names of the weights of these MLPs, without adapters.

        Raises
        ------
        LLMError
            The network has no MLPs with the usual name.
        """
        found = [(MLP.search(name), name) for name in names if "lora_" not in name]
        chosen = [name for match, name in found if match and int(match[1]) < self.layers]
        if not chosen:
            raise LLMError("selective-amnesia: the model has no weights named '.0.mlp.'. Leave this peer out.")
        return chosen

    def __call__(self, removal: Removal) -> None:
        """Make the steps."""
        named = dict(removal.model.network.named_parameters())
        draws = np.random.default_rng(removal.seed)
        first: list[float] = []
        with _trainable(removal, [named[name] for name in self.weights(named)]) as chosen:
            optimiser = torch.optim.AdamW(chosen, lr=self.rate, weight_decay=0.0)
            for turn in range(self.passes):
                order = draws.permutation(len(removal.forgotten))
                for start in range(0, len(order), self.batch):
                    forgotten = [removal.forgotten[i] for i in order[start : start + self.batch]]
                    others = draws.permutation(len(removal.retained))[: len(forgotten)]
                    optimiser.zero_grad()
                    retain = removal.mean_loss([removal.retained[i] for i in others])
                    change = float(retain.detach()) - float(np.mean(first)) if turn else 0.0
                    first += [] if turn else [float(retain.detach())]
                    (retain_weight(change) * retain - removal.mean_loss(forgotten)).backward()
                    optimiser.step()


@contextmanager
def _trainable(removal: Removal, chosen: Sequence[torch.Tensor]) -> Iterator[Sequence[torch.Tensor]]:
    """Let gradients be computed for some weights of the network only, within this context, with the adapter on."""
    before = {weight: weight.requires_grad for weight in removal.model.network.parameters()}
    try:
        for weight in before:
            weight.requires_grad_(any(weight is each for each in chosen))
        with removal.model.active():
            yield chosen
    finally:
        for weight, required in before.items():
            weight.requires_grad_(required)
            weight.grad = None


PEERS = [
    entry(
        "selective-amnesia",
        SelectiveAmnesia(),
        "Agrawal and Huang, SHA256 at SemEval-2025 Task 4, 2025 (2504.12996), and the authors' code (bounds of alpha)",
        "which layers matter is taken from the paper and not traced for this model; passes over the forgotten examples "
        "with as many retained ones instead of eight over all; no early stop on a validation set; with an adapter "
        "beside the changed weights",
    )
]
