"""A study of Miras: which associative memories of its framework forget by subtraction.

Miras (Behrouz et al., 2504.13173) describes sequence models as memories that are written by an objective, with a
retention gate. One corner of it is exact under removal: a linear memory with the objective of a dot product and no
retention, W = sum of v k^T. In integers, what an example added can be subtracted to the bit. With decay, or with the
delta rule, what is written later changes with what was written before, so subtraction leaves a trace.

`LinearMemory` is a classifier by the exact corner. The others are here only for comparison. No network of the paper is
reproduced, nothing is learned, and keys and values are ours: vectors of questions, and answers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from erase_core.evaluate.peers.classifiers import Classifier, ClassifierPeer
from erase_core.evaluate.peers.peer import Entry
from erase_core.evaluate.tasks.task import Scores

__all__ = ["PEERS", "RULES", "LinearMemory", "Rule", "forgets_by_subtraction", "write"]

Integers = NDArray[np.int64]
Rule = Literal["sum", "decay", "delta"]
RULES: tuple[Rule, ...] = get_args(Rule)
# A component of a vector of unit norm, as an integer: products of two and sums of 2**22 of these fit into 64 bits.
UNIT_BITS = 20
# Of the memory, 2**-4 is lost at each step with decay.
DECAY_BITS = 4


def write(memory: Integers, key: Integers, value: Integers, rule: Rule) -> Integers:
    """Return what a memory becomes when a pair is written.

    Parameters
    ----------
    memory : ndarray of int64 of shape (k, d)
    key : ndarray of int64 of shape (d,)
        In units of 2^-20, of unit norm.
    value : ndarray of int64 of shape (k,)
    rule : {"sum", "decay", "delta"}
        "sum": W + v k^T. "decay": the same, after W has lost a sixteenth. "delta": W + (v - W k) k^T, which stores what
        the memory does not recall already.

    Returns
    -------
    ndarray of int64 of shape (k, d)
        In units of 2^-20. Fractions are rounded down.
    """
    if rule == "delta":
        missing = (value << UNIT_BITS) - (memory @ key >> UNIT_BITS)
        return np.asarray(memory + (np.outer(missing, key) >> UNIT_BITS))
    kept = memory - (memory >> DECAY_BITS) if rule == "decay" else memory
    return np.asarray(kept + np.outer(value, key))


def forgets_by_subtraction(keys: Integers, values: Integers, place: int, rule: Rule) -> bool:
    """Whether subtracting what a pair added gives, to the bit, the memory that never had it.

    Parameters
    ----------
    keys : ndarray of int64 of shape (n, d)
    values : ndarray of int64 of shape (n, k)
        Written in this order.
    place : int
        Of the pair.
    rule : {"sum", "decay", "delta"}
    """
    whole = without = np.zeros((values.shape[1], keys.shape[1]), dtype=np.int64)
    added = whole
    for i, (key, value) in enumerate(zip(keys, values, strict=True)):
        after = write(whole, key, value, rule)
        if i == place:
            added = after - whole
        else:
            without = write(without, key, value, rule)
        whole = after
    return bool(np.array_equal(whole - added, without))


def as_integers(X: NDArray[np.float32]) -> Integers:
    """Return vectors of at most unit norm in units of 2^-20."""
    levels: Integers = np.rint(X.astype(np.float64) * 2**UNIT_BITS).astype(np.int64)
    return levels


class LinearMemory(Classifier):
    """W = sum of v k^T in integers: v has a one at the answer, and k is the question's vector.

    The score of an option is W k for the asked question: the sum of its cosines with the questions that have this
    answer. So answers with more examples score higher. The keys are kept, since a removal needs them.
    """

    def fit(self, ids: Sequence[int], X: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """Write all pairs."""
        self._memory = np.zeros((self.n_labels, X.shape[1]), dtype=np.int64)
        values = np.eye(self.n_labels, dtype=np.int64)[labels]
        self._pairs = dict(zip(ids, zip(as_integers(X), values, strict=True), strict=True))
        for key, value in self._pairs.values():
            self._memory = write(self._memory, key, value, "sum")

    def remove(self, ids: Collection[int]) -> None:
        """Subtract what the pairs have added."""
        for id_ in set(ids):
            key, value = self._pairs.pop(id_)
            self._memory -= np.outer(value, key)

    def scores(self, Q: NDArray[np.float32]) -> Scores:
        """Return W k of each question, shape (len(Q), n_labels)."""
        return np.asarray((as_integers(Q) @ self._memory.T) / float(2 ** (2 * UNIT_BITS)))

    def kept_bytes(self) -> int:
        """Return the size of the memory, keys and values."""
        return int(self._memory.nbytes + sum(key.nbytes + 8 for key, _ in self._pairs.values()))


PEERS: list[Entry] = [
    Entry(
        "miras",
        lambda tools: ClassifierPeer(tools, "miras", LinearMemory),
        "Miras (2504.13173): linear memory, dot product, no retention; integers are ours",
        "exact",
        "index",
        "all models of the paper; corners with retention or another objective, where subtraction is not exact",
    )
]
