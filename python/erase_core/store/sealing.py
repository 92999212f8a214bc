"""Sealed rows: an example's texts and its vector, each encrypted and authenticated under the example's own key.

The cipher is AES-256-GCM. A key seals exactly one vector and one list of texts, so each has a nonce of its own. Store,
slot and kind are authenticated too: a row that was moved, swapped or taken from another store does not open.
"""

from __future__ import annotations

import hmac
import json
import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from erase_core import commitments
from erase_core.checks import MAX_ID, MIN_ID
from erase_core.examples.example import Example, unstorable

__all__ = ["CIPHER", "Sealed", "Sealing", "SealingError", "can_be_an_id"]

CIPHER = "AES-256-GCM"
VERSION = 3
VECTOR, TEXTS = (kind.to_bytes(12, "little") for kind in (1, 2))
NUMBER, LENGTH = struct.Struct("<bq"), struct.Struct("<bI")


class SealingError(Exception):
    """A sealed value does not open, or is not what is sealed here."""


class Sealed(NamedTuple):
    """An example as it is stored.

    Parameters
    ----------
    vector, texts : bytes
    hash : bytes
        The commitment to the example.
    """

    vector: bytes
    texts: bytes
    hash: bytes


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
        self._errors = (InvalidTag, TypeError, ValueError, struct.error)
        self._context = f"erase-core row {VERSION}".encode() + bytes.fromhex(store)

    def seal(self, key: bytes, slot: int, example: Example, vector: NDArray[np.float32]) -> Sealed:
        """Seal an example. A key must be used for one example only."""
        cipher, context = self._cipher(key), self._context_of(slot)
        texts = [example.id, example.input, example.output, example.rationale, example.subject]
        plain = json.dumps(texts, ensure_ascii=False, separators=(",", ":")).encode()
        return Sealed(
            cipher.encrypt(VECTOR, _packed(example.id) + vector.astype("<f4").tobytes(), context),
            cipher.encrypt(TEXTS, plain, context),
            row_hash(key, example, vector),
        )

    def texts(self, key: bytes, slot: int, sealed: bytes) -> Example:
        """Open an example.

        Raises
        ------
        SealingError
        """
        try:
            fields = json.loads(self._cipher(key).decrypt(TEXTS, sealed, self._context_of(slot)))
            return Example(*fields)
        except self._errors as error:
            raise SealingError from error

    def vector(self, key: bytes, slot: int, sealed: bytes) -> tuple[int | str, memoryview]:
        """Open a vector: the example's id, and the bytes of a float32 array.

        Raises
        ------
        SealingError
        """
        try:
            return _unpacked(self._cipher(key).decrypt(VECTOR, sealed, self._context_of(slot)))
        except self._errors as error:
            raise SealingError from error

    def _context_of(self, slot: int) -> bytes:
        return self._context + slot.to_bytes(8, "little")


def row_hash(key: bytes, example: Example, vector: NDArray[np.float32]) -> bytes:
    """Return the commitment to an example. Its salt is derived from the example's key, and is destroyed with it."""
    return commitments.row_hash(example, vector, hmac.digest(key, b"erase-core salt 1", "sha256"))


def can_be_an_id(id_: int | str) -> bool:
    """Whether the store could hold an example with this id."""
    if isinstance(id_, str):
        return not unstorable(id_)
    return isinstance(id_, int) and MIN_ID <= id_ <= MAX_ID


def _packed(id_: int | str) -> bytes:
    if isinstance(id_, int):
        return NUMBER.pack(0, id_)
    text = id_.encode()
    return LENGTH.pack(1, len(text)) + text


def _unpacked(content: bytes) -> tuple[int | str, memoryview]:
    if content[0] == 0:
        return NUMBER.unpack_from(content)[1], memoryview(content)[NUMBER.size :]
    end = LENGTH.size + LENGTH.unpack_from(content)[1]
    return content[LENGTH.size : end].decode(), memoryview(content)[end:]
