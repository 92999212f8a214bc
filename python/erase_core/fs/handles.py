"""Read a file that SQLite has open in this process, without ending SQLite's locks on it.

A process that closes any descriptor of a file loses all its POSIX locks on the file, including those of SQLite
(sqlite.org/howtocorrupt.html, section 2.2). Another process would then believe that it is the last user, and delete the
log that this process still writes to. So a descriptor opened here is closed only after the last SQLite handle of the
same file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

__all__ = ["Key", "hold", "reading", "release"]

Key = tuple[int, int]

# Reentrant: garbage collection of a handle, which calls `release`, may run while this thread holds the lock.
_lock = threading.RLock()
_handles: dict[Key, int] = {}
_streams: dict[Key, FileIO] = {}


def key_of(file: Path) -> Key:
    """Return device and inode, which identify a file whatever its name."""
    status = file.stat()
    return status.st_dev, status.st_ino


def hold(file: Path) -> Key:
    """Register one more user of a file. Call this before SQLite opens the file."""
    key = key_of(file)
    with _lock:
        _handles[key] = _handles.get(key, 0) + 1
    return key


def release(key: Key) -> None:
    """Unregister one user. Call this after SQLite closed the file, or when an unclosed handle is garbage-collected."""
    with _lock:
        _handles[key] -= 1
        if not _handles[key]:
            del _handles[key]
            stream = _streams.pop(key, None)
            if stream is not None:
                stream.close()


@contextmanager
def reading(file: Path) -> Iterator[int]:
    """Yield a descriptor for reading a file. It stays open until the last reader and the last handle have finished.

    Read by position (`os.pread`): other threads may read from the same descriptor.

    Raises
    ------
    OSError
    """
    # A reader counts as a user, since SQLite may open the file meanwhile.
    key = hold(file)
    try:
        with _lock:
            if key not in _streams:
                _streams[key] = FileIO(file, "rb")
            descriptor = _streams[key].fileno()
        yield descriptor
    finally:
        release(key)
