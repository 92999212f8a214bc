"""How far a peer's answers are from those of a peer that never had the forgotten examples.

All functions are of scores alone: of the peer before and after it forgot, and of *retrains*, peers fitted without
the examples. Two retrains with different seeds differ too. That difference is the *floor*: a method is no better than a
retrain because it lies below it. Doing nothing is a row of its own, since a method that is farther away than that has
made things worse.

KLoM is from "Attribute-to-Delete" (2410.23232): for one question, the KL divergence between the histograms of its
margins over several models, with 20 bins, clipped margins and a floor. The unlearned models' distribution comes first,
as in the code of a benchmark by one of the authors (RoyRin/data-unlearning-bench, `kl_from_margins`). That code has the
floor on the second histogram only, and counts the largest margin in no bin. The paper has margins of classes; here
options take their place, with the scores as logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp

from erase_core.evaluate.tasks.task import Scores

__all__ = ["GROUPS", "Distance", "DistanceRow", "bits_equal", "distance_rows", "klom", "margins", "option_kl"]

Floats = NDArray[np.float64]
Group = Literal["forgotten", "retained", "test"]
GROUPS: tuple[Group, ...] = ("forgotten", "retained", "test")
# Scores of one peer on the examples of each group.
GroupScores = Mapping[Group, Scores]

BINS = 20
CLIP = 100.0
FLOOR = 1e-5


def margins(scores: Scores, labels: ArrayLike) -> Floats:
    """Return how much the right option is ahead: z_y - logsumexp of the others, within +-100.

    Parameters
    ----------
    scores : ndarray of shape (n, k)
        k is 2 or more.
    labels : array-like of shape (n,)
        The place of the right option.

    Returns
    -------
    ndarray of shape (n,)
    """
    scores = np.asarray(scores, dtype=np.float64)
    rows, right = np.arange(len(scores)), np.asarray(labels)
    others = scores.copy()
    others[rows, right] = -np.inf
    return np.asarray(np.clip(scores[rows, right] - logsumexp(others, axis=1), -CLIP, CLIP))


def klom(unlearned: ArrayLike, retrained: ArrayLike) -> Floats:
    """Return the KL divergence of the histograms of margins, for each question, in nats.

    The 20 bins divide the range of both sets of models. Shares of models below 1e-5 count as 1e-5, and the shares are
    then made to sum to 1. With few models the value is dominated by empty bins: compare it with that of two sets of
    retrains.

    Parameters
    ----------
    unlearned, retrained : array-like of shape (n_models, n_questions)
        Margins. The numbers of models may differ.

    Returns
    -------
    ndarray of shape (n_questions,)
    """
    ours, theirs = (np.clip(np.asarray(each, dtype=np.float64), -CLIP, CLIP) for each in (unlearned, retrained))
    return np.array([_histogram_kl(ours[:, i], theirs[:, i]) for i in range(ours.shape[1])])


def _histogram_kl(ours: Floats, theirs: Floats) -> float:
    low, high = min(ours.min(), theirs.min()), max(ours.max(), theirs.max())
    if low == high:
        return 0.0
    shares = []
    for values in (ours, theirs):
        share = np.maximum(np.histogram(values, BINS, (low, high))[0] / len(values), FLOOR)
        shares.append(share / share.sum())
    p, q = shares
    return float(np.sum(p * np.log(p / q)))


def option_kl(first: Scores, second: Scores) -> Floats:
    """Return KL(first || second) of the distributions over options, the softmax of scores, for each question in nats.

    Parameters
    ----------
    first, second : ndarray of shape (n, k)

    Returns
    -------
    ndarray of shape (n,)
    """
    p, q = log_softmax(first, axis=1), log_softmax(second, axis=1)
    return np.asarray(np.sum(np.exp(p) * (p - q), axis=1))


def bits_equal(first: ArrayLike, second: ArrayLike) -> bool:
    """Whether two arrays have the same type, shape and bits. 0.0 and -0.0 differ."""
    a, b = np.asarray(first), np.asarray(second)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@dataclass(frozen=True, slots=True)
class Distance:
    """A distance that is 0 only if bits were compared and found equal.

    Parameters
    ----------
    value : float
    same_bits : bool, default=False
        Whether the bits of both sides were compared and are equal. Then `value` is 0.

    Raises
    ------
    ValueError
        The bits are equal, and the value is not 0.
    """

    value: float
    same_bits: bool = False

    def __post_init__(self) -> None:
        if self.same_bits and self.value != 0:
            raise ValueError(f"value must be 0 where bits are equal, got {self.value}")

    @classmethod
    def between(cls, first: Scores, second: Scores) -> Distance:
        """Compare scores by their bits. If these differ, return the mean KL of the option distributions."""
        if bits_equal(first, second):
            return cls(0.0, same_bits=True)
        return cls(float(option_kl(first, second).mean()))

    def __str__(self) -> str:
        """Return 0 for equal bits, and otherwise a number that is not 0: three digits, or a bound."""
        if self.same_bits:
            return "0"
        # Rounding can make a KL slightly negative; it is not below 0.
        return "< 0.0001" if self.value < 0.0001 else f"{self.value:.3g}"


@dataclass(frozen=True, slots=True)
class DistanceRow:
    """The distance of some scores to those of retrains.

    Parameters
    ----------
    name : str
    to_retrains : dict of str to Distance
        For each group, the mean over retrains and questions of KL(retrain || the row's).
    to_twin : dict of str to Distance or None
        For each group, the distance to the retrain with the row's own seed. None if there is no such retrain.
    """

    name: str
    to_retrains: dict[Group, Distance]
    to_twin: dict[Group, Distance] | None = None


def distance_rows(
    before: GroupScores, after: GroupScores, retrains: Sequence[GroupScores], twin: GroupScores | None = None
) -> list[DistanceRow]:
    """Return three rows: the peer after it forgot, the peer that did nothing, and the retrains among themselves.

    Parameters
    ----------
    before, after : mapping of group to scores
        Scores on the forgotten and retained examples and on the test questions, each of shape (n, k).
    retrains : sequence of such mappings
        Each of a world that never had the forgotten examples, with a seed that is not the peer's. At least one; the
        last row needs two.
    twin : such a mapping or None, default=None
        The retrain with the peer's seed. Only with it can the bits be equal.

    Returns
    -------
    list of DistanceRow
        Named "after", "do nothing", and "floor" if there are two retrains.
    """
    rows = [
        DistanceRow(name, _mean_kl([(each, scores) for each in retrains]), _to_twin(scores, twin))
        for name, scores in (("after", after), ("do nothing", before))
    ]
    if len(retrains) > 1:
        rows.append(DistanceRow("floor", _mean_kl(list(permutations(retrains, 2)))))
    return rows


def _mean_kl(pairs: Sequence[tuple[GroupScores, GroupScores]]) -> dict[Group, Distance]:
    return {group: _mean([Distance.between(p[group], q[group]) for p, q in pairs]) for group in GROUPS}


def _mean(distances: Sequence[Distance]) -> Distance:
    same = all(each.same_bits for each in distances)
    return Distance(float(np.mean([each.value for each in distances])), same_bits=same)


def _to_twin(scores: GroupScores, twin: GroupScores | None) -> dict[Group, Distance] | None:
    return None if twin is None else {group: Distance.between(twin[group], scores[group]) for group in GROUPS}
