"""The store's folder: made, opened and locked; and from when to when it is read and written.

Its contents are had from `Store.reading` (reads.py) and `Store.writing` (transaction.py). Database.py writes and
rewrites the file; model_cache.py keeps the model that is derived from it.
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
from erase_core.settings import Settings
from erase_core.store.database import Database, needs_access
from erase_core.store.metadata import Constants, new_metadata, new_name
from erase_core.store.reads import LockedReads, Reads
from erase_core.store.schema import FILE
from erase_core.store.transaction import WriteTransaction
from erase_core.store.vacancy import check_vacant, clear_unfinished

__all__ = ["Store"]


class Store:
    """A folder with a store in it.

    Parameters
    ----------
    folder : Path
    timeout : float, default=5.0
        Seconds to wait for another process.

    Attributes
    ----------
    constants : Constants
        What the store was created with.

    Raises
    ------
    StoreError
        The folder holds no store, or a damaged one.
    StoreVersionError
        Another version of erase_core wrote it.
    """

    def __init__(self, folder: Path, timeout: float = 5.0) -> None:
        # The process may go elsewhere, and the snapshot is to be replaced here all the same.
        self.folder, self.timeout = folder.absolute(), timeout
        file = self.folder / FILE
        try:
            is_there = file.is_file()
        except OSError as error:
            raise StoreError(f"{folder}: {os_reason(error)}; {needs_access(folder)}") from error
        if not is_there:
            raise StoreError(f"{folder} is not a store; make one with `erase init --store {folder}` or Erase.create")
        # Of whoever was killed in the last moment, or came second.
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
        """Make a new store in a folder that is absent or empty.

        Parameters
        ----------
        folder : Path
        settings : Settings
        embedder : str
            Identity of the embedding model.
        dim : int
            Its dimensions.
        axes : ndarray of shape (m, dim) or None
            A projection by public axes.
        receipts : Path or None
            Folder of the receipts, if it is not to be within the store's.
        name : str or None, default=None
            What tells the store from others; None draws it.
        timeout : float, default=5.0
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
        """Let go of the file."""
        self._db.close()

    @property
    def size(self) -> int:
        """Bytes that the folder's files take."""
        size = 0
        try:
            for file in self.folder.rglob("*"):
                with suppress(FileNotFoundError):  # another process has just replaced it
                    size += file.stat().st_size if file.is_file() else 0
        except OSError as error:
            raise StoreError(f"{self.folder}: {os_reason(error)}") from error
        return size

    # ---- transactions ----
    @contextmanager
    def reading(self) -> Iterator[Reads]:
        """Read everything within as of one moment."""
        with self._db.reading():
            yield Reads(self._db, self.constants)

    @contextmanager
    def locked(self) -> Iterator[LockedReads]:
        """Keep others from writing within; see `Database.locked`."""
        with self._db.locked():
            yield LockedReads(self._db, self.constants)

    @property
    def busy(self) -> bool:
        """Whether this is within `reading`, `locked` or `writing`."""
        return self._db.busy

    @contextmanager
    def writing(self) -> Iterator[WriteTransaction]:
        """Write everything within, or nothing, as one generation of the store; see `Database.writing`."""
        with self._db.writing() as change:
            tx = WriteTransaction(self._db, self.constants, change)
            yield tx
            # forget 8: the commit follows
            tx.metadata.set(generation=tx.metadata.generation + 1)

    def scrub(self) -> tuple[int, list[tuple[int, bytes]]]:
        """Write the file anew, so that nothing deleted is left in it.

        Returns
        -------
        newest : int
            Number of the newest receipt, as of before.
        pending : list of (int, bytes)
            Receipts of what is now gone from the files, to be published.

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
        """Note, if no error occurs within, that what was removed up to a receipt is gone, and receipts published.

        Raises
        ------
        ScrubError
        """
        # Not if another process has removed something since.
        scrubbed = (
            "UPDATE facts SET value = 1 WHERE name = 'scrubbed' AND ? = (SELECT value FROM facts WHERE name = 'head')"
        )
        with self._db.amending() as change:
            yield
            # forget 11
            change("DELETE FROM pending WHERE number = ?", ((number,) for number, _ in pending))
            change(scrubbed, [(newest,)])
