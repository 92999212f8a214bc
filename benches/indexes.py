"""One deletion by indexes of vectors in memory: each deletes ids one by one from an index of the same rows.

None of them keeps a clustering: their time is that of forgetting a vector, not of correcting what was learnt from it.
hnswlib only marks an entry, usearch leaves the bytes until a compaction. Stores in folders are in store_peers.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
from measure import Matrix
from numpy.typing import NDArray

Delete = Callable[[int], object]


def _faiss(X: Matrix) -> Delete:
    import faiss

    index = faiss.IndexIDMap2(faiss.IndexFlatL2(X.shape[1]))
    index.add_with_ids(X, np.arange(len(X)))
    return lambda id_: index.remove_ids(faiss.IDSelectorBatch(np.array([id_])))


def _hnswlib(X: Matrix) -> Delete:
    import hnswlib

    index = hnswlib.Index(space="l2", dim=X.shape[1])
    index.init_index(max_elements=len(X), ef_construction=50, M=8)
    index.add_items(X, np.arange(len(X)))
    return lambda id_: index.mark_deleted(id_)


def _usearch(X: Matrix) -> Delete:
    from usearch.index import Index

    index = Index(ndim=X.shape[1], metric="l2sq")
    index.add(np.arange(len(X)), X)
    return lambda id_: index.remove(id_)


INDEXES = {
    "faiss remove_ids": _faiss,
    "hnswlib mark_deleted": _hnswlib,
    "usearch remove": _usearch,
}


def deletions(X: Matrix, count: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Seconds of deletions by each that is installed."""
    for name, build in INDEXES.items():
        try:
            delete = build(X)
        except ImportError:
            print(f"| {name} is not installed |")
            continue
        times = []
        for id_ in np.random.default_rng(0).permutation(len(X))[:count].tolist():
            start = time.perf_counter()
            delete(id_)
            times.append(time.perf_counter() - start)
        yield name, np.array(times)
