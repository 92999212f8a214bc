"""Forgetting by random labels (Zhang, Choshen and Andreas, Unforgettable Generalization, 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from erase_core.evaluate.peers.approximate.frame import Objective, Removal, Steps, entry
from erase_core.examples.example import Example

__all__ = ["PEERS", "RandomLabels", "random_labels"]


def random_labels(n: int, n_options: int, draws: np.random.Generator) -> NDArray[np.int64]:
    """Return labels drawn independently and uniformly from all options, the right one among them, shape (n,)."""
    return draws.integers(n_options, size=n)


@dataclass(frozen=True)
class RandomLabels(Steps):
    """Fine-tunes on the forgotten questions with random labels.

    Labels are drawn anew in each pass, so that the least expected loss is that of uniform predictions, which the paper
    says its models make on examples of the forget set. Whether it draws once or anew could not be verified.
    """

    def objective(self, removal: Removal) -> Objective:
        """Return the loss on random labels."""
        draws, options = np.random.default_rng([removal.seed, 2]), removal.task.options

        def loss(forgotten: Sequence[Example], _: Sequence[Example]) -> torch.Tensor:
            labels = random_labels(len(forgotten), len(options), draws)
            return removal.mean_loss(
                [replace(each, output=options[label]) for each, label in zip(forgotten, labels, strict=True)]
            )

        return loss


PEERS = [
    entry(
        "random-labels",
        RandomLabels(),
        "Zhang, Choshen and Andreas, Unforgettable Generalization in Language Models, 2024 (2409.02228)",
        "the paper forgets a whole skill and we some of its examples; a LoRA adapter instead of all weights; whether "
        "labels are drawn once or in each pass could not be verified",
    )
]
