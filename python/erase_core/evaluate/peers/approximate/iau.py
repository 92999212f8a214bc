"""IAU, influence approximation unlearning: one step towards the retained and away from the forgotten examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from erase_core.evaluate.adapters.adapted_model import AdaptedModel, Encoded, State
from erase_core.evaluate.adapters.training import TrainingSettings
from erase_core.evaluate.peers.approximate.frame import Removal, Rule, entry, gradients
from erase_core.evaluate.peers.peer import Tools
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example

__all__ = ["IAU", "PEERS", "RestrictedLoss", "removal_direction"]


@dataclass(frozen=True)
class RestrictedLoss:
    """A loss with the gradient restriction: l + alpha sum of the norms of the batch's gradient, one for each tensor.

    Parameters
    ----------
    alpha : float
    """

    alpha: float

    def __call__(self, model: AdaptedModel, batch: Sequence[Encoded]) -> torch.Tensor:
        """Return the loss of a batch, shape ()."""
        # Other kernels of attention have no second derivative.
        with sdpa_kernel(SDPBackend.MATH):
            loss = model.losses(batch).mean()
            weights = [weight for weight in model.parameters().values() if weight.requires_grad]
            norms = [torch.linalg.vector_norm(each) for each in torch.autograd.grad(loss, weights, create_graph=True)]
        return loss + self.alpha * torch.stack(norms).sum()


def removal_direction(forgotten: torch.Tensor, retained: torch.Tensor) -> torch.Tensor:
    """Return the direction of the step, grad CE_F - grad CE_R, from the two mean gradients."""
    return forgotten - retained


@dataclass(frozen=True)
class IAU(Rule):
    """One step of gradient descent on CE_R - CE_F, both means over their sets, after training with a restriction.

    At a minimum of the whole loss grad CE_R is -(|F| / |R|) grad CE_F, so the step points along grad CE_F, as the
    Newton step that removes F does if the Hessian is the identity. The authors' code makes the step with Adam, which
    on the first step takes signs only; ours is the paper's plain step.

    Parameters
    ----------
    rate : float, default=0.03
        Of the step. Our own.
    alpha : float, default=0.005
        Weight of the gradient restriction in training, as in the authors' code. 0: the adapter of the other peers.
    """

    rate: float = 0.03
    alpha: float = 0.005

    def fitted(self, tools: Tools, world: World, training: TrainingSettings) -> State:
        """Return an adapter trained with the gradient restriction."""
        loss = RestrictedLoss(self.alpha) if self.alpha else None
        return tools.checkpoints.trained(tools.adapted, world, training, loss)

    def __call__(self, removal: Removal) -> None:
        """Make the step."""
        forgotten, retained = mean_gradient(removal, removal.forgotten), mean_gradient(removal, removal.retained)
        state = removal.model.state()
        removal.model.load(
            {name: state[name] + self.rate * removal_direction(forgotten[name], retained[name]) for name in state}
        )

    def grid(self) -> list[Self]:
        """Return rules with a tenth, a third, three times and ten times the rate."""
        return [replace(self, rate=self.rate * factor) for factor in (0.1, 1 / 3, 1, 3, 10)]


def mean_gradient(removal: Removal, examples: Sequence[Example]) -> State:
    """Return the gradient of the mean loss of examples, by weight; zeros for no examples."""
    sums: State = {name: torch.zeros_like(weight) for name, weight in removal.model.parameters().items()}
    for gradient in gradients(removal, examples):
        for name, values in gradient.items():
            sums[name] += values.detach()
    return {name: each.detach() / max(len(examples), 1) for name, each in sums.items()}


PEERS = [
    entry(
        "iau",
        IAU(),
        "Liu et al., Efficient Machine Unlearning via Influence Approximation, 2025 (2507.23257), and the authors' "
        "code (alpha)",
        "on a LoRA adapter instead of all weights; a plain gradient step, where the authors' code takes Adam's first "
        "step, which is that of signs; its rate is our own",
    )
]
