"""What a store was created with. A hash protects it: an edit by hand is detected."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erase_core.errors import StoreError
from erase_core.settings import Settings
from erase_core.store.database import Database, damage

__all__ = ["CONSTANTS", "Constants", "hash_of", "new_constants", "new_name"]

CONSTANTS = ("store", "settings", "embedder", "dim", "axes", "receipts")


def new_name() -> str:
    """Draw the name of a new store, which differs from those of all others."""
    return secrets.token_hex(16)


def new_constants(
    name: str, settings: Settings, embedder: str, dim: int, axes: NDArray[np.float64] | None, receipts: Path | None
) -> list[tuple[str, object]]:
    """Return the names and values for a new store. See `Store.create` for the parameters."""
    constants = {
        "store": name,
        "settings": settings.to_json(),
        "embedder": embedder,
        "dim": dim,
        "axes": None if axes is None else np.ascontiguousarray(axes, dtype="<f8").tobytes(),
        "receipts": None if receipts is None else _storable(receipts.absolute()),
    }
    return [*constants.items(), ("hash", hash_of(constants))]


class Constants:
    """The values with which a store was created. They never change.

    Parameters
    ----------
    db : Database

    Raises
    ------
    StoreError
        A value was changed.
    """

    def __init__(self, db: Database) -> None:
        self._file = db.file
        # Read once: some are needed for every row.
        values = dict(db.all("SELECT name, value FROM constants"))
        self._values: dict[str, Any] = {name: values.get(name) for name in CONSTANTS}
        if values.get("hash") != hash_of(self._values):
            raise self._damage("settings")

    @property
    def name(self) -> str:
        """The store's unique name: 32 hexadecimal digits, drawn when it was created."""
        return str(self._values["store"])

    @cached_property
    def settings(self) -> Settings:
        """The settings with which the store was created."""
        try:
            return Settings.from_json(self._values["settings"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._damage("settings") from error

    @property
    def embedder(self) -> str:
        """Name of the embedding model."""
        return str(self._values["embedder"])

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        dim = self._values["dim"]
        if not isinstance(dim, int):
            raise self._damage("dim")
        return dim

    @property
    def axes(self) -> NDArray[np.float64] | None:
        """The public axes of the projection; None without a projection by axes."""
        blob = self._values["axes"]
        if blob is None:
            return None
        if not isinstance(blob, bytes) or not blob or len(blob) % (8 * self.dim):
            raise self._damage("axes")
        return np.frombuffer(blob, dtype="<f8").reshape(-1, self.dim)

    @property
    def receipts(self) -> Path | None:
        """Folder of the receipts; None if it is inside the store's folder."""
        folder = self._values["receipts"]
        return None if folder is None else Path(os.fsdecode(folder) if isinstance(folder, bytes) else str(folder))

    def _damage(self, name: str) -> StoreError:
        return damage(self._file, name)


def hash_of(values: Mapping[str, object]) -> str:
    """Return a hash of values by their names."""
    return hashlib.sha256(repr(sorted(values.items())).encode("utf-8", "surrogatepass")).hexdigest()


def _storable(path: Path) -> str | bytes:
    """Return a path as text; as bytes if it is not valid UTF-8, since text in SQLite must be."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return os.fspath(path)
