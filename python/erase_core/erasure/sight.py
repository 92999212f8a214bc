"""What an embedding model reads of texts: how many exceed its limit, and which examples it cannot distinguish.

Vectors are compared, not texts, because the clustering cannot distinguish two examples with the same vector.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from erase_core.embedding.sentence import Embedder
from erase_core.errors import EmbedderError
from erase_core.examples.example import counted
from erase_core.store.reads import Reads

__all__ = ["count_tokens", "indistinct", "limit_of"]

Id = int | str


def limit_of(embedder: Embedder) -> int | None:
    """Return how many tokens of a text an embedding model reads; None if there is no limit or it is unknown."""
    limit = getattr(embedder, "max_tokens", None)
    counts = isinstance(limit, (int, np.integer)) and callable(getattr(embedder, "count_tokens", None))
    return int(cast("int", limit)) if counts and not isinstance(limit, bool) else None


def count_tokens(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of tokens of each text; zeros if the model has no limit or it is unknown.

    Raises
    ------
    EmbedderError
        The model does not return one integer for each text.
    """
    if limit_of(embedder) is None:
        return np.zeros(len(texts), dtype=np.int64)
    given = embedder.count_tokens(texts)  # type: ignore[attr-defined]
    try:
        counts = np.array(given, dtype=np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise EmbedderError(
            f"count_tokens of the embedding model {embedder.name} must return integers: {error}"
        ) from error
    if counts.shape != (len(texts),):
        raise EmbedderError(
            f"count_tokens of the embedding model {embedder.name} must return {counted(len(texts), 'integer')}, one "
            f"for each text, got {counts.size}"
        )
    return counts


def indistinct(reads: Reads, ids: Collection[Id]) -> list[list[Id]]:
    """Return groups of examples with the same vector but different inputs.

    Parameters
    ----------
    reads : Reads
    ids : collection of int or str
        Each group contains at least one of them.

    Returns
    -------
    list of lists of ids
        Each group has all examples of the store with one vector, by ascending id.
    """
    if not ids:
        return []
    wanted = set(ids)
    all_ids, vectors = reads.vectors()
    rows = [vector.tobytes() for vector in vectors]
    vectors.fill(0)
    seen = {row for id_, row in zip(all_ids, rows, strict=True) if id_ in wanted}
    groups: dict[bytes, list[Id]] = {}
    for id_, row in zip(all_ids, rows, strict=True):
        if row in seen:
            groups.setdefault(row, []).append(id_)
    return [group for group in groups.values() if len({each.input for each in reads.examples(group)}) > 1]
