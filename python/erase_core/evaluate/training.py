"""Training an adapter: the one loop of all peers that fine-tune, a function of the examples, settings and seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from erase_core.evaluate.adapted import AdaptedModel, Encoded
from erase_core.examples.example import Example
from erase_core.llm.prompt import Template

__all__ = ["TrainingSettings", "train"]


@dataclass(frozen=True)
class TrainingSettings:
    """How an adapter is trained.

    Parameters
    ----------
    passes : int, default=3
        Over all examples.
    batch : int, default=8
        Examples of a step.
    rate : float, default=1e-3
        AdamW's learning rate, constant.
    """

    passes: int = 3
    batch: int = 8
    rate: float = 1e-3


Loss = Callable[[AdaptedModel, Sequence[Encoded]], torch.Tensor]


def answer_loss(model: AdaptedModel, batch: Sequence[Encoded]) -> torch.Tensor:
    """Return the mean over a batch of the mean negative log-probability per token of the answers."""
    return model.losses(batch, backward=True).mean()


def train(
    model: AdaptedModel,
    examples: Sequence[Example],
    template: Template,
    seed: int,
    settings: TrainingSettings | None = None,
    loss: Loss = answer_loss,
) -> None:
    """Train the adapter as it is, on some examples, in an order that the seed draws anew for each pass."""
    chosen = settings or TrainingSettings()
    encoded = [model.encode(example, template) for example in examples]
    draws = np.random.default_rng(seed)
    with model.active():
        weights = [weight for weight in model.parameters().values() if weight.requires_grad]
        optimiser = torch.optim.AdamW(weights, lr=chosen.rate, weight_decay=0.0)
        for _ in range(chosen.passes):
            order = draws.permutation(len(encoded)).tolist()
            for first in range(0, len(order), chosen.batch):
                optimiser.zero_grad()
                loss(model, [encoded[i] for i in order[first : first + chosen.batch]]).backward()
                optimiser.step()
