"""Store metadata: what a store was created with (`Constants`), and its current state (`Metadata`).

A table of names and values. A hash protects the constants. The current state is checked against the data it describes.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from erase_core import commitments
from erase_core.commitments import Tokens
from erase_core.errors import StoreError
from erase_core.receipts.receipt import ReceiptRef
from erase_core.settings import Settings
from erase_core.store.database import Change, Database

__all__ = [
    "CONSTANTS",
    "Constants",
    "Head",
    "Metadata",
    "WritableMetadata",
    "damage",
    "hash_of",
    "new_metadata",
    "new_name",
]

CONSTANTS = ("store", "settings", "embedder", "dim", "axes", "key", "receipts")


class Head(NamedTuple):
    """The newest receipt: its number (0 if there is none), its hash, and the public key it was signed with, if any."""

    number: int
    hash: str
    public_key: str

    @property
    def ref(self) -> ReceiptRef:
        """Number and hash."""
        return ReceiptRef(self.number, self.hash)


def _storable(path: Path) -> str | bytes:
    """Return a path as text; as bytes if it is not valid UTF-8, since text in SQLite must be."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return os.fspath(path)


def new_name() -> str:
    """Draw the name of a new store, which differs from those of all others."""
    return secrets.token_hex(16)


def new_metadata(
    name: str, settings: Settings, embedder: str, dim: int, axes: NDArray[np.float64] | None, receipts: Path | None
) -> list[tuple[str, object]]:
    """Return the names and values for a new store. See `Store.create` for the parameters."""
    constants = {
        "store": name,
        "settings": settings.to_json(),
        "embedder": embedder,
        "dim": dim,
        "axes": None if axes is None else np.ascontiguousarray(axes, dtype="<f8").tobytes(),
        "key": secrets.token_bytes(32),
        "receipts": None if receipts is None else _storable(receipts.absolute()),
    }
    variables = {
        "generation": 0,
        "digest": "",
        "model_salt": commitments.new_salt(),
        "commitment": commitments.EMPTY,
        "forgotten_commitment": commitments.EMPTY,
        "head": 0,
        "head_hash": "",
        "head_key": "",
        "head_is_current": 0,
        "scrubbed": 1,
    }
    return [*constants.items(), *variables.items(), ("constants", hash_of(constants))]


class _Values:
    """Access to the values by their names. Each value's type is checked."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def _value(self, name: str) -> Any:
        row = self._db.one("SELECT value FROM facts WHERE name = ?", (name,), default=None)
        if row is None:
            raise damage(self._db.file, name)
        return row[0]

    def _number(self, name: str) -> int:
        value = self._value(name)
        if not isinstance(value, int):
            raise damage(self._db.file, name)
        return value

    def _blob(self, name: str, length: int) -> bytes:
        value = self._value(name)
        if not isinstance(value, bytes) or len(value) != length:
            raise damage(self._db.file, name)
        return value


class Constants(_Values):
    """The values with which a store was created. They never change.

    Parameters
    ----------
    db : Database

    Raises
    ------
    StoreError
        A constant was changed.
    """

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        # Read once: some are needed for every row.
        self._constants: dict[str, Any] = {}
        for name in CONSTANTS:
            self._constants[name] = super()._value(name)
        if super()._value("constants") != hash_of(self._constants):
            raise damage(db.file, "settings")

    @property
    def name(self) -> str:
        """The store's unique name: 32 hexadecimal digits, drawn when it was created."""
        return str(self._value("store"))

    @property
    def settings(self) -> Settings:
        """The settings with which the store was created."""
        text = self._value("settings")
        try:
            return Settings.from_json(text)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise damage(self._db.file, "settings") from error

    @property
    def embedder(self) -> str:
        """Name of the embedding model."""
        return str(self._value("embedder"))

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return self._number("dim")

    @property
    def axes(self) -> NDArray[np.float64] | None:
        """The public axes of the projection; None without a projection by axes."""
        blob = self._value("axes")
        if blob is None:
            return None
        if not isinstance(blob, bytes) or not blob or len(blob) % (8 * self.dim):
            raise damage(self._db.file, "axes")
        return np.frombuffer(blob, dtype="<f8").reshape(-1, self.dim)

    @property
    def receipts(self) -> Path | None:
        """Folder of the receipts; None if it is inside the store's folder."""
        folder = self._value("receipts")
        return None if folder is None else Path(os.fsdecode(folder) if isinstance(folder, bytes) else str(folder))

    @property
    def tokens(self) -> Tokens:
        """The store's keyed hashes."""
        return Tokens(self._blob("key", 32))

    def _value(self, name: str) -> Any:
        return self._constants[name]


class Metadata(_Values):
    """The current state of a store. See `Reads.metadata`."""

    @property
    def generation(self) -> int:
        """Number of transactions that wrote to the store."""
        return self._number("generation")

    @property
    def digest(self) -> str:
        """Digest of the model of the examples; empty for a store without examples."""
        return str(self._value("digest"))

    @property
    def model_commitment(self) -> str:
        """The commitment to the digest of the model."""
        return commitments.model_commitment(self.digest, self._blob("model_salt", 32))

    @property
    def commitment(self) -> bytes:
        """The commitment to all examples."""
        return self._blob("commitment", len(commitments.EMPTY))

    @property
    def forgotten_commitment(self) -> bytes:
        """The commitment to the list of what was forgotten."""
        return self._blob("forgotten_commitment", len(commitments.EMPTY))

    @property
    def head(self) -> Head:
        """The newest receipt."""
        return Head(self._number("head"), str(self._value("head_hash")), str(self._value("head_key")))

    @property
    def head_is_current(self) -> bool:
        """Whether nothing was written since the newest receipt, so it describes the current model."""
        return bool(self._value("head_is_current"))

    @property
    def is_scrubbed(self) -> bool:
        """Whether `scrub` and `settling` finished after the last removal. False if they were blocked or killed."""
        return bool(self._value("scrubbed"))


class WritableMetadata(Metadata):
    """The current state of a store, which can be changed. See `WriteTransaction.metadata`."""

    def __init__(self, db: Database, change: Change) -> None:
        super().__init__(db)
        self._change = change

    def set(self, **values: object) -> None:
        """Change values, given by their names in the table."""
        self._change("UPDATE facts SET value = ? WHERE name = ?", [(value, name) for name, value in values.items()])


def damage(file: Path, name: str) -> StoreError:
    """Return the error for a store's file in which something is missing or invalid."""
    return StoreError(f"{file} is damaged: cannot read its {name}. Restore a backup.")


def hash_of(values: Mapping[str, object]) -> str:
    """Return a hash of values by their names."""
    return hashlib.sha256(repr(sorted(values.items())).encode("utf-8", "surrogatepass")).hexdigest()
