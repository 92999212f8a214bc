"""Peers without a language model: classifiers of the vectors of the questions. Each is exact under removal.

They are what a language model with demonstrations has to beat: a removal from them costs next to nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from erase_core.backends import query_vectors
from erase_core.evaluate.peers.peer import Entry, Exactness, Tools
from erase_core.evaluate.peers.selections import clustered
from erase_core.evaluate.tasks.task import Scores, labels_of
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example

__all__ = ["PEERS", "Classifier", "ClassifierPeer", "LogisticRegression", "NearestMean", "Vote"]

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]
# A component of a vector of at most unit norm, as an integer; a sum of 2**21 of them fits into 64 bits.
UNIT = 2**40
# Log-probability of an option that no example has.
ABSENT = float(np.log(np.finfo(np.float64).tiny))


class Classifier(ABC):
    """Gives a score to each label of a vector.

    Parameters
    ----------
    n_labels : int
    """

    def __init__(self, n_labels: int) -> None:
        self.n_labels = n_labels

    @abstractmethod
    def fit(self, ids: Sequence[int], X: Vectors, labels: Labels) -> None:
        """Fit to vectors of shape (n, dim) and at most unit norm, with their labels, 0 to n_labels - 1."""

    @abstractmethod
    def remove(self, ids: Collection[int]) -> None:
        """Remove examples, at most all."""

    @abstractmethod
    def scores(self, Q: Vectors) -> Scores:
        """Return the scores of each label, shape (len(Q), n_labels)."""

    @abstractmethod
    def kept_bytes(self) -> int:
        """Return the size of what is kept."""


class NearestMean(Classifier):
    """Minus the distance to the mean of each label's vectors; -2, the farthest possible, for a label without examples.

    A label keeps the integer sum of its rounded vectors, so a removal is a subtraction without rounding.
    """

    def fit(self, ids: Sequence[int], X: Vectors, labels: Labels) -> None:
        """Add up the vectors of each label."""
        self._rows = np.rint(X.astype(np.float64) * UNIT).astype(np.int64)
        self._of = {id_: (place, int(label)) for place, (id_, label) in enumerate(zip(ids, labels, strict=True))}
        self._sums = np.zeros((self.n_labels, X.shape[1]), dtype=np.int64)
        np.add.at(self._sums, labels, self._rows)
        self._counts = np.bincount(labels, minlength=self.n_labels)

    def remove(self, ids: Collection[int]) -> None:
        """Subtract the vectors, and overwrite them."""
        for id_ in set(ids):
            place, label = self._of.pop(id_)
            self._sums[label] -= self._rows[place]
            self._counts[label] -= 1
            self._rows[place] = 0

    def scores(self, Q: Vectors) -> Scores:
        """Return minus the distances."""
        means = self._sums / (np.maximum(self._counts, 1)[:, None] * float(UNIT))
        distances = np.linalg.norm(Q.astype(np.float64)[:, None, :] - means, axis=2)
        return np.where(self._counts > 0, -distances, -2.0)

    def kept_bytes(self) -> int:
        """Return the size of sums and rows."""
        numbers: int = self._sums.size + len(self._counts) + len(self._of) * self._rows.shape[1]
        return 8 * numbers


class Vote(Classifier):
    """How many of the nearest examples have each label; a tie is won by the label whose neighbour is nearer.

    Parameters
    ----------
    n_labels : int
    n_neighbours : int, default=8
    """

    def __init__(self, n_labels: int, n_neighbours: int = 8) -> None:
        super().__init__(n_labels)
        self._n = n_neighbours

    def fit(self, ids: Sequence[int], X: Vectors, labels: Labels) -> None:
        """Keep the vectors in a clustering of one cluster, whose neighbours are exact."""
        self._rows = clustered(ids, X, 1, 0)
        self._label = dict(zip(ids, labels.tolist(), strict=True))

    def remove(self, ids: Collection[int]) -> None:
        """Remove by `QKMeans.remove`."""
        self._rows.remove(list(ids))
        for id_ in set(ids):
            del self._label[id_]

    def scores(self, Q: Vectors) -> Scores:
        """Return the numbers of votes, with fractions that decide ties."""
        votes = np.zeros((len(Q), self.n_labels))
        if not self._label:
            return votes
        near = self._rows.kneighbors(Q, min(self._n, len(self._label)))[1][:, ::-1].tolist()
        for row, ids in zip(votes, near, strict=True):
            for rank, id_ in enumerate(ids):  # the nearest last
                label = self._label[id_]
                # A fraction below one vote, the larger the nearer.
                row[label] = np.floor(row[label]) + 1 + 0.9 * (rank + 1) / len(ids)
        return votes

    def kept_bytes(self) -> int:
        """Return the size of the model as a file, and of a label for each row."""
        return len(self._rows._model.to_bytes()) + 8 * len(self._label)


class LogisticRegression(Classifier):
    """Log-probabilities by scikit-learn's logistic regression with its defaults. A removal fits the others again."""

    def fit(self, ids: Sequence[int], X: Vectors, labels: Labels) -> None:
        """Fit on one thread, so that the last bits do not depend on how sums are split."""
        from sklearn.linear_model import LogisticRegression as Model
        from threadpoolctl import threadpool_limits

        self._ids, self._X, self._labels, self._model = list(ids), X, labels, None
        if len(np.unique(labels)) > 1:
            with threadpool_limits(1):
                self._model = Model(max_iter=1000).fit(X, labels)

    def remove(self, ids: Collection[int]) -> None:
        """Fit again."""
        gone = set(ids)
        keep = [place for place, id_ in enumerate(self._ids) if id_ not in gone]
        self.fit([self._ids[place] for place in keep], self._X[keep], self._labels[keep])

    def scores(self, Q: Vectors) -> Scores:
        """Return the log-probabilities; all equal without examples."""
        scores = np.full((len(Q), self.n_labels), ABSENT)
        if self._model is not None:
            scores[:, self._model.classes_] = np.maximum(self._model.predict_log_proba(Q), ABSENT)
        elif len(self._labels):
            scores[:, self._labels[0]] = 0.0
        return scores

    def kept_bytes(self) -> int:
        """Return the size of the vectors and of the coefficients."""
        return self._X.nbytes + self._labels.nbytes + (0 if self._model is None else self._model.coef_.nbytes)


class ClassifierPeer:
    """A classifier as a peer: the vectors are those of the product's embedding model.

    Parameters
    ----------
    tools : Tools
    name : str
    make : callable
        Makes a `Classifier` for a number of labels.
    """

    exactness: Exactness = "exact"

    def __init__(self, tools: Tools, name: str, make: Callable[[int], Classifier]) -> None:
        self.name = name
        self._tools, self._make = tools, make
        self._classifier = make(1)
        self._ids: set[int] = set()
        self._n_labels = 1

    def fit(self, world: World) -> None:
        """Embed and fit the examples of a world."""
        examples, options = world.examples, world.task.options
        ids = [example.id for example in examples if isinstance(example.id, int)]
        self._ids, self._n_labels = set(ids), len(options)
        self._classifier = self._make(len(options))
        if ids:
            vectors = self._tools.vectors([example.input for example in examples])
            self._classifier.fit(ids, vectors, labels_of(examples, options))

    def scores(self, questions: Sequence[Example]) -> Scores:
        """Return the scores of each option, shape (n, k); all equal without examples."""
        if not self._ids or not questions:
            return np.zeros((len(questions), self._n_labels))
        # One by one, as a service has them.
        rows = [query_vectors(self._tools.embedder, [question.input]) for question in questions]
        return np.concatenate([self._classifier.scores(row) for row in rows])

    def forget(self, ids: Collection[int]) -> None:
        """Remove examples. Those that are not there are ignored."""
        gone = self._ids.intersection(ids)
        self._ids -= gone
        if gone and self._ids:
            self._classifier.remove(gone)
        elif gone:
            self._classifier = self._make(self._n_labels)

    def kept_bytes(self) -> int:
        """Return the size of what the classifier keeps."""
        return self._classifier.kept_bytes() if self._ids else 0


def _entry(name: str, make: Callable[[int], Classifier], source: str) -> Entry:
    return Entry(name, lambda tools: ClassifierPeer(tools, name, make), source, "exact", "classifier")


PEERS: list[Entry] = [
    _entry("nearest-mean", NearestMean, "nearest class mean; sums in integers are ours"),
    _entry("vote", Vote, "k nearest neighbours, k = 8"),
    _entry("logistic-regression", LogisticRegression, "scikit-learn's LogisticRegression, refitted"),
]
