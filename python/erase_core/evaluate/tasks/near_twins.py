"""Near twins: texts that share most of their words. A test question with a twin in the pool tests memory, not skill."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["THRESHOLD", "groups_of", "near_twins"]

# Share of common words from which two texts are near twins. On intent_recognition, pairs above it differ in a name.
THRESHOLD = 0.7
# Texts that are compared with all others at once.
BLOCK = 1024


def near_twins(texts: Sequence[str], threshold: float = THRESHOLD) -> NDArray[np.int64]:
    """Return the pairs of near twins, shape (n_pairs, 2), each with the smaller place first.

    The measure is the Jaccard index of the sets of words: of all words of two texts, the share that both have. Case and
    punctuation do not count, nor do lines that stand in every text, such as a list of options. It needs no model, so a
    pair depends on nothing but the two texts and those lines.

    Parameters
    ----------
    texts : sequence of str
    threshold : float, default=THRESHOLD
        From 0 to 1.
    """
    from scipy.sparse import csr_array

    words = _words(texts)
    places = {word: place for place, word in enumerate(sorted(set().union(*words)))}
    columns = [places[word] for each in words for word in sorted(each)]
    sizes = np.array([len(each) for each in words], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    has = csr_array((np.ones(len(columns), dtype=np.int32), columns, starts), shape=(len(texts), len(places)))
    pairs = []
    for first in range(0, len(texts), BLOCK):
        common = (has[first : first + BLOCK] @ has.T).tocoo()
        a, b = common.row.astype(np.int64) + first, common.col.astype(np.int64)
        alike = common.data >= threshold * (sizes[a] + sizes[b] - common.data)
        pairs.append(np.stack([a, b], axis=1)[alike & (a < b)])
    return np.concatenate(pairs) if pairs else np.empty((0, 2), dtype=np.int64)


def groups_of(n: int, pairs: NDArray[np.int64]) -> list[list[int]]:
    """Return the groups of places that pairs connect, ascending; a place without a pair is a group of its own."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    graph = csr_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    n_groups, labels = connected_components(graph, directed=False)
    groups: list[list[int]] = [[] for _ in range(n_groups)]
    for place, label in enumerate(labels.tolist()):
        groups[label].append(place)
    return groups


def _words(texts: Sequence[str]) -> list[set[str]]:
    lines = [text.casefold().splitlines() for text in texts]
    everywhere = set.intersection(*map(set, lines)) if len(lines) > 1 else set()
    return [set(re.findall(r"\w+", "\n".join(line for line in each if line not in everywhere))) for each in lines]
