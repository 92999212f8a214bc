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

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp

from erase_core.evaluate.tasks.task import Scores

__all__ = ["bits_equal", "klom", "margins", "option_kl"]

Floats = NDArray[np.float64]

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
