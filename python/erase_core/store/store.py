"""The store's folder: creates, opens and locks it, and begins and ends transactions.

For its contents, see reads.py and transaction.py; for the SQLite file, database.py; for the keys, key_file.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from erase_core.commitments import Tokens
from erase_core.errors import ScrubError, StoreError, UncertainError, os_reason
from erase_core.fs import locks
from erase_core.fs.durable import make_folder
from erase_core.fs.status import is_file
from erase_core.settings import Settings
from erase_core.store.constants import Constants, new_constants, new_name
from erase_core.store.database import Database, needs_access
from erase_core.store.key_file import FILE as KEY_FILE
from erase_core.store.key_file import KeyFile, KeyGoneError, clear_replaced
from erase_core.store.new_folder import check_vacant, clear_unfinished
from erase_core.store.reads import Reads
from erase_core.store.records import StoreFiles
from erase_core.store.schema import FILE
from erase_core.store.sealing import Sealing
from erase_core.store.state import new_state, read_state
from erase_core.store.transaction import WriteTransaction
from erase_core.store.window_files import WindowFiles

__all__ = ["Store"]


class Store:
    """A store in its folder.

    Parameters
    ----------
    folder : Path
    timeout : float, default=5.0
        Seconds to wait for another process.
    user_key : bytes or None, default=None
        The key with which the keys of the examples are wrapped, if the store has one.

    Attributes
    ----------
    constants : Constants
        The values with which the store was created.
    windows : WindowFiles
        What language models have computed of the examples.

    Raises
    ------
    StoreError
        The folder is not a store, or the store is damaged.
    StoreVersionError
        Another version of erase_core wrote it.
    KeyFileError
        The key file is missing, damaged or of another store, or the key is missing or wrong.
    """

    def __init__(self, folder: Path, timeout: float = 5.0, user_key: bytes | None = None) -> None:
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
            self.keys = KeyFile(self.folder, self.constants.name, user_key)
            self.keys.check_length(read_state(self._db).next_slot)
        except BaseException:
            self._db.close()
            raise
        self.windows = WindowFiles(self.folder, self.constants.name)
        tokens = Tokens(self.keys.token_key)
        self._files = StoreFiles(self._db, self.keys, self.constants, Sealing(self.constants.name), tokens)

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
        user_key: bytes | None = None,
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
        user_key : bytes or None, default=None
            A key of the caller's with which to wrap the keys of the examples.
        """
        name = name or new_name()
        try:
            check_vacant(folder)
            make_folder(folder.absolute())
            with locks.exclusive(folder, timeout):
                check_vacant(folder)
                clear_unfinished(folder)
                secret = KeyFile.create(folder, name, user_key)
                # From here on the store exists.
                constants = new_constants(name, settings, embedder, dim, axes, receipts)
                Database.create(folder / FILE, constants, new_state(secret).values())
        except OSError as error:
            raise StoreError(f"{folder}: {os_reason(error)}") from error
        except sqlite3.Error as error:
            raise StoreError(f"{folder}: {error}") from error
        return cls(folder, timeout, user_key)

    def close(self) -> None:
        """Close the files."""
        self._db.close()
        self.keys.close()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._db.is_closed

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
        """Make all reads in the block see the same state.

        Raises
        ------
        KeyGoneError
            Another process has forgotten an example that this state still has. Read again.
        """
        with self._db.reading():
            self.keys.check_still_there()
            yield Reads(self._files)

    @contextmanager
    def locked(self) -> Iterator[Reads]:
        """Prevent other processes from writing during the block. Nothing is written to the SQLite file.

        Raises
        ------
        StoreLockedError
            Another process is writing.
        """
        with self._db.locked():
            self.keys.check_still_there()
            yield Reads(self._files)

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
            The files cannot be written.
        """
        new_keys = range(0)
        try:
            with self._db.writing() as change:
                self.keys.check_still_there()
                self.keys.check_writable()
                tx = WriteTransaction(self._files, change)
                try:
                    yield tx
                    # forget 8: the commit follows
                    tx.end()
                finally:
                    new_keys = tx.new_keys
        except BaseException as error:
            self._drop(new_keys, error)
            if isinstance(error, KeyGoneError):
                raise self.lacks_keys() from error
            raise

    def lacks_keys(self) -> StoreError:
        """Return the error for rows without keys."""
        return StoreError(
            f"{self.folder} has examples whose keys are not in {self.keys.file}: the key file is older than the SQLite "
            "file, or the SQLite file is a copy from before a removal. Put the newest copies of both back, with the "
            "newest receipts. If there are none, forget these examples by their ids, which works without opening them."
        )

    def destroy(self, slots: Iterable[int], generation: int | None = None) -> None:
        """Overwrite the keys of removed examples, and the secrets of all generations before the given one, if any.

        Raises
        ------
        ScrubError
        """
        try:
            self.keys.check_still_there()
            self.keys.destroy(slots, generation)
        except (OSError, StoreError) as error:
            reason = os_reason(error) if isinstance(error, OSError) else error
            raise ScrubError(
                f"{self.keys.file}: the removal is done, but the key file may still hold keys of the removed examples "
                f"({reason}). Solve this, then open the store again, which finishes the removal."
            ) from error

    def left_windows(self) -> list[int]:
        """Return the slots that have a file of a window, but no key any more, so that nobody can open it."""
        slots = self.windows.slots()  # first: a key is there before its window
        used = set(self.keys.all().used().tolist()) if slots else set()
        return [slot for slot in slots if slot not in used]

    def rewrap(self, user_key: bytes | None) -> None:
        """Write the key file anew under another key of the caller's. The caller has the lock for removals.

        Raises
        ------
        StoreError
            The key file cannot be written, and is as it was.
        ScrubError
            The new key is set, but the older key file is not overwritten.
        """
        with self.locked():
            self.keys.check_writable()
            try:
                clear_replaced(self.folder)
                self.keys.rewrap(self.constants.name, user_key)
            except OSError as error:
                raise StoreError(f"{self.folder / KEY_FILE}: {os_reason(error)}; the key was not changed") from error
            self.clear_replaced()

    def clear_replaced(self) -> None:
        """Overwrite and delete what a killed `rekey` has left. The caller has the lock for removals.

        Raises
        ------
        ScrubError
        """
        try:
            clear_replaced(self.folder)
        except OSError as error:
            raise ScrubError(
                f"{self.folder}: a key file that `rekey` replaced is still there, and cannot be overwritten "
                f"({os_reason(error)}). Solve this, then open the store again, which overwrites and deletes it."
            ) from error

    def _drop(self, new_keys: range, error: BaseException) -> None:
        """Destroy the keys of an ingest that was not committed. If that is not certain, the next `open` does so."""
        if not new_keys or isinstance(error, UncertainError):
            return
        with suppress(OSError, StoreError):
            if read_state(self._db).next_slot <= new_keys.start:
                self.keys.destroy(new_keys)
