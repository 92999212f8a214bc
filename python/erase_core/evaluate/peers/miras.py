"""The corner of Miras in which a memory forgets by subtraction.

Miras (Behrouz et al., 2504.13173) describes sequence models as memories that are written by an objective, with a
retention gate. One corner of it is exact under removal: a linear memory with the objective of a dot product and no
retention, W = sum of v k^T. In integers, what an example added can be subtracted to the bit. With decay, or with the
delta rule, what is written later changes with what was written before, so subtraction leaves a trace.

`LinearMemory` is a classifier by the exact corner. No network of the paper is reproduced, nothing is learned, and keys
and values are ours: vectors of questions, and answers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from erase_core.evaluate.peers.classifiers import Classifier, ClassifierPeer
from erase_core.evaluate.peers.peer import Entry
from erase_core.evaluate.tasks.task import Scores

__all__ = ["PEERS", "LinearMemory"]

Integers = NDArray[np.int64]
# A component of a vector of unit norm, as an integer: products of two and sums of 2**22 of these fit into 64 bits.
UNIT_BITS = 20


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
            self._memory += np.outer(value, key)

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
