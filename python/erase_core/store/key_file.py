"""The key file: a random key of 32 bytes for each example, in the slot that the example's row names.

To forget an example is to overwrite its key. So the file is no part of SQLite, which leaves copies of what it stores:
every key is at one place, where it is overwritten. A slot is used once, and a destroyed one holds zeros. The file also
has a secret that changes with the store, and salts what SQLite and receipts keep of the model. The layout is in
docs/file-format.md.
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
from erase_core.fs.durable import discard, partial_of, partials_left, sync, sync_folder, write_new
from erase_core.fs.status import exists, is_file
from erase_core.store.database import needs_access

__all__ = ["FILE", "HEAD_BYTES", "KEY_BYTES", "KeyFile", "KeyGoneError", "Keys", "clear_replaced"]

FILE = "keys"
# While `rekey` replaces the file, the old one has this name.
REPLACED = "keys.replaced"
MAGIC = b"ERASEKEY"
VERSION = 1
KEY_BYTES = 32
# The head, its code, and the secret with its generation, which never cross a sector.
CODE_BYTES = 128
# A secret is written to the free one of two places before the older one is overwritten, so that one of them is whole.
SECRET_BYTES = 64
PLACES = (128, 192)
HEAD_BYTES = 256
DESTROYED = bytes(KEY_BYTES)
# Generations from one secret to another: a minute of hashing. `open` overwrites secrets that are much less far behind.
MOST_GENERATIONS = 2**26
# A read while another process writes can return a part of what was and a part of what will be.
ATTEMPTS = 100
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
        return self._wrapping.apply(_slot(slot), kept)

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

    Raises
    ------
    KeyFileError
        The file is missing, damaged or of another store, or the caller's key is missing or wrong.
    """

    def __init__(self, folder: Path, store: str, user_key: bytes | None) -> None:
        self.file = folder / FILE
        self._descriptor, self._may_write = self._open()
        self.close = weakref.finalize(self, os.close, self._descriptor)
        try:
            head = self._head(store, user_key)
            status = os.fstat(self._descriptor)
            self._wrapping = _Wrapping(user_key if head.is_wrapped else None, head.salt)
            self._oldest()  # which checks it
        except BaseException:
            self.close()
            raise
        self._inode = status.st_dev, status.st_ino
        self.token_key = self._wrapping.apply(TOKENS, head.tokens)
        self._newest: tuple[int, bytes] | None = None

    @staticmethod
    def create(folder: Path, store: str, user_key: bytes | None) -> bytes:
        """Write the key file of a new store, and return the secret of generation 0.

        Raises
        ------
        OSError
        """
        token_key, salt, secret = (secrets.token_bytes(KEY_BYTES) for _ in range(3))
        write_new(folder / FILE, _new_head(store, user_key, salt, token_key, 0, secret))
        return secret

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
        # A slot that is cut in two does not count.
        if os.fstat(self._descriptor).st_size < self._place(n_slots):
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
        keys: dict[int, bytes] = {}
        for first, count in _runs(set(self._in_file(slots))):
            part = Keys(self._read(first, count), self._wrapping, first)
            keys |= {slot: part.of(slot) for slot in range(first, first + count)}
        if not keys.keys() >= set(slots):
            raise KeyGoneError
        return [keys[slot] for slot in slots]

    def all(self) -> Keys:
        """Return all keys as they are now."""
        return Keys(self._read(0, self.n_slots), self._wrapping)

    def are_destroyed(self, slots: Iterable[int]) -> bool:
        """Whether none of the slots holds a key."""
        return not any(self._read(first, count).strip(b"\0") for first, count in _runs(self._in_file(slots)))

    @property
    def has_one_secret(self) -> bool:
        """Whether nothing is left of an older secret."""
        parts = (os.pread(self._descriptor, SECRET_BYTES, place) for place in PLACES)
        return sum(bool(part.strip(b"\0")) for part in parts) == 1

    @property
    def generation(self) -> int:
        """The first generation whose secret is known."""
        return self._oldest()[0]

    def secret(self, generation: int) -> bytes:
        """Return the secret of a generation of the store. Each is a hash of the one before.

        Raises
        ------
        KeyGoneError
            It was destroyed with the examples that were removed since.
        """
        oldest = self._oldest()
        if generation < oldest[0]:
            raise KeyGoneError
        if self._newest is not None and oldest[0] <= self._newest[0] <= generation:
            oldest = self._newest
        known, secret = oldest
        if generation - known > MOST_GENERATIONS:  # only a damaged store says so
            raise KeyFileError(f"{self.file} is not of the same time as the store. Put the newest copies of both back.")
        for _ in range(known, generation):
            secret = hashlib.sha256(b"erase-core secret 1" + secret).digest()
        self._newest = generation, secret
        return secret

    def add(self, first: int, count: int) -> list[bytes]:
        """Draw keys, and write them durably to slots from `first` on.

        Raises
        ------
        OSError
        """
        keys = [secrets.token_bytes(KEY_BYTES) for _ in range(count)]
        kept = (self._wrapping.apply(_slot(slot), key) for slot, key in enumerate(keys, first))
        self._write(self._place(first), b"".join(kept))
        self._sync()
        return keys

    def destroy(self, slots: Iterable[int], generation: int | None = None) -> None:
        """Overwrite keys durably.

        Parameters
        ----------
        slots : iterable of int
            The slots of the keys.
        generation : int or None, default=None
            The secrets of all generations before this one are overwritten, too. The caller has the lock for removals:
            whoever writes a secret without it could bring back one that a removal has just overwritten. None: the
            secret is not written.

        Raises
        ------
        OSError
        """
        for first, count in _runs(self._in_file(slots)):
            # Also if it reads as zeros: after a sync that failed, these may be in the system's cache only.
            self._write(self._place(first), bytes(KEY_BYTES * count))
        if generation is not None:
            self._replace_secret(max(generation, self.generation))
        self._sync()

    def rewrap(self, store: str, user_key: bytes | None) -> None:
        """Write the file anew, with all keys under another key of the caller's. `clear_replaced` wipes the old one.

        Raises
        ------
        OSError
            The file is as it was.
        UncertainError
            The disk failed at the end.
        """
        salt = secrets.token_bytes(KEY_BYTES)
        wrapping = _Wrapping(user_key, salt)
        head = _new_head(store, user_key, salt, self.token_key, *self._oldest())
        keys, slots = self.all(), self.n_slots
        content = bytearray(KEY_BYTES * slots)
        for slot in keys.used().tolist():
            content[KEY_BYTES * slot : KEY_BYTES * (slot + 1)] = wrapping.apply(_slot(slot), keys.of(slot))
        partial, replaced = partial_of(self.file), self.file.with_name(REPLACED)
        try:
            with open(partial, "wb", opener=_private) as stream:
                stream.write(head)
                stream.write(content)
                stream.flush()
                sync(stream.fileno())
            os.link(self.file, replaced)
            os.replace(partial, self.file)
            sync_folder(self.file.parent)
        except BaseException as error:
            if isinstance(error, OSError) and exists(replaced) and not replaced.samefile(self.file):
                raise UncertainError(
                    f"{self.file}: {os_reason(error)}. Open the store again, with the new key or with the old one."
                ) from error
            with suppress(OSError):  # the next `open` does so
                clear_replaced(self.file.parent)
            raise
        finally:
            content[:] = bytes(len(content))

    def check_writable(self) -> None:
        """Check that this user may write to the file.

        Raises
        ------
        KeyFileError
        """
        if not self._may_write:
            raise KeyFileError(f"{self.file} cannot be written; nothing was changed. {needs_access(self.file.parent)}")

    def _open(self) -> tuple[int, bool]:
        flags = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            if is_file(self.file):
                try:
                    return os.open(self.file, os.O_RDWR | flags), True
                except PermissionError:  # a reader of the store may not write
                    return os.open(self.file, os.O_RDONLY | flags), False
            reason = "is not a file" if exists(self.file) else "is missing"
        except OSError as error:
            reason = f"cannot be read ({os_reason(error)})"
        raise KeyFileError(
            f"{self.file} {reason}. Without it, no example of the store can be read. The examples in the SQLite file "
            "are untouched. Put the newest copy of the key file back, or let this user read it."
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
        if not head.is_wrapped and content[96:CODE_BYTES] != _code(content[:96], None):
            raise KeyFileError(f"{self.file} is damaged: its head was changed. Put the newest copy back.")
        if head.store != store:
            raise KeyFileError(f"{self.file} is the key file of another store. Put the one of this store back.")
        if head.is_wrapped and user_key is None:
            raise KeyFileError(f"{self.file} can only be read with the key of this store. Give it (key, --key-from).")
        if head.is_wrapped and not hmac.compare_digest(content[96:CODE_BYTES], _code(content[:96], user_key)):
            raise KeyFileError(
                f"{self.file} cannot be read: another key was given, or the file is damaged. Give the right key, or "
                "put the newest copy back."
            )
        if user_key is not None and not head.is_wrapped:
            raise KeyFileError(
                f"a key was given, but {self.file} needs none. Leave it out, or set one by `erase rekey`."
            )
        return head

    def _oldest(self) -> tuple[int, bytes]:
        """Read the secret, and its generation."""
        for _ in range(ATTEMPTS):
            if secrets_there := self._secrets():
                return min(secrets_there.values())
        raise KeyFileError(f"{self.file} is damaged: its secret was changed. Put the newest copy back.")

    def _secrets(self) -> dict[int, tuple[int, bytes]]:
        """Read the secrets that are whole, with their generations, by their places."""
        read = {place: os.pread(self._descriptor, SECRET_BYTES, place) for place in PLACES}
        opened = {place: self._wrapping.open_secret(content) for place, content in read.items()}
        return {place: secret for place, secret in opened.items() if secret is not None}

    def _replace_secret(self, generation: int) -> None:
        """Write the secret of a generation to the other place, and overwrite the one before."""
        there, content = self._secrets(), self._wrapping.seal_secret(generation, self.secret(generation))
        older = min(there, key=lambda place: there[place])
        newer = PLACES[1] if older == PLACES[0] else PLACES[0]
        self._write(newer, content)
        self._write(older, bytes(SECRET_BYTES))

    def _in_file(self, slots: Iterable[int]) -> list[int]:
        """Return the slots that the file has. Others, which only a damaged store names, never reach its head or end."""
        n_slots = self.n_slots
        return [slot for slot in slots if 0 <= slot < n_slots]

    def _read(self, first: int, count: int) -> bytes:
        parts, start, end = [], self._place(first), self._place(first + count)
        while start < end and (part := os.pread(self._descriptor, end - start, start)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    @staticmethod
    def _place(slot: int) -> int:
        return HEAD_BYTES + KEY_BYTES * slot

    def _write(self, start: int, content: bytes) -> None:
        view = memoryview(content)
        while view:
            written = os.pwrite(self._descriptor, view[:BLOCK], start)
            start, view = start + written, view[written:]

    def _sync(self) -> None:
        getattr(os, "fdatasync", sync)(self._descriptor)


def clear_replaced(folder: Path) -> None:
    """Overwrite and delete what a killed `rekey` has left. The caller must have exclusive access to the folder.

    Raises
    ------
    OSError
    """
    current = folder / FILE
    left = [*folder.glob(REPLACED), *partials_left(folder, FILE)]
    if left:
        # Else a power cut could bring the file back that is overwritten here, in place of the one that replaced it.
        sync_folder(folder)
    for file in left:
        # A file gets its name by a link, so what is left may be another name of the current file.
        if exists(current) and file.samefile(current):
            file.unlink()
        else:
            discard(file)
    if left:
        sync_folder(folder)


class _Wrapping:
    """What the keys in the file are combined with: nothing, or a pad from the caller's key for each place.

    A slot holds one key in its life, and a generation has one secret. So each pad is used once for each salt.
    """

    def __init__(self, user_key: bytes | None, salt: bytes) -> None:
        self._user_key, self._salt = user_key, salt

    def apply(self, place: bytes, key: bytes) -> bytes:
        """Return a key wrapped, or a wrapped one unwrapped."""
        if self._user_key is None:
            return key
        pad = hmac.digest(self._user_key, b"erase-core pad 1" + self._salt + place, "sha256")
        return (int.from_bytes(key, "little") ^ int.from_bytes(pad, "little")).to_bytes(KEY_BYTES, "little")

    def seal_secret(self, generation: int, secret: bytes) -> bytes:
        """Return a secret with its generation, as the file holds it."""
        content = generation.to_bytes(8, "little") + self.apply(_generation(generation), secret)
        return content + _check(content)

    def open_secret(self, content: bytes) -> tuple[int, bytes] | None:
        """Return a secret and its generation from what the file holds; None if it is not whole."""
        if content[40:] != _check(content[:40]):
            return None
        generation = int.from_bytes(content[:8], "little")
        return generation, self.apply(_generation(generation), content[8:40])


TOKENS = b"tokens"


def _slot(slot: int) -> bytes:
    return b"slot" + slot.to_bytes(8, "little")


def _generation(generation: int) -> bytes:
    return b"secret" + generation.to_bytes(8, "little")


def _check(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:24]


def _new_head(
    store: str, user_key: bytes | None, salt: bytes, token_key: bytes, generation: int, secret: bytes
) -> bytes:
    """Return all bytes before the slots."""
    wrapping = _Wrapping(user_key, salt)
    head = _Head(store, user_key is not None, salt, wrapping.apply(TOKENS, token_key)).pack()
    return head + _code(head, user_key) + wrapping.seal_secret(generation, secret) + bytes(SECRET_BYTES)


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
