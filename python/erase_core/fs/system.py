"""What the operating system must have for stores and scans. Linux and macOS have it, Windows does not."""

from __future__ import annotations

import importlib.util
import os

__all__ = ["missing"]

# Locks of folders, reading and writing by position, and making names in a folder durable.
MODULE = "fcntl"
CALLS = ("O_DIRECTORY", "pread", "preadv", "pwrite")


def missing() -> list[str]:
    """Return the names of what this system lacks; empty if stores and scans work."""
    lacking = [] if importlib.util.find_spec(MODULE) else [MODULE]
    return lacking + [f"os.{name}" for name in CALLS if not hasattr(os, name)]
