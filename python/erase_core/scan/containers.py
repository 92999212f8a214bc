"""Unpacks compressed files and archives in memory, within a bound on the unpacked size."""

from __future__ import annotations

import bz2
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol

from erase_core.errors import first_line
from erase_core.scan.formats import CannotLookError

__all__ = ["Budget", "BudgetError", "expanded", "members"]

PART = 2**20
# Unpacked bytes: so many, and so many for each byte of the file, ...
FREE_BYTES, MOST_TIMES = 2**26, 200
# ... but never more than this.
MOST_BYTES = 2**36
# Memory that decompressing xz may take.
XZ_MEMORY = 2**28


class BudgetError(CannotLookError):
    """Unpacking a file would exceed its bound."""


class Budget:
    """How many bytes a file may still be unpacked to.

    Parameters
    ----------
    size : int
        Size of the file.
    """

    def __init__(self, size: int) -> None:
        self.limit = min(MOST_BYTES, FREE_BYTES + MOST_TIMES * size)
        self._left = self.limit

    def take(self, count: int) -> None:
        """Use so many bytes.

        Raises
        ------
        BudgetError
            There are not so many left.
        """
        self._left -= count
        if self._left < 0:
            raise BudgetError(
                f"unpacks to more than {self.limit} bytes, and the rest was not searched. Unpack and scan it."
            )


class _Decoder(Protocol):
    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zlib:
    """A decompressor of zlib with the interface of those of bz2 and lzma."""

    def __init__(self, bits: int) -> None:
        self._object = zlib.decompressobj(bits)
        self._rest = b""
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._object.decompress(self._rest + data, max_length)
        self._rest = self._object.unconsumed_tail
        self.needs_input = not self._rest and len(out) < max_length
        return out


DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: _Zlib(31),
    "zlib": lambda: _Zlib(15),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY),
}


class _Chunks(io.RawIOBase):
    """A readable file of chunks of bytes, each of which counts."""

    def __init__(self, chunks: Iterator[bytes], budget: Budget) -> None:
        self._chunks, self._budget, self._rest = chunks, budget, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._budget.take(len(chunk))
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def expanded(kind: str, file: BinaryIO, budget: Budget) -> io.BufferedReader:
    """Return the decompressed content of a file. Reading raises `CannotLookError` if it is damaged, or too large."""
    chunks = _zstd(file) if kind == "zstd" else _decoded(file, DECODERS[kind], kind)
    return io.BufferedReader(_Chunks(chunks, budget), PART)


def members(kind: str, file: BinaryIO, budget: Budget) -> Iterator[tuple[str, io.BufferedReader | CannotLookError]]:
    """Yield the name and content of each member of an archive, or why that member cannot be read.

    Raises
    ------
    CannotLookError
        The archive is damaged.
    """
    try:
        for name, member in (_zipped if kind == "zip" else _tarred)(file):
            if isinstance(member, CannotLookError):
                yield name, member
            else:
                yield name, io.BufferedReader(_Chunks(_chunks_of(member), budget), PART)
    except (CannotLookError, MemoryError):
        raise
    except Exception as error:  # the modules for archives raise anything for damaged ones
        raise CannotLookError(f"is damaged: {first_line(error)}. Restore it, and scan it again.") from error


def _zipped(file: BinaryIO) -> Iterator[tuple[str, BinaryIO | CannotLookError]]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.filename.endswith("/"):
                continue
            if info.flag_bits & 1:
                yield info.filename, CannotLookError("is encrypted. Decrypt the archive, and scan the result.")
                continue
            try:
                opened = archive.open(info)
            except NotImplementedError:
                reason = f"is compressed by method {info.compress_type}, which is not known here. Unpack the archive."
                yield info.filename, CannotLookError(reason)
                continue
            except Exception as error:  # as above; other members may be sound
                yield info.filename, CannotLookError(f"is damaged: {first_line(error)}. Restore it, and scan it again.")
                continue
            with opened as member:
                yield info.filename, member  # type: ignore[misc]


def _tarred(file: BinaryIO) -> Iterator[tuple[str, BinaryIO | CannotLookError]]:
    with tarfile.open(fileobj=file, mode="r|", errorlevel=1) as archive:
        for info in archive:
            member = archive.extractfile(info) if info.isfile() else None
            if member is not None:
                yield info.name, member  # type: ignore[misc]


def _chunks_of(member: BinaryIO) -> Iterator[bytes]:
    try:
        while chunk := member.read(PART):
            yield chunk
    except (CannotLookError, MemoryError):
        raise
    except Exception as error:  # as above
        raise CannotLookError(f"is damaged: {first_line(error)}. Restore it, and scan it again.") from error


def _decoded(file: BinaryIO, new: Callable[[], _Decoder], kind: str) -> Iterator[bytes]:
    """Yield the decompressed content of all streams that follow one another in a file."""
    rest, is_first = file.read(PART), True
    try:
        while rest.strip(b"\0"):
            decoder = new()
            try:
                yield decoder.decompress(rest, PART)
            except (zlib.error, lzma.LZMAError, OSError):
                if is_first:
                    raise
                return  # what follows the last stream is no further stream
            while not decoder.eof:
                more = file.read(PART) if decoder.needs_input else b""
                if decoder.needs_input and not more:
                    raise EOFError("it is cut off")
                yield decoder.decompress(more, PART)
            rest, is_first = decoder.unused_data or file.read(PART), False
    except (zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        raise CannotLookError(f"is damaged {kind}: {error}. Restore it, and scan it again.") from error


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore] # Python 3.14

        reader, failure = zstd.ZstdFile(file), zstd.ZstdError
    except ImportError:
        try:
            import zstandard
        except ImportError:
            raise CannotLookError("is compressed with zstd. Run `pip install zstandard`, and scan again.") from None
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False)
        failure = zstandard.ZstdError
    try:
        while chunk := reader.read(PART):
            yield chunk
    except (failure, EOFError) as error:
        raise CannotLookError(f"is damaged zstd: {error}. Restore it, and scan it again.") from error
