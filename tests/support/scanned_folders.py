"""Texts and vectors to search for, and the visible state of a folder, for tests of `scan_folder`."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import numpy as np
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
