"""SeTa: which examples a pass trains on, by their losses (Zhou, Gao and Wang, CVPR 2025).

A function of losses, ids, seed and pass. Training is left to `training`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erase_core.errors import DataWarning, ParameterError
from erase_core.evaluate.tasks.draws import derived
from erase_core.kmeans import QKMeans

__all__ = ["SeTa", "loss_groups", "pruned_orders", "pruned_pass"]


@dataclass(frozen=True)
class SeTa:
    """How a trainer prunes. The authors' code has these defaults, except that its random step keeps all examples.

    Parameters
    ----------
    keep : float, default=0.9
        Proportion of examples that a pass keeps at random, before it looks at losses.
    groups : int, default=10
        Number of groups of similar losses.
    window : int, default=5
        Number of neighbouring groups that a pass trains on, from easy to hard.
    until : float, default=0.875
        Proportion of passes that use the window. Later ones train on all that the random step keeps.

    Raises
    ------
    ParameterError
        A parameter is out of range.
    """

    keep: float = 0.9
    groups: int = 10
    window: int = 5
    until: float = 0.875

    def __post_init__(self) -> None:
        for name, value in (("keep", self.keep), ("until", self.until)):
            if not 0 < value <= 1:
                raise ParameterError(f"{name} must be above 0 and at most 1, got {value}")
        if not 1 <= self.window <= self.groups:
            raise ParameterError(f"window must be 1 to groups={self.groups}, got {self.window}")


def loss_groups(losses: NDArray[np.float64], ids: Sequence[int], n_groups: int, seed: int) -> list[NDArray[np.int64]]:
    """Return the places of similar losses, from the lowest losses to the highest.

    The groups are those of quantised k-means, so the order of the examples makes no difference. The paper takes
    scikit-learn's k-means.

    Parameters
    ----------
    losses : ndarray of shape (n,)
    ids : sequence of int, length n
    n_groups : int
        Most groups. Groups without examples are left out.
    seed : int
    """
    if not len(losses):
        return []
    centred = losses - losses.min()
    if not centred.any():  # k-means would warn that rows are equal
        return [np.arange(len(losses))]
    # A fine lattice, since one dimension has to keep many groups apart.
    model = QKMeans(min(n_groups, len(losses)), epsilon=0.01, random_state=seed, panel=None, n_threads=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # that most losses are small beside the largest is no matter
        labels = model.fit_predict(centred[:, None], ids=ids)
    places = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return sorted(places, key=lambda each: (float(centred[each].mean()), int(each[0])))


def pruned_pass(
    losses: NDArray[np.float64], ids: Sequence[int], seed: int, iteration: int, settings: SeTa, *, windowed: bool = True
) -> NDArray[np.int64]:
    """Return the places of the examples that a pass trains on, in their order.

    Parameters
    ----------
    losses : ndarray of shape (n,)
        The last loss of each example.
    ids : sequence of int, length n
    seed : int
    iteration : int
        Number of passes before this one. In pass 0 all groups are in the window, as in the authors' code.
    settings : SeTa
    windowed : bool, default=True
        Whether losses matter.
    """
    draws = np.random.default_rng(derived(seed, "seta", iteration))
    n_kept = max(1, round(settings.keep * len(losses))) if len(losses) else 0
    kept = np.sort(draws.permutation(len(losses))[:n_kept])
    if windowed and iteration:
        own = derived(seed, "seta groups")
        groups = loss_groups(losses[kept], [ids[place] for place in kept], settings.groups, own)
        width = min(settings.window, len(groups))
        start = iteration % (len(groups) - width + 1)
        kept = kept[np.concatenate(groups[start : start + width])] if groups else kept
    return draws.permutation(kept)


def pruned_orders(
    ids: Sequence[int], losses: NDArray[np.float64], passes: int, seed: int, settings: SeTa
) -> Iterator[list[int]]:
    """Yield the places of each pass, in order. Losses are read when a pass begins, so the caller keeps them up to date.

    Parameters
    ----------
    ids : sequence of int, length n
    losses : ndarray of shape (n,)
    passes : int
    seed : int
    settings : SeTa
    """
    for iteration in range(passes):
        windowed = iteration + 1 <= settings.until * passes
        yield pruned_pass(losses, ids, seed, iteration, settings, windowed=windowed).tolist()
