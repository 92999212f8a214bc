"""The bytes of a source: a file or an open stream, decompressed if necessary.

Recognises files in unsupported formats by their first bytes, and names the format in the error. Reading rows from the
bytes is left to `formats`.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from erase_core.errors import SourceError, first_line
from erase_core.fs.status import exists, is_dir

__all__ = ["Content", "content_of", "is_stream"]

HEAD = 256
# First bytes of formats that are often mistaken for text or have a wrong suffix; longer ones first.
SIGNATURES = (
    (codecs.BOM_UTF32_LE, "text in UTF-32", "save it as UTF-8"),
    (codecs.BOM_UTF32_BE, "text in UTF-32", "save it as UTF-8"),
    (codecs.BOM_UTF16_LE, "text in UTF-16", "save it as UTF-8"),
    (codecs.BOM_UTF16_BE, "text in UTF-16", "save it as UTF-8"),
    (b"\x1f\x8b", "compressed with gzip", "give it a name that ends in .gz, or decompress it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "decompress it"),
    (b"\xfd7zXZ\0", "compressed with xz", "decompress it"),
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "unpack it, or save its table as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save its table as CSV"),
    (b"PAR1", "Parquet", "give format='parquet'"),
    (b"ARROW1", "an Arrow file", "read it with pyarrow or polars, and give the table"),
    (b"SQLite format 3\0", "an SQLite database", "export its table as CSV"),
    (b"%PDF-", "a PDF document", "give a table or a file of rows"),
)
BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")


@dataclass(frozen=True)
class Content:
    """A source of bytes.

    Parameters
    ----------
    name : str
        Name of the source, for messages.
    suffix : str
        Suffix of the name in lower case, without ``.gz``; empty if there is none.
    source : Path or bytes
        A file, or the contents of a stream.
    """

    name: str
    suffix: str
    source: Path | bytes

    @contextmanager
    def opened(self, *, text: bool = True) -> Iterator[BinaryIO]:
        """Open the source as a stream of decompressed bytes.

        Parameters
        ----------
        text : bool, default=True
            Refuse a source whose first bytes show that it is not text in UTF-8.

        Raises
        ------
        SourceError
            The source is not text, or is damaged gzip.
        OSError
            The file cannot be read.
        """
        with self._raw() as raw:
            is_gzip = raw.peek(2)[:2] == b"\x1f\x8b"
            by_name = isinstance(self.source, Path) and self.source.suffix.lower() == ".gz"
            if by_name and not raw.peek(1):
                raise SourceError(f"{self.name} is empty, but even an empty gzip file has a header. Download it again.")
            if by_name and not is_gzip:
                raise SourceError(f"{self.name} is not compressed with gzip, although its name ends in .gz. Rename it.")
            # A stream need not have a name, so only its bytes count.
            if by_name or (is_gzip and isinstance(self.source, bytes)):
                with self._decompressed(raw) as stream:
                    if text:
                        self._check(stream.peek(HEAD)[:HEAD])
                    yield cast("BinaryIO", stream)
                return
            if text:
                self._check(raw.peek(HEAD)[:HEAD])
            yield cast("BinaryIO", raw)

    def read(self, *, text: bool = True) -> bytes:
        """Return all decompressed bytes. Errors are those of `opened`."""
        with self.opened(text=text) as stream:
            return stream.read()

    def _raw(self) -> io.BufferedReader:
        if isinstance(self.source, Path):
            return self.source.open("rb")
        return io.BufferedReader(cast("io.RawIOBase", io.BytesIO(self.source)))

    @contextmanager
    def _decompressed(self, raw: io.BufferedReader) -> Iterator[gzip.GzipFile]:
        try:
            with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
                yield stream
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise SourceError(f"{self.name} is damaged gzip: {first_line(error)}. Fetch it again.") from None

    def _check(self, head: bytes) -> None:
        found = next(((what, do) for start, what, do in SIGNATURES if head.startswith(start)), None)
        if BZIP2.match(head):
            found = ("compressed with bzip2", "decompress it")
        elif found is None and _alternates_with_nul(head):
            found = ("text in UTF-16", "save it as UTF-8")
        if found is not None:
            raise SourceError(f"{self.name} is {found[0]}. {found[1][0].upper()}{found[1][1:]}.")


def is_stream(source: object) -> bool:
    """Whether an object is an open file or another readable stream."""
    return callable(getattr(source, "read", None))


def content_of(source: str | os.PathLike[str] | IO[str] | IO[bytes]) -> Content:
    """Return the content of a file or stream. A stream is read to its end.

    Raises
    ------
    SourceError
        The file does not exist, or the stream cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.fsdecode(source))
        if not exists(path):
            raise SourceError(f"{str(path)!r}: no such file")
        if is_dir(path):
            raise SourceError(f"{path} is a folder. Give a file in it.")
        return Content(str(path), _suffix(path), path)
    given = getattr(source, "name", None)
    name = given if isinstance(given, str) and given else type(source).__name__
    name = "standard input" if name == "<stdin>" else name
    try:
        read = source.read()
    except UnicodeDecodeError:
        raise SourceError(
            f"{name} cannot be decoded: it is not UTF-8, or not opened as UTF-8. Open it in binary mode."
        ) from None
    except (OSError, ValueError) as error:  # reading a closed file raises ValueError
        raise SourceError(f"{name} cannot be read: {first_line(error)}") from error
    if isinstance(read, str):
        read = read.encode("utf-8", "surrogatepass")
    if not isinstance(read, (bytes, bytearray, memoryview)):
        raise SourceError(
            f"{name} cannot be read: it returns {type(read).__name__}, not bytes. Open it in binary mode."
        )
    return Content(name, _suffix(Path(name)), bytes(read))


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


def _alternates_with_nul(head: bytes) -> bool:
    """Whether these bytes are ASCII characters in UTF-16 without a byte order mark."""
    even, odd = head[: len(head) // 2 * 2 : 2], head[1::2]
    return len(head) >= 4 and ((not any(odd) and all(even)) or (not any(even) and all(odd)))
