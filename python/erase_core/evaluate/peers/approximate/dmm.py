"""DMM, datamodel matching: predict the outputs of a model that never had the examples, then fine-tune to match them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from erase_core.evaluate.adapters.adapted_model import State
from erase_core.evaluate.peers.approximate.frame import Objective, Removal, Steps, entry, gradients
from erase_core.examples.example import Example

__all__ = ["DMM", "PEERS", "change_of_outputs", "margins", "sketch"]

Rows = NDArray[np.float64]


def change_of_outputs(features: Rows, curvatures: Rows, residuals: Rows, gone: Sequence[int], ridge: float) -> Rows:
    """Return how outputs change if some examples are removed from a generalised linear model, shape (n,).

    One Newton step from the optimum of sum l(f_i) + ridge |w|^2 / 2, f = features w, after removing the examples F:

        -K_F (I - W_F K_FF)^-1 r_F,    K = features (features^T W features + ridge I)^-1 features^T

    With W = I and r = y - f this is -H_F (I - H_FF)^-1 (y_F - f_F), the exact change for ridge regression.

    Parameters
    ----------
    features : ndarray of shape (n, d)
    curvatures : ndarray of shape (n,)
        Second derivatives of the losses by the outputs, the diagonal of W.
    residuals : ndarray of shape (n,)
        Negative first derivatives of the losses by the outputs, r.
    gone : sequence of int
        Rows of the removed examples.
    ridge : float
    """
    hessian = features.T @ (curvatures[:, None] * features) + ridge * np.eye(features.shape[1])
    kernel = features @ np.linalg.solve(hessian, features[gone].T)
    inner = np.eye(len(gone)) - curvatures[gone][:, None] * kernel[gone]
    change: Rows = -kernel @ np.linalg.solve(inner, residuals[gone])
    return change


def margins(log_p: torch.Tensor) -> torch.Tensor:
    """Return log(p / (1 - p)) of answers with these log-probabilities, which are taken as -1e-4 at most."""
    bounded = log_p.clamp(max=-1e-4)
    return bounded - torch.log(-torch.expm1(bounded))


def sketch(gradient: State, width: int, seed: int) -> torch.Tensor:
    """Return the count sketch of a gradient, shape (width,): a random projection that needs no matrix.

    Each component is added to a random place with a random sign, so that inner products are right in the mean
    (Charikar, Chen and Farach-Colton, 2002).
    """
    generator = torch.Generator().manual_seed(seed)
    sums = torch.zeros(width)
    for name in sorted(gradient):
        values = gradient[name].flatten()
        places = torch.randint(width, values.shape, generator=generator)
        signs = torch.randint(2, values.shape, generator=generator) * 2 - 1
        sums.index_add_(0, places, values.detach() * signs)
    return sums


@dataclass(frozen=True)
class DMM(Steps):
    """Attributes outputs to examples by influence on the adapter, predicts the rest's outputs, and matches them.

    The output of an example is the margin log(p / (1 - p)) of its right answer, whose loss is logistic. Features are
    sketched gradients of the margins by the adapter's weights, computed once after fitting (as TRAK does, Park et al.,
    ICML 2023, which drops the curvatures; they are kept here). The removal's change of each output is the Newton step
    of that linearised model. Then steps on the squared distance to the predicted margins follow, for forgotten examples
    and as many retained ones.

    Parameters
    ----------
    passes, batch, rate : int, int, float, default=5, 8, 3e-4
    width : int, default=1024
        Of the sketch.
    ridge : float, default=0.01
        Times the mean over examples of a feature row's weighted squared length.
    """

    width: int = 1024
    ridge: float = 0.01

    def prepare(self, fitted: Removal) -> State:
        """Return the features of all examples, shape (n, width), with the examples' ids."""
        if not fitted.retained:
            return {}

        def margin(example: Example) -> torch.Tensor:
            return margins(fitted.log_probabilities([example]))[0]

        rows = [sketch(each, self.width, fitted.seed) for each in gradients(fitted, fitted.retained, margin)]
        return {"features": torch.stack(rows), "ids": torch.tensor([example.id for example in fitted.retained])}

    def predicted(self, removal: Removal) -> dict[int, float]:
        """Return the predicted margin of each example, by id."""
        examples = (*removal.forgotten, *removal.retained)
        with removal.model.active(), torch.no_grad():
            log_p = torch.stack([removal.log_probabilities([each])[0] for each in examples])
        outputs = margins(log_p).double().numpy()
        p = log_p.double().exp().numpy()
        row_of = {int(id_): row for row, id_ in enumerate(removal.kept["ids"])}
        features = removal.kept["features"].double().numpy()[[row_of[int(each.id)] for each in examples]]
        curvatures = p * (1 - p)
        ridge = self.ridge * float((curvatures * (features**2).sum(1)).mean()) + 1e-12
        change = change_of_outputs(features, curvatures, 1 - p, range(len(removal.forgotten)), ridge)
        return {int(each.id): float(value) for each, value in zip(examples, outputs + change, strict=True)}

    def objective(self, removal: Removal) -> Objective:
        """Return the mean squared distance to the predicted margins."""
        wanted = self.predicted(removal)

        def loss(forgotten: Sequence[Example], retained: Sequence[Example]) -> torch.Tensor:
            examples = [*forgotten, *retained]
            targets = torch.tensor([wanted[int(each.id)] for each in examples])
            return ((margins(removal.log_probabilities(examples)) - targets) ** 2).mean()

        return loss


PEERS = [
    entry(
        "dmm",
        DMM(),
        "Georgiev et al., Attribute-to-Delete: Machine Unlearning via Datamodel Matching, ICLR 2025 (2410.23232), with "
        "attribution by influence on the adapter",
        "datamodels from one model by influence, where the paper averages over many; margins of the right answer "
        "instead of all logits; exact for ridge regression only",
    )
]
