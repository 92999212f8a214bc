"""Texts and vectors to search for, files that have them, and the state of a folder, for tests of `scan_folder`."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core import ScanReport
from numpy.typing import NDArray

DIM = 48
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def text_of(seed: int, words: int = 8) -> str:
    """A text that occurs nowhere else."""
    rng = random.Random(seed)
    return " ".join("".join(rng.choices(LETTERS, k=8)) for _ in range(words)) + f" Zoë {seed}"


def vectors_of(seed: int, count: int = 5, dim: int = DIM) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def state_of(folder: Path) -> dict[str, tuple[int, int, int, str]]:
    """Kind, size, time of change and content of everything in a folder, by name."""
    found = {}
    for parent, folders, names in os.walk(folder):
        for path in (Path(parent, name) for name in [*folders, *names]):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and os.access(path, os.R_OK) else b""
            digest = hashlib.sha256(content).hexdigest()
            size = 0 if path.is_dir() else status.st_size
            found[str(path.relative_to(folder))] = (status.st_mode, size, status.st_mtime_ns, digest)
    return found


def places(report: ScanReport, kind: str = "text") -> dict[int, set[str]]:
    """Where each text or vector was found whole, by its number."""
    found: dict[int, set[str]] = {}
    for finding in report.findings:
        if finding.kind == kind and finding.whole:
            found.setdefault(finding.number, set()).add(finding.place)
    return found


def reasons(report: ScanReport) -> dict[str, str]:
    """Why places could not be looked into."""
    return {unread.place: unread.reason for unread in report.unread}


# ---- archives ----
def zipped(data: bytes, method: int = zipfile.ZIP_DEFLATED, name: str = "a/b.bin") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.mkdir("a")
        archive.writestr(name, data)
    return file.getvalue()


def tarred(data: bytes, name: str = "a/b.bin") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


PACKERS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "gzip": (gzip.compress, "unpacked"),
    "bzip2": (bz2.compress, "unpacked"),
    "xz": (lzma.compress, "unpacked"),
    "zlib": (zlib.compress, "unpacked"),
    "zip": (zipped, "a/b.bin"),
    "zip, bzip2": (lambda data: zipped(data, zipfile.ZIP_BZIP2), "a/b.bin"),
    "zip, LZMA": (lambda data: zipped(data, zipfile.ZIP_LZMA), "a/b.bin"),
    "zip, stored": (lambda data: zipped(data, zipfile.ZIP_STORED), "a/b.bin"),
    "tar": (tarred, "a/b.bin"),
}


# ---- tables ----
ROW_TEXTS, ROW_VECTORS = [text_of(number) for number in range(30)], vectors_of(2, 30)


def table() -> Any:
    """A table whose columns have the same texts and vectors in various types."""
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    rows = pa.array(ROW_VECTORS.ravel())
    lists = pa.FixedSizeListArray.from_arrays(rows, DIM)
    return pa.table(
        {
            "text": ROW_TEXTS,
            "class": pa.array([text[::-1] for text in ROW_TEXTS]).dictionary_encode(),
            "nested": [{"a": [{"b": f"in {text}"}]} for text in ROW_TEXTS],
            "bytes": [text.encode("utf-16-le") for text in ROW_TEXTS],
            "fixed": lists,
            "list": pa.array(ROW_VECTORS[::-1].tolist(), pa.list_(pa.float64())),
            "null": pa.array([None, *ROW_TEXTS[1:]]),
        }
    )
