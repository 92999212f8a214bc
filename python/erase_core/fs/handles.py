"""Reading a file beside SQLite, which has it open in this process, without ending SQLite's locks on it.

A process that closes any descriptor of a file loses all its POSIX locks on it, SQLite's among them (section 2.2 of
sqlite.org/howtocorrupt.html); another process then takes itself for the last one and deletes the log that this one
goes on writing to. So a descriptor of a file that handles here have open is closed after the last of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

__all__ = ["Key", "hold", "let_go", "reading"]

Key = tuple[int, int]

# One who waits for it may be interrupted by the collection of a handle.
_lock = threading.RLock()
_handles: dict[Key, int] = {}
_streams: dict[Key, FileIO] = {}


def key_of(file: Path) -> Key:
    """Return what tells a file from others, whatever its name."""
    status = file.stat()
    return status.st_dev, status.st_ino


def hold(file: Path) -> Key:
    """Count one more who has a file open. To be called before a handle of SQLite's is opened."""
    key = key_of(file)
    with _lock:
        _handles[key] = _handles.get(key, 0) + 1
    return key


def let_go(key: Key) -> None:
    """Count one less. To be called after the handle was closed, or by the collector of a handle that never was."""
    with _lock:
        _handles[key] -= 1
        if not _handles[key]:
            del _handles[key]
            stream = _streams.pop(key, None)
            if stream is not None:
                stream.close()


@contextmanager
def reading(file: Path) -> Iterator[int]:
    """Open a file for reading, and yield its descriptor; it is closed when nobody reads it, and no handle is held.

    To be read by position, since others may read it at the same time.

    Raises
    ------
    OSError
    """
    # A reader counts like a handle, since one may be opened meanwhile.
    key = hold(file)
    try:
        with _lock:
            if key not in _streams:
                _streams[key] = FileIO(file, "rb")
            descriptor = _streams[key].fileno()
        yield descriptor
    finally:
        let_go(key)
