"""How much of a text an embedding model reads, and how long texts are for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from erase_core.embedding.sentence import Embedder
from erase_core.errors import EmbedderError
from erase_core.examples.example import counted

__all__ = ["count_tokens", "limit_of"]


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
