"""The store's folder: creates, opens and locks it, and begins and ends transactions.

For its contents, see reads.py and transaction.py; for the SQLite file, database.py; for the model, model_cache.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from erase_core.errors import StoreError, os_reason
from erase_core.fs.durable import make_folder
from erase_core.fs.status import is_file
from erase_core.settings import Settings
from erase_core.store.database import Database, needs_access
from erase_core.store.metadata import Constants, new_metadata, new_name
from erase_core.store.new_folder import check_vacant, clear_unfinished
from erase_core.store.reads import LockedReads, Reads
from erase_core.store.schema import FILE
from erase_core.store.transaction import WriteTransaction

__all__ = ["Store"]


class Store:
    """A store in its folder.

    Parameters
    ----------
    folder : Path
    timeout : float, default=5.0
        Seconds to wait for another process.

    Attributes
    ----------
    constants : Constants
        The values with which the store was created.

    Raises
    ------
    StoreError
        The folder is not a store, or the store is damaged.
    StoreVersionError
        Another version of erase_core wrote it.
    """

    def __init__(self, folder: Path, timeout: float = 5.0) -> None:
        # Absolute, since the working directory of the process may change.
        self.folder, self.timeout = folder.absolute(), timeout
        file = self.folder / FILE
        try:
            is_there = is_file(file)
        except OSError as error:
            raise StoreError(f"{folder}: {os_reason(error)}. {needs_access(folder)}") from error
        if not is_there:
            raise StoreError(f"{folder} is not a store. Create one with `erase init --store {folder}` or Erase.create.")
        # These files may be left from a process that was killed while it created the store, or was too late to do so.
        with suppress(OSError):
            clear_unfinished(self.folder)
        self._db = Database(file, timeout)
        try:
            self.constants = Constants(self._db)
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def create(
        cls,
        folder: Path,
        settings: Settings,
        embedder: str,
        dim: int,
        axes: NDArray[np.float64] | None = None,
        receipts: Path | None = None,
        name: str | None = None,
        timeout: float = 5.0,
    ) -> Store:
        """Create a store in a folder that is empty or does not exist.

        Parameters
        ----------
        folder : Path
        settings : Settings
        embedder : str
            Name of the embedding model.
        dim : int
            Dimensions of its vectors.
        axes : ndarray of shape (m, dim) or None
            The public axes of a projection.
        receipts : Path or None
            Folder of the receipts. None: inside the store's folder.
        name : str or None, default=None
            Unique name of the store. None: a random name.
        timeout : float, default=5.0
            Seconds to wait for another process.
        """
        try:
            check_vacant(folder)
            make_folder(folder.absolute())
            clear_unfinished(folder)
            metadata = new_metadata(name or new_name(), settings, embedder, dim, axes, receipts)
            Database.create(folder / FILE, metadata)
        except OSError as error:
            raise StoreError(f"{folder}: {os_reason(error)}") from error
        except sqlite3.Error as error:
            raise StoreError(f"{folder}: {error}") from error
        return cls(folder, timeout)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @property
    def size(self) -> int:
        """Size of the folder's files in bytes."""
        size = 0
        try:
            for file in self.folder.rglob("*"):
                with suppress(FileNotFoundError):  # another process has just replaced it
                    size += file.stat().st_size if is_file(file) else 0
        except OSError as error:
            raise StoreError(f"{self.folder}: {os_reason(error)}") from error
        return size

    # ---- transactions ----
    @contextmanager
    def reading(self) -> Iterator[Reads]:
        """Make all reads in the block see the same state."""
        with self._db.reading():
            yield Reads(self._db, self.constants)

    @contextmanager
    def locked(self) -> Iterator[LockedReads]:
        """Prevent other processes from writing during the block. Nothing is written to the file.

        Raises
        ------
        StoreLockedError
            Another process is writing.
        """
        with self._db.locked():
            yield LockedReads(self._db, self.constants)

    def is_scrubbed(self) -> bool:
        """Whether the store records that its files have been rewritten since the last removal."""
        with self.reading() as reads:
            return reads.metadata.is_scrubbed

    @property
    def busy(self) -> bool:
        """Whether a `reading`, `locked` or `writing` block is active."""
        return self._db.busy

    @contextmanager
    def writing(self) -> Iterator[WriteTransaction]:
        """Write in one transaction, which is committed when the block ends without an error.

        Raises
        ------
        StoreLockedError
            Another process is writing, and did not finish within the timeout.
        StoreError
            The file cannot be written.
        """
        with self._db.writing() as change:
            tx = WriteTransaction(self._db, self.constants, change)
            yield tx
            # forget 8: the commit follows
            tx.metadata.set(generation=tx.metadata.generation + 1)

    def scrub(self) -> tuple[int, list[tuple[int, bytes]]]:
        """Rewrite the file, so that no deleted data is left in it.

        Returns
        -------
        newest : int
            Number of the newest receipt before the rewrite.
        pending : list of (int, bytes)
            Receipts to publish now, since the data that they list is gone from the files.

        Raises
        ------
        ScrubError
        """
        with self._db.scrubbing():
            with self.reading() as reads:
                newest, pending = reads.metadata.head.number, reads.pending()
            # forget 9
            self._db.rewrite()
        return newest, pending

    @contextmanager
    def settling(self, newest: int, pending: Sequence[tuple[int, bytes]]) -> Iterator[None]:
        """If the block ends without an error, mark the files as scrubbed up to a receipt, and receipts as published.

        Raises
        ------
        ScrubError
        """
        # Only if no other process has removed something since.
        scrubbed = (
            "UPDATE facts SET value = 1 WHERE name = 'scrubbed' AND ? = (SELECT value FROM facts WHERE name = 'head')"
        )
        with self._db.amending() as change:
            yield
            # forget 11
            change("DELETE FROM pending WHERE number = ?", ((number,) for number, _ in pending))
            change(scrubbed, [(newest,)])
