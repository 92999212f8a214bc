"""Files of a store with windows: what a language model has computed of one example by itself, sealed under its key.

They are a cache. A file that is missing, torn, foreign or of another model is not opened, and its window is computed
again: it is never an error. So nothing is synced. A file has the name of its example's slot, which is used once, so the
file of a removed example cannot be opened, and is deleted whenever that is noticed. The layout is in
docs/file-format.md.
"""

from __future__ import annotations

import hmac
import os
import secrets
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from erase_core._core import open_in_place, seal_in_place
from erase_core.errors import StoreLockedError
from erase_core.fs import locks
from erase_core.fs.durable import make_folder, partial_of, partials_left
from erase_core.fs.status import is_file

__all__ = ["FOLDER", "WindowFiles", "WindowKey"]

FOLDER = "windows"
MAGIC = b"ERASEWIN"
VERSION = 1
# Magic, version, length of the content, nonce, mark. The tag is at the end.
HEADER = struct.Struct("<8sIQ12s32s")
TAG_BYTES = 16


class WindowKey(NamedTuple):
    """What opens the window of one example, and nothing else of it.

    Parameters
    ----------
    slot : int
        The slot of the example's key.
    cipher, marker : bytes
        Derived from the example's key, and destroyed with it.
    """

    slot: int
    cipher: bytes
    marker: bytes

    @classmethod
    def of(cls, slot: int, key: bytes) -> WindowKey:
        """Derive them from an example's key."""
        kinds = (b"erase-core window key 1", b"erase-core window mark 1")
        return cls(slot, *(hmac.digest(key, kind, "sha256") for kind in kinds))


class WindowFiles:
    """The files of a store with windows.

    Parameters
    ----------
    folder : Path
        Folder of the store.
    store : str
        The store's name.
    """

    def __init__(self, folder: Path, store: str) -> None:
        self.folder, self._store = folder / FOLDER, bytes.fromhex(store)

    @contextmanager
    def writing(self, timeout: float) -> Iterator[None]:
        """Make the folder, and prevent other processes from computing the same windows.

        Raises
        ------
        StoreLockedError
            Another process computes windows.
        OSError
            The folder cannot be made.
        """
        make_folder(self.folder)
        with locks.exclusive(self.folder, timeout) as acquired:
            if not acquired:
                raise StoreLockedError(
                    f"{self.folder}: {locks.describe_holder(self.folder, locks.FOLDER)} is computing windows. Try "
                    "again when it has finished."
                )
            self._clear_partials()
            yield

    def has(self, key: WindowKey, label: bytes) -> bool:
        """Whether there is a file with this label. Its content is not opened, so it may be damaged.

        Parameters
        ----------
        key : WindowKey
        label : bytes
            What the window is a function of, as a hash. It is never written: without the key, nobody can test a guess.
        """
        with suppress(OSError), self._opened(key.slot) as stream:
            return self._header(stream, key, label) is not None
        return False

    def read(self, key: WindowKey, label: bytes) -> NDArray[np.uint8] | None:
        """Return the content of a file, for the caller to overwrite; None if there is none with this label.

        A file that was damaged after its header is deleted, so that the window is computed again.
        """
        with suppress(OSError), self._opened(key.slot) as stream:
            header = self._header(stream, key, label)
            if header is None:
                return None
            length = HEADER.unpack(header)[2]
            content = np.empty(length, dtype=np.uint8)
            whole = stream.readinto(content.data) == length
            tag, nonce = stream.read(TAG_BYTES), HEADER.unpack(header)[3]
            if whole and open_in_place(key.cipher, nonce, self._associated(key.slot, header), content, tag):
                return content
            self._file(key.slot).unlink()
        return None

    def write(self, key: WindowKey, label: bytes, content: NDArray[np.uint8]) -> None:
        """Write a file, or replace it. The content is sealed in place: afterwards it is the ciphertext.

        The caller then has to delete it if the key is gone by now: a removal does not know of it.

        Raises
        ------
        OSError
            The file cannot be written, and is as it was.
        """
        file = self._file(key.slot)
        # A new nonce for each write: the last bits of a window may differ from those that the same key sealed before.
        nonce = secrets.token_bytes(12)
        start = HEADER.pack(MAGIC, VERSION, len(content), nonce, b"")
        header = start[:-32] + self._mark(key, start[:-32], label)
        tag = seal_in_place(key.cipher, nonce, self._associated(key.slot, header), content)
        partial = partial_of(file)
        try:
            with open(partial, "wb") as stream:
                for part in (header, content.data, tag):
                    stream.write(part)
            os.replace(partial, file)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise

    def delete(self, slots: Iterable[int]) -> None:
        """Delete the files of slots, as far as that is possible."""
        for slot in slots if self.exist else ():
            with suppress(OSError):
                self._file(slot).unlink(missing_ok=True)

    def slots(self) -> list[int]:
        """Return the slots that have a file, ascending."""
        try:
            names = os.listdir(self.folder)
        except OSError:
            return []
        return sorted(int(name) for name in names if name.isascii() and name.isdigit() and str(int(name)) == name)

    def clear_unfinished(self) -> None:
        """Delete what a killed process has left, unless one computes windows."""
        with suppress(OSError):
            if partials_left(self.folder, "*"):
                with locks.exclusive(self.folder, 0) as acquired:
                    if acquired:
                        self._clear_partials()

    @property
    def exist(self) -> bool:
        """Whether any windows were ever computed."""
        return os.path.isdir(self.folder)

    @property
    def n_bytes(self) -> int:
        """Size of the files."""
        size = 0
        for slot in self.slots():
            with suppress(OSError):
                size += self._file(slot).stat().st_size
        return size

    def _clear_partials(self) -> None:
        for file in partials_left(self.folder, "*"):
            file.unlink(missing_ok=True)

    def _file(self, slot: int) -> Path:
        return self.folder / str(slot)

    def _opened(self, slot: int) -> BufferedReader:
        file = self._file(slot)
        if not is_file(file):  # to open a pipe would wait for its other end
            raise FileNotFoundError(file)
        return open(file, "rb")

    def _header(self, stream: BinaryIO, key: WindowKey, label: bytes) -> bytes | None:
        """Return the header of a file; None if it is not of this key and label, or the file has another length."""
        header = stream.read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        magic, version, length, _, mark = HEADER.unpack(header)
        if (magic, version) != (MAGIC, VERSION):
            return None
        if not hmac.compare_digest(mark, self._mark(key, header[:-32], label)):
            return None
        whole = os.fstat(stream.fileno()).st_size == HEADER.size + length + TAG_BYTES
        return header if whole else None

    def _mark(self, key: WindowKey, start: bytes, label: bytes) -> bytes:
        """Return what shows to whoever has the key that a header is of this store, slot and label."""
        return hmac.digest(key.marker, self._associated(key.slot, start) + label, "sha256")

    def _associated(self, slot: int, header: bytes) -> bytes:
        return header + self._store + slot.to_bytes(8, "little")
