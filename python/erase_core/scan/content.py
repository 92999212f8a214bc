"""Searches one file: its raw bytes, and then, recursively, what is packed in it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from erase_core.errors import os_reason, printable
from erase_core.fs import handles
from erase_core.scan import columns, containers, databases
from erase_core.scan.containers import Budget, BudgetError
from erase_core.scan.formats import (
    ARCHIVES,
    COMPRESSED,
    HEAD,
    SEEKABLE,
    TAIL,
    CannotLookError,
    code_reason,
    kind_of,
    reason_of,
)
from erase_core.scan.report import UnreadPlace
from erase_core.scan.searching import Searcher

__all__ = ["Contents"]

PART = 2**20
# Levels of archives in archives.
DEEPEST = 5
# What must be read at any position within an archive is held in memory, up to this size.
MOST_IN_MEMORY = 2**28
# Kinds whose bytes are expected to look compressed, and are read by other means.
PACKED = COMPRESSED | ARCHIVES | {"parquet", "arrow", "arrow stream", "lance"}
SEALED_VALUES = "has values that look compressed or encrypted. They were searched as they are."
SEALED = (
    "looks compressed or encrypted, at least in part, in a way that is not known here. It was searched as raw bytes."
)


class Contents:
    """Searches files, and keeps what could not be looked into.

    Parameters
    ----------
    searcher : Searcher

    Attributes
    ----------
    unread : list of UnreadPlace
    n_files, n_bytes : int
        What was searched.
    """

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self.unread: list[UnreadPlace] = []
        self.n_files = self.n_bytes = 0

    def cannot(self, place: str, reason: str) -> None:
        """Keep that a place could not be looked into."""
        self.unread.append(UnreadPlace(printable(place), printable(reason)))

    def name(self, place: str) -> None:
        """Search the name of a file."""
        self._searcher.values([(f"the name of {place}", os.fsencode(place))])

    def file(self, path: Path, place: str) -> None:
        """Search a file and everything packed in it."""
        try:
            with handles.reading(path) as descriptor:
                size = os.fstat(descriptor).st_size
                head, tail = os.pread(descriptor, HEAD, 0), os.pread(descriptor, TAIL, max(0, size - TAIL))
                raw = io.BufferedReader(_Positioned(descriptor), PART)
                sealed = self._searcher.stream(raw, place)
                self.n_files, self.n_bytes = self.n_files + 1, self.n_bytes + size
            self._judge(head, tail, sealed, place)
            self._packed(kind_of(head, tail), lambda: path.open("rb"), path, place, 0, Budget(size))
        except BudgetError as error:
            self.cannot(place, str(error))
        except OSError as error:
            self.cannot(place, f"cannot be read: {os_reason(error)}.")
        except MemoryError:
            self.cannot(place, "needs more memory than there is. It was searched as raw bytes.")

    def _judge(self, head: bytes, tail: bytes, sealed: bool, place: str) -> None:
        """Keep why a content cannot be looked into, if it is of such a kind."""
        reason = code_reason(head) or reason_of(head, tail)
        if reason is None and sealed and kind_of(head, tail) not in PACKED:
            reason = SEALED
        if reason is not None:
            self.cannot(place, reason)

    def _packed(
        self,
        kind: str | None,
        opened: Callable[[], BinaryIO],
        path: Path | None,
        place: str,
        depth: int,
        budget: Budget,
    ) -> None:
        """Search what is packed in a content that can be opened."""
        try:
            if kind == "sqlite":
                found = (
                    databases.values_of_file(path, place, self.cannot)
                    if path is not None
                    else databases.values_of_bytes(opened().read(), place, self.cannot)
                )
                self._values(found)
            elif kind in SEEKABLE - ARCHIVES or kind == "arrow stream":
                with opened() as file:
                    self._values(_columns(kind, file, path, place, budget))
            elif kind is not None:
                with opened() as file:
                    self._unpacked(kind, file, place, depth, budget)
        except BudgetError:
            raise
        except CannotLookError as error:
            self.cannot(place, str(error))

    def _values(self, values: Iterator[tuple[str, bytes]]) -> None:
        for place in self._searcher.values(values):
            self.cannot(place, SEALED_VALUES)

    def _unpacked(self, kind: str, file: BinaryIO, place: str, depth: int, budget: Budget) -> None:
        if depth == DEEPEST:
            raise CannotLookError(f"is packed more than {DEEPEST} times. Unpack it, and scan the result.")
        if kind in COMPRESSED:
            self._member(containers.expanded(kind, file, budget), f"{place} > unpacked", depth + 1, budget)
            return
        for name, member in containers.members(kind, file, budget):
            where = printable(f"{place} > {name}")
            self._searcher.values([(f"the name of {where}", name.encode("utf-8", "surrogatepass"))])
            if isinstance(member, CannotLookError):
                self.cannot(where, str(member))
            else:
                self._member(member, where, depth + 1, budget)

    def _member(self, stream: io.BufferedReader, place: str, depth: int, budget: Budget) -> None:
        """Search a member of an archive, which can be read only once."""
        try:
            head = _exactly(stream, HEAD)
            kind = kind_of(head)
            rest = io.BufferedReader(_Joined(head, stream), PART)
            if kind in COMPRESSED or kind == "tar":
                self._packed(kind, lambda: rest, None, place, depth, budget)
                return
            if kind not in SEEKABLE and kind != "arrow stream":
                tail = _Tail(rest)
                sealed = self._searcher.stream(cast("BinaryIO", tail), place)
                self._judge(head, tail.last, sealed, place)
                if kind_of(head, tail.last) == "lance":
                    self._packed("lance", io.BytesIO, None, place, depth, budget)
                return
            content = _exactly(rest, MOST_IN_MEMORY + 1)
            sealed = self._searcher.stream(cast("BinaryIO", _Joined(content, rest)), place)
            self._judge(head, b"", sealed, place)
            if len(content) > MOST_IN_MEMORY:
                raise CannotLookError("is too large to be read in an archive. Unpack the archive, and scan the result.")
            self._packed(kind, lambda: io.BytesIO(content), None, place, depth, budget)
        except BudgetError:
            raise
        except CannotLookError as error:
            self.cannot(place, str(error))


def _columns(kind: str, file: BinaryIO, path: Path | None, place: str, budget: Budget) -> Iterator[tuple[str, bytes]]:
    if kind == "numpy":
        return columns.numpy_values(file, path, place)
    if kind == "parquet":
        return columns.parquet_values(file, place, budget)
    if kind == "lance":
        return columns.lance_values(path, place, budget)
    return columns.arrow_values(file, place, budget, stream=kind == "arrow stream")


def _exactly(file: BinaryIO, count: int) -> bytes:
    """Return so many bytes, or all that are left if there are fewer."""
    parts: list[bytes] = []
    while count and (part := file.read(min(count, PART))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


class _Positioned(io.RawIOBase):
    """A file read by position: other readers may share its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._position = descriptor, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count


class _Joined(io.RawIOBase):
    """Bytes that were read already, and then the rest of their stream."""

    def __init__(self, first: bytes, rest: BinaryIO) -> None:
        self._first, self._rest = memoryview(first), rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._first:
            return cast("int", self._rest.readinto(buffer))  # type: ignore[attr-defined]
        count = min(len(buffer), len(self._first))
        buffer[:count] = self._first[:count]
        self._first = self._first[count:]
        return count


class _Tail(io.RawIOBase):
    """A stream that keeps its last bytes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.last = stream, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = cast("int", self._stream.readinto(buffer))  # type: ignore[attr-defined]
        self.last = (self.last + bytes(buffer[max(0, count - TAIL) : count]))[-TAIL:]
        return count
