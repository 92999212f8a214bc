"""Sealed rows: an example's texts and its vector, each encrypted and authenticated under the example's own key.

The cipher is AES-256-GCM. A key seals exactly one vector and one list of texts, so each has a nonce of its own. Store,
slot and kind are authenticated too: a row that was moved, swapped or taken from another store does not open. Vectors
are many and are sealed and opened by the core, texts by the package cryptography.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from erase_core import commitments
from erase_core._core import open_vectors, seal_vectors
from erase_core.checks import MAX_ID, MIN_ID
from erase_core.examples.example import Example, unstorable

__all__ = ["CIPHER", "Sealing", "SealingError", "can_be_an_id", "row_hash"]

CIPHER = "AES-256-GCM"
VERSION = 3
# The nonce of texts. That of vectors is in the core.
TEXTS = (2).to_bytes(12, "little")
JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class SealingError(Exception):
    """A sealed value does not open, or is not what is sealed here."""

    def __init__(self, slot: int) -> None:
        super().__init__(slot)
        self.slot = slot


class Sealing:
    """Seals and opens the rows of a store.

    Parameters
    ----------
    store : str
        The store's name.
    """

    def __init__(self, store: str) -> None:
        # Imported when a store is opened: it takes long, and most of the package does without it.
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM
        self._errors = (InvalidTag, TypeError, ValueError)
        self._associated = f"erase-core row {VERSION}".encode() + bytes.fromhex(store)

    def seal_texts(self, key: bytes, slot: int, example: Example) -> bytes:
        """Seal an example without its vector. A key must be used for one example only."""
        texts = [example.id, example.input, example.output, example.rationale, example.subject]
        plain = JSON.encode(texts).encode()
        return self._cipher(key).encrypt(TEXTS, plain, self._associated_with(slot))

    def open_texts(self, key: bytes, slot: int, sealed: bytes) -> Example:
        """Open an example.

        Raises
        ------
        SealingError
        """
        try:
            return Example(*json.loads(self._cipher(key).decrypt(TEXTS, sealed, self._associated_with(slot))))
        except self._errors as error:
            raise SealingError(slot) from error

    def seal_vectors(
        self, keys: Sequence[bytes], first: int, ids: Sequence[int | str], vectors: NDArray[np.float32]
    ) -> list[bytes]:
        """Seal the vectors of examples in consecutive slots, with their ids. A key must be used for one vector only."""
        given = np.ascontiguousarray(vectors, dtype=np.float32)
        return seal_vectors(self._associated, first, b"".join(keys), list(ids), given)

    def open_vectors(
        self, keys: Sequence[bytes], slots: Sequence[int], sealed: Sequence[bytes], out: NDArray[np.float32]
    ) -> list[int | str]:
        """Open vectors into the rows of an array of shape (n, dim), and return the ids.

        Raises
        ------
        SealingError
        """
        try:
            ids, wrong = open_vectors(self._associated, list(slots), b"".join(keys), list(sealed), out)
        except TypeError as error:  # not bytes
            raise SealingError(slots[0]) from error
        if wrong is not None:
            raise SealingError(slots[wrong])
        return cast("list[int | str]", ids)

    def _associated_with(self, slot: int) -> bytes:
        return self._associated + slot.to_bytes(8, "little")


def row_hash(key: bytes, example: Example, vector: NDArray[np.float32]) -> bytes:
    """Return the commitment to an example. Its salt is derived from the example's key, and is destroyed with it."""
    return commitments.row_hash(example, vector, hmac.digest(key, b"erase-core salt 1", "sha256"))


def can_be_an_id(id_: int | str) -> bool:
    """Whether the store could hold an example with this id."""
    if isinstance(id_, str):
        return not unstorable(id_)
    return isinstance(id_, int) and MIN_ID <= id_ <= MAX_ID
