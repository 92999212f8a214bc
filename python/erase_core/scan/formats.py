"""Knows the kind of a file by its bytes, and which kinds cannot be looked into."""

from __future__ import annotations

import struct

__all__ = [
    "ARCHIVES",
    "COMPRESSED",
    "HEAD",
    "SEEKABLE",
    "TAIL",
    "CannotLookError",
    "code_reason",
    "kind_of",
    "reason_of",
]


class CannotLookError(Exception):
    """Something cannot be looked into. The message is the reason."""


# Bytes from the beginning and the end of a file that show its kind.
HEAD, TAIL = 512, 64

COMPRESSED = {"gzip", "bzip2", "xz", "zstd", "zlib"}
ARCHIVES = {"zip", "tar"}
# Kinds that must be read at any position.
SEEKABLE = {"zip", "sqlite", "numpy", "parquet", "arrow", "lance"}

MAGICS: list[tuple[int, bytes, str]] = [
    (0, b"\x1f\x8b", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (257, b"ustar", "tar"),
    (0, b"SQLite format 3\x00", "sqlite"),
    (0, b"\x93NUMPY", "numpy"),
    (0, b"PAR1", "parquet"),
    (0, b"ARROW1\x00\x00", "arrow"),
]
# Lance files before this version of the format, and Lance's manifests, are not compressed.
LANCE_VERSION = (0, 3)
# Kinds that this package does not know to read.
FOREIGN: list[tuple[int, bytes, str]] = [
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"\x04\x22\x4d\x18", "compressed with LZ4"),
    (0, b"\xff\x06\x00\x00sNaPpY", "compressed with Snappy"),
    (0, b"LZIP", "compressed with lzip"),
    (0, b"\x1f\x9d", "compressed with compress"),
    (0, b"PARE", "an encrypted Parquet file"),
    (0, b"FEA1", "a Feather file of version 1, which may be compressed"),
    (0, b"ORC", "an ORC file, which may be compressed"),
    (0, b"Obj\x01", "an Avro file, which may be compressed"),
    (0, b"%PDF-", "a PDF file, which may be compressed"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, which may be compressed"),
    (8, b"DUCK", "a DuckDB file, whose columns may be compressed"),
    (0, b"age-encryption.org/", "encrypted with age"),
    (0, b"-----BEGIN AGE ENCRYPTED", "encrypted with age"),
    (0, b"-----BEGIN PGP MESSAGE", "encrypted with PGP"),
    (0, b"Salted__", "encrypted with OpenSSL"),
    (0, b"LUKS\xba\xbe", "an encrypted disk"),
]
# The last bytes of the tables of RocksDB and LevelDB.
FOREIGN_TAILS = {
    b"\xf7\xcf\xf4\x85\xb7\x41\xe2\x88": "a table of RocksDB, which may be compressed",
    b"\x57\xfb\x80\x8b\x24\x75\x47\xdb": "a table of LevelDB, which may be compressed",
}
ADVICE = "Unpack or export it, and scan the result"

# An index of FAISS begins with four characters, and two constants in its header. These contain vectors as float32, ...
FAISS_FLAT = {b"IxFI", b"IxF2", b"IxFl", b"IwFl", b"IHNf", b"INSf"}
# ... and these contain another index after their header. All others have codes, or vectors that are transformed.
FAISS_OUTER = {b"IxMp", b"IxM2"}
FAISS_CONSTANTS, FAISS_HEADER = struct.pack("<2q", 2**20, 2**20), 37


def kind_of(head: bytes, tail: bytes = b"") -> str | None:
    """Return the kind of a content by its first and last bytes; None if it is read as it is."""
    for offset, magic, kind in MAGICS:
        if head.startswith(magic, offset):
            return kind
    if tail.endswith(b"LANC") and struct.unpack_from("<2H", tail, len(tail) - 8) >= LANCE_VERSION:
        return "lance"
    if _is_arrow_stream(head):
        return "arrow stream"
    if len(head) > 2 and head[0] == 0x78 and int.from_bytes(head[:2], "big") % 31 == 0 and not head[1] & 32:
        return "zlib"
    return None


def reason_of(head: bytes, tail: bytes = b"") -> str | None:
    """Return why a content cannot be looked into, if it is of a known kind that this package does not read."""
    named = [name for offset, magic, name in FOREIGN if head.startswith(magic, offset)]
    named += [name for end, name in FOREIGN_TAILS.items() if tail.endswith(end)]
    return f"is {named[0]}. {ADVICE}." if named else None


def code_reason(head: bytes) -> str | None:
    """Return why the vectors of a FAISS index cannot be found; None if they can, or if it is not such an index."""
    kind = head[:4]
    if not head.startswith(FAISS_CONSTANTS, 16):
        return None
    while kind in FAISS_OUTER:
        (metric,) = struct.unpack_from("<i", head.ljust(FAISS_HEADER, b"\0"), FAISS_HEADER - 4)
        head = head[FAISS_HEADER + (4 if metric > 1 else 0) :]  # some metrics have an argument
        kind = head[:4]
    if kind in FAISS_FLAT:
        return None
    return (
        f"is a FAISS index of the kind {kind.decode('ascii', 'replace')}, with codes or transformed vectors. These "
        "cannot be compared with vectors. Rebuild the index without what should be gone."
    )


def _is_arrow_stream(head: bytes) -> bool:
    """Return whether a content begins as Arrow's stream format: a mark, and the length of a schema."""
    if len(head) < 16 or not head.startswith(b"\xff\xff\xff\xff"):
        return False
    length, root = struct.unpack_from("<iI", head, 4)
    return bool(length > 0 and length % 8 == 0 and 0 < root < min(length, 4096))
