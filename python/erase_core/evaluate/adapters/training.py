"""Training an adapter: the one loop of all peers that fine-tune, a function of the examples, settings and seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from erase_core.errors import ParameterError
from erase_core.evaluate.adapters.adapted_model import AdaptedModel, Encoded
from erase_core.evaluate.adapters.seta import SeTa, pruned_orders
from erase_core.examples.example import Example
from erase_core.llm.prompt import Template

__all__ = ["Loss", "Stage", "TrainingSettings", "answer_loss", "train"]


@dataclass(frozen=True)
class TrainingSettings:
    """How an adapter is trained.

    Parameters
    ----------
    passes : float, default=3
        Over all examples. The last one is cut short if this is not a whole number.
    batch : int, default=8
        Examples of a step.
    rate : float, default=1e-3
        AdamW's learning rate, constant.
    pruning : SeTa or None, default=None
        Which examples a pass leaves out. None: it leaves none out.

    Raises
    ------
    ParameterError
        A parameter is out of range, or there is pruning without a whole number of passes.
    """

    passes: float = 3
    batch: int = 8
    rate: float = 1e-3
    pruning: SeTa | None = None

    def __post_init__(self) -> None:
        if self.passes <= 0 or self.batch < 1 or self.rate <= 0:
            raise ParameterError(
                f"passes, batch and rate must be above 0, got {self.passes}, {self.batch}, {self.rate}"
            )
        if self.pruning is not None and self.passes != int(self.passes):
            raise ParameterError(f"passes must be a whole number with pruning, got {self.passes}")


Loss = Callable[[AdaptedModel, Sequence[Encoded]], torch.Tensor]


def answer_loss(model: AdaptedModel, batch: Sequence[Encoded]) -> torch.Tensor:
    """Return the mean over a batch of the mean negative log-probability per token of the answers."""
    return model.losses(batch).mean()


def train(
    model: AdaptedModel,
    examples: Sequence[Example],
    template: Template,
    seed: int,
    settings: TrainingSettings | None = None,
    loss: Loss = answer_loss,
) -> None:
    """Train the adapter as it is, on some examples, in an order that the seed draws anew for each pass.

    With one thread, the same examples in the same order, settings and seed give the same bits. Only weights that
    require gradients are trained: see `AdaptedModel.only_layers`. Pruning needs `answer_loss`.
    """
    chosen = settings or TrainingSettings()
    if chosen.pruning is not None and loss is not answer_loss:
        raise ParameterError("pruning must have the loss of answers, since it compares the losses of examples")
    encoded = [model.encode(example, template) for example in examples]
    latest = np.zeros(len(encoded))
    with model.active():
        weights = [weight for weight in model.parameters().values() if weight.requires_grad]
        optimiser = torch.optim.AdamW(weights, lr=chosen.rate, weight_decay=0.0)
        for order in _orders(examples, latest, seed, chosen):
            for first in range(0, len(order), chosen.batch):
                places = order[first : first + chosen.batch]
                optimiser.zero_grad()
                if chosen.pruning is None:
                    value = loss(model, [encoded[i] for i in places])
                else:
                    each = model.losses([encoded[i] for i in places])
                    latest[places] = each.detach().cpu().numpy()
                    value = each.mean()
                value.backward()
                optimiser.step()


def _orders(
    examples: Sequence[Example], losses: NDArray[np.float64], seed: int, settings: TrainingSettings
) -> Iterator[list[int]]:
    """Yield the places of the examples of each pass, in the order of training."""
    if settings.pruning is not None:
        ids = [int(example.id) for example in examples]
        yield from pruned_orders(ids, losses, int(settings.passes), seed, settings.pruning)
        return
    draws = np.random.default_rng(seed)
    left = round(settings.passes * len(examples))
    while left:
        order = draws.permutation(len(examples))[:left].tolist()
        left -= len(order)
        yield order


@dataclass(frozen=True)
class Stage:
    """A part of a training: it begins with the adapter as it is, and has an optimiser of its own.

    Parameters
    ----------
    examples : tuple of Example
        In this order. None: the adapter stays as it is.
    seed : int
    settings : TrainingSettings
    layers : tuple of int or None, default=None
        Layers whose weights are trained. None: all.
    loss : callable or None, default=None
        What is minimised: an object whose repr has all that it depends on. None: `answer_loss`.
    """

    examples: tuple[Example, ...]
    seed: int
    settings: TrainingSettings
    layers: tuple[int, ...] | None = None
    loss: Loss | None = None

    @property
    def made_of(self) -> str:
        """All that the training is a function of, beside the model, the template and the adapter before it."""
        texts = [(each.id, each.input, each.output) for each in self.examples]
        settings = replace(self.settings, passes=float(self.settings.passes))
        return repr((texts, self.seed, settings, self.layers, *([] if self.loss is None else [self.loss])))

    def train(self, model: AdaptedModel, template: Template) -> None:
        """Train the adapter as it is."""
        if self.examples:
            with model.only_layers(self.layers):
                train(model, self.examples, template, self.seed, self.settings, self.loss or answer_loss)
