"""Commitments to examples: a salted hash of each row, and a hash of all rows together.

A commitment is binding and reveals nothing. With the row and its salt, anyone can check its hash. Without the salt, the
hash is as good as random, so it may stay in a receipt after the row and its salt have been deleted. The hash of all
rows is LtHash16 (Lewi, Kim, Maykov, Weis, "Securing Update Propagation with Homomorphic Hashing", 2019). It is a sum,
so removing a row subtracts its term.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from erase_core.examples.example import AnyExample, Example
from erase_core.examples.spelling import normalised

__all__ = ["EMPTY", "Tokens", "minus", "model_commitment", "plus", "row_hash"]

TOKEN_BYTES = 16
# 1024 lanes of 16 bits: at least 200 bits of security (section 5 of the paper).
LANES = 1024
EMPTY = bytes(2 * LANES)
# Hashes to add at a time.
PART = 256
HEADS = {kind: f"erase-core {kind} 1".encode() for kind in ("id", "subject", "likeness", "content", "vector", "row")}


def row_hash(example: Example, vector: NDArray[np.float32], salt: bytes) -> bytes:
    """Return the commitment to an example with its vector: 32 bytes."""
    fields = (example.id, example.input, example.output, example.rationale, example.subject)
    return _hash("row", salt, *fields, vector.astype("<f4").tobytes())


def model_commitment(digest: str, salt: bytes) -> str:
    """Return the commitment to a model's digest, in hex. The bare digest would confirm a correct guess of a row."""
    return _hash("model", salt, digest).hex()


def plus(commitment: bytes, hashes: Iterable[bytes]) -> bytes:
    """Return a commitment with the rows of `hashes` added."""
    return (_lanes(commitment) + _sum(hashes)).astype("<u2").tobytes()


def minus(commitment: bytes, hashes: Iterable[bytes]) -> bytes:
    """Return a commitment with the rows of `hashes` removed."""
    return (_lanes(commitment) - _sum(hashes)).astype("<u2").tobytes()


class Tokens:
    """Keyed hashes of 16 bytes by which ids and subjects are found, and what was forgotten is recognised.

    Parameters
    ----------
    key : bytes
        The key of the store's tokens.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of_id(self, id_: int | str) -> bytes:
        """Return the token of an id. 7 and "7" have the same token, since a CSV file cannot distinguish them."""
        return self._token("id", str(id_))

    def of_subject(self, subject: str) -> bytes:
        """Return the token of a subject."""
        return self._token("subject", subject)

    def of_likeness(self, subject: str) -> bytes:
        """Return the token that a subject shares with all that look like it. See `normalised`."""
        return self._token("likeness", normalised(subject))

    def about(self, subject: str | None) -> tuple[bytes | None, bytes | None]:
        """Return the tokens of a subject's likeness and of the subject. None: those of no subject."""
        return (None, None) if subject is None else (self.of_likeness(subject), self.of_subject(subject))

    def of_content(self, example: AnyExample) -> bytes:
        """Return the token of all fields of an example except its id."""
        return self._token("content", example.input, example.output, example.rationale, example.subject)

    def of_vector(self, vector: NDArray[np.float32]) -> bytes:
        """Return the token of a vector."""
        return self._token("vector", vector.astype("<f4").tobytes())

    def _token(self, kind: str, *values: bytes | str | None) -> bytes:
        return hmac.digest(self._key, _encoded(kind, *values), "sha256")[:TOKEN_BYTES]


def _hash(kind: str, *values: bytes | str | int | None) -> bytes:
    return hashlib.sha256(_encoded(kind, *values)).digest()


def _encoded(kind: str, *values: bytes | str | int | None) -> bytes:
    """Return an unambiguous encoding of values: type, length and content of each."""
    encoded = HEADS.get(kind) or f"erase-core {kind} 1".encode()
    for value in values:
        if isinstance(value, str):
            letter, content = b"s", value.encode()
        elif isinstance(value, bytes):
            letter, content = b"b", value
        elif value is None:
            letter, content = b"n", b""
        else:
            letter, content = b"i", str(value).encode()
        encoded += letter + len(content).to_bytes(8, "little") + content
    return encoded


def _lanes(commitment: bytes) -> NDArray[np.uint16]:
    return np.frombuffer(commitment, dtype="<u2")


def _sum(hashes: Iterable[bytes]) -> NDArray[np.uint16]:
    total, remaining = np.zeros(LANES, dtype=np.uint16), iter(hashes)
    while part := list(islice(remaining, PART)):
        expanded = b"".join([hashlib.shake_256(row).digest(2 * LANES) for row in part])
        total += np.frombuffer(expanded, dtype="<u2").reshape(-1, LANES).sum(axis=0, dtype=np.uint16)
    return total
