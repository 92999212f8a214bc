"""The key file: a random key of 32 bytes for each example, in the slot that the example's row names.

To forget an example is to overwrite its key. So the file is no part of SQLite, which leaves copies of what it stores:
every key is at one place, where it is overwritten. A slot is used once, and a destroyed one holds zeros. The layout is
in docs/file-format.md.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from erase_core.errors import KeyFileError, UncertainError, os_reason
from erase_core.fs.durable import discard, partial_of, partials_left, sync_folder, write_new
from erase_core.fs.status import is_file

__all__ = ["FILE", "HEAD_BYTES", "KEY_BYTES", "KeyFile", "KeyGoneError", "Keys", "clear_replaced"]

FILE = "keys"
# While `rekey` replaces the file, the old one has this name.
REPLACED = "keys.replaced"
MAGIC = b"ERASEKEY"
VERSION = 1
KEY_BYTES = 32
HEAD_BYTES = 128
DESTROYED = bytes(KEY_BYTES)
# Bytes to write at a time.
BLOCK = 2**20


class KeyGoneError(Exception):
    """The key of an example is destroyed.

    Another process has forgotten it since this one began to read, or the SQLite file and the key file do not belong
    together.
    """


class _Head(NamedTuple):
    """The first bytes of the file, apart from the code that authenticates them."""

    store: str
    is_wrapped: bool
    salt: bytes
    tokens: bytes

    def pack(self) -> bytes:
        flags = int(self.is_wrapped).to_bytes(2, "little")
        words = MAGIC + VERSION.to_bytes(2, "little") + flags + bytes(4)
        return words + bytes.fromhex(self.store) + self.salt + self.tokens


class Keys:
    """The keys as they were at one moment, unwrapped when they are asked for.

    Parameters
    ----------
    content : bytes
        The slots of the file.
    wrapping : _Wrapping
    """

    def __init__(self, content: bytes, wrapping: _Wrapping, first: int = 0) -> None:
        self._content, self._wrapping, self._first = content, wrapping, first

    def of(self, slot: int) -> bytes:
        """Return the key in a slot.

        Raises
        ------
        KeyGoneError
        """
        start = KEY_BYTES * (slot - self._first)
        kept = self._content[start : start + KEY_BYTES]
        if start < 0 or len(kept) < KEY_BYTES or kept == DESTROYED:
            raise KeyGoneError
        return self._wrapping.apply(slot, kept)

    def used(self) -> NDArray[np.int64]:
        """Return the slots that hold a key, ascending."""
        padded = self._content + bytes(-len(self._content) % KEY_BYTES)
        words = np.frombuffer(padded, dtype="<u8").reshape(-1, KEY_BYTES // 8)
        return self._first + np.flatnonzero(words.any(axis=1))


class KeyFile:
    """A store's key file, open for reading and writing.

    Parameters
    ----------
    folder : Path
        Folder of the store.
    store : str
        The store's name.
    user_key : bytes or None
        The key that the caller keeps, if the store was created with one.

    Attributes
    ----------
    token_key : bytes
        The key of the store's tokens.
    is_wrapped : bool
        Whether the file can only be read with a key of the caller's.

    Raises
    ------
    KeyFileError
        The file is missing, damaged or of another store, or the caller's key is missing or wrong.
    """

    def __init__(self, folder: Path, store: str, user_key: bytes | None) -> None:
        self.file = folder / FILE
        self._descriptor = self._open()
        self.close = weakref.finalize(self, os.close, self._descriptor)
        try:
            head = self._head(store, user_key)
            status = os.fstat(self._descriptor)
        except BaseException:
            self.close()
            raise
        self._inode = status.st_dev, status.st_ino
        self.is_wrapped = head.is_wrapped
        self._wrapping = _Wrapping(user_key if head.is_wrapped else None, head.salt)
        self.token_key = self._wrapping.apply(None, head.tokens)

    @staticmethod
    def create(folder: Path, store: str, user_key: bytes | None) -> None:
        """Write the key file of a new store.

        Raises
        ------
        OSError
        """
        write_new(folder / FILE, _new_head(store, user_key, secrets.token_bytes(KEY_BYTES)))

    def check_still_there(self) -> None:
        """Check that the file has not been replaced since it was opened.

        Raises
        ------
        KeyFileError
        """
        try:
            status = os.stat(self.file)
        except OSError as error:
            raise KeyFileError(f"{self.file}: {os_reason(error)}. Put the newest copy back.") from error
        if (status.st_dev, status.st_ino) != self._inode:
            raise KeyFileError(f"{self.file} was replaced while the store was open here. Open it again.")

    @property
    def n_slots(self) -> int:
        """Number of slots in the file, used and destroyed."""
        return -(-max(0, os.fstat(self._descriptor).st_size - HEAD_BYTES) // KEY_BYTES)

    def check_length(self, n_slots: int) -> None:
        """Check that the file has the slots that a store has used.

        Raises
        ------
        KeyFileError
        """
        if self.n_slots < n_slots:
            raise KeyFileError(
                f"{self.file} has {self.n_slots} slots, but the store has used {n_slots}: it was cut off, or is older "
                "than the store. Put the newest copy back; nothing was changed."
            )

    def of(self, slots: Sequence[int]) -> list[bytes]:
        """Return the keys in slots.

        Raises
        ------
        KeyGoneError
            One of them is destroyed.
        """
        return [Keys(self._read(slot, 1), self._wrapping, slot).of(slot) for slot in slots]

    def all(self) -> Keys:
        """Return all keys as they are now."""
        return Keys(self._read(0, self.n_slots), self._wrapping)

    def are_destroyed(self, slots: Iterable[int]) -> bool:
        """Whether none of the slots holds a key."""
        return not any(self._read(first, count).strip(b"\0") for first, count in _runs(slots))

    def add(self, first: int, count: int) -> list[bytes]:
        """Draw keys, and write them durably to slots from `first` on.

        Raises
        ------
        OSError
        """
        keys = [secrets.token_bytes(KEY_BYTES) for _ in range(count)]
        kept = (self._wrapping.apply(slot, key) for slot, key in enumerate(keys, first))
        self._write(first, b"".join(kept))
        self._sync()
        return keys

    def destroy(self, slots: Iterable[int]) -> None:
        """Overwrite the keys in slots durably.

        Raises
        ------
        OSError
        """
        for first, count in _runs(slots):
            # Also if it reads as zeros: after a sync that failed, these may be in the system's cache only.
            self._write(first, bytes(KEY_BYTES * count))
        self._sync()

    def rewrap(self, store: str, user_key: bytes | None) -> None:
        """Write the file anew, with all keys under another key of the caller's, and overwrite the old file.

        Raises
        ------
        OSError
            Nothing was changed.
        UncertainError
            The file is replaced, but perhaps not durably, or the old one is still there.
        """
        head = _new_head(store, user_key, self.token_key)
        wrapping = _Wrapping(user_key, head[32:64])
        keys, slots = self.all(), self.n_slots
        content = bytearray(KEY_BYTES * slots)
        for slot in keys.used().tolist():
            content[KEY_BYTES * slot : KEY_BYTES * (slot + 1)] = wrapping.apply(slot, keys.of(slot))
        partial, replaced = partial_of(self.file), self.file.with_name(REPLACED)
        try:
            with open(partial, "wb", opener=_private) as stream:
                stream.write(head)
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.link(self.file, replaced)
            os.replace(partial, self.file)
        except BaseException:
            with suppress(OSError):  # the next `open` does so
                clear_replaced(self.file.parent)
            raise
        finally:
            content[:] = bytes(len(content))
        try:
            sync_folder(self.file.parent)
            discard(replaced)
            sync_folder(self.file.parent)
        except OSError as error:
            raise UncertainError(
                f"{self.file} has the new key, but the old file may not be overwritten, or may come back after a power "
                f"cut ({os_reason(error)}). Solve this, then open the store again with the new key, which overwrites "
                "the old file. If that is refused, the old key is still the right one."
            ) from error

    def _open(self) -> int:
        flags = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            if is_file(self.file):
                return os.open(self.file, flags)
            reason = "is missing"
        except OSError as error:
            reason = f"cannot be opened for reading and writing ({os_reason(error)})"
        raise KeyFileError(
            f"{self.file} {reason}. Without it, no example of the store can be read, and none can be forgotten. The "
            "examples in the SQLite file are untouched. Put the newest copy of the key file back, or make it writable."
        )

    def _head(self, store: str, user_key: bytes | None) -> _Head:
        """Read and check the head."""
        content = os.pread(self._descriptor, HEAD_BYTES, 0)
        if len(content) < HEAD_BYTES or not content.startswith(MAGIC):
            raise KeyFileError(f"{self.file} is not a key file, or is damaged. Put the newest copy back.")
        version, flags = (int.from_bytes(content[at : at + 2], "little") for at in (8, 10))
        if version != VERSION:
            raise KeyFileError(f"{self.file} has version {version}, this erase_core reads {VERSION}. Upgrade it.")
        head = _Head(content[16:32].hex(), bool(flags & 1), content[32:64], content[64:96])
        if head.store != store:
            raise KeyFileError(f"{self.file} is the key file of another store. Put the one of this store back.")
        if head.is_wrapped and user_key is None:
            raise KeyFileError(f"{self.file} can only be read with the key of this store. Give it (key, --key-from).")
        if not hmac.compare_digest(content[96:], _code(content[:96], user_key if head.is_wrapped else None)):
            what = "another key was given, or the file is damaged" if head.is_wrapped else "it is damaged"
            raise KeyFileError(f"{self.file} cannot be read: {what}. Give the right key, or put the newest copy back.")
        if user_key is not None and not head.is_wrapped:
            raise KeyFileError(
                f"a key was given, but {self.file} needs none. Leave it out, or set one by `erase rekey`."
            )
        return head

    def _read(self, first: int, count: int) -> bytes:
        parts, start, end = [], HEAD_BYTES + KEY_BYTES * first, HEAD_BYTES + KEY_BYTES * (first + count)
        while start < end and (part := os.pread(self._descriptor, end - start, start)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def _write(self, first: int, content: bytes) -> None:
        start, view = HEAD_BYTES + KEY_BYTES * first, memoryview(content)
        while view:
            written = os.pwrite(self._descriptor, view[:BLOCK], start)
            start, view = start + written, view[written:]

    def _sync(self) -> None:
        getattr(os, "fdatasync", os.fsync)(self._descriptor)


def clear_replaced(folder: Path) -> None:
    """Overwrite and delete what a killed `rekey` has left. The caller must have exclusive access to the folder.

    Raises
    ------
    OSError
    """
    left = [*folder.glob(REPLACED), *partials_left(folder, FILE)]
    if left:
        # Else a power cut could bring the file back that is overwritten here, in place of the one that replaced it.
        sync_folder(folder)
    for file in left:
        if os.path.samefile(file, folder / FILE):  # a second name of the key file, which was not replaced any more
            file.unlink()
        else:
            discard(file)


class _Wrapping:
    """What the keys in the file are combined with: nothing, or a pad from the caller's key for each slot.

    A slot holds one key in its life, so each pad is used once for each salt.
    """

    def __init__(self, user_key: bytes | None, salt: bytes) -> None:
        self._user_key, self._salt = user_key, salt

    def apply(self, slot: int | None, key: bytes) -> bytes:
        """Return a key wrapped, or a wrapped one unwrapped. None: the key of the tokens."""
        if self._user_key is None:
            return key
        place = b"tokens" if slot is None else b"slot" + slot.to_bytes(8, "little")
        pad = hmac.digest(self._user_key, b"erase-core pad 1" + self._salt + place, "sha256")
        return (int.from_bytes(key, "little") ^ int.from_bytes(pad, "little")).to_bytes(KEY_BYTES, "little")


def _new_head(store: str, user_key: bytes | None, token_key: bytes) -> bytes:
    salt = secrets.token_bytes(KEY_BYTES)
    head = _Head(store, user_key is not None, salt, _Wrapping(user_key, salt).apply(None, token_key)).pack()
    return head + _code(head, user_key)


def _code(head: bytes, user_key: bytes | None) -> bytes:
    if user_key is None:
        return hashlib.sha256(head).digest()
    return hmac.digest(user_key, b"erase-core head 1" + head, "sha256")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _runs(slots: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield runs of consecutive slots: the first, and how many."""
    for _, run in groupby(enumerate(sorted(slots)), lambda each: each[1] - each[0]):
        members = [slot for _, slot in run]
        yield members[0], len(members)
