"""File locking: find the holder of a SQLite lock (Linux), and an exclusive lock for removals.

The locks of a file are read from /proc/locks, never by opening the file: a process that closes one descriptor of a file
loses all its locks on that file, including those of SQLite.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

with suppress(ImportError):  # Windows, where nothing is locked: see system.py
    import fcntl

__all__ = ["FOLDER", "WRITER", "describe_holder", "exclusive"]

# Bytes of the -shm file that SQLite locks: sqlite.org/walformat.html, section 2.3.
WRITER = range(120, 121)
# A folder is locked as a whole.
FOLDER = range(1)

# Seconds between two attempts to lock.
PAUSE = 0.01


def describe_holder(file: Path, part: range) -> str:
    """Describe the process that holds a lock on a range of bytes of a file.

    Parameters
    ----------
    file : Path
        SQLite's ``-shm`` file, or a folder that `exclusive` locks.
    part : range
        The locked bytes: `WRITER` of a ``-shm`` file, `FOLDER` of a folder.

    Returns
    -------
    str
        For example ``"process 4711 (python3)"``; ``"another process"`` if the holder is unknown.
    """
    try:
        inode = file.stat().st_ino
        pids = sorted(set(_pids(Path("/proc/locks").read_text(), inode, part)))
    except OSError:
        pids = []
    names = [_name(pid) for pid in pids]
    return " and ".join(names) or "another process"


@contextmanager
def exclusive(folder: Path, timeout: float) -> Iterator[bool]:
    """Hold an exclusive lock on a folder, against other processes and other handles of this process.

    The kernel holds the lock (flock), so it ends with the process. On file systems without flock, only SQLite's own
    locks protect the store.

    Parameters
    ----------
    folder : Path
    timeout : float
        Seconds to wait for the lock.

    Yields
    ------
    bool
        Whether the lock was acquired in time. True also where folders cannot be locked.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # the folder does not exist: opening its files will raise the error
        yield True
        return
    try:
        yield _locked(descriptor, time.monotonic() + timeout)
    finally:
        # Closing is not enough: a process that was forked meanwhile shares the lock.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _locked(descriptor: int, deadline: float) -> bool:
    while not _could_lock(descriptor):
        if time.monotonic() >= deadline:
            return False
        time.sleep(PAUSE)
    return True


def _could_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def _pids(table: str, inode: int, part: range) -> Iterator[int]:
    # 1: POSIX  ADVISORY  READ 4711 08:01:123456 124 124
    for line in table.splitlines():
        words = [word for word in line.split() if word != "->"]
        if len(words) < 8 or words[1] not in ("POSIX", "OFDLCK", "FLOCK") or words[5].rpartition(":")[2] != str(inode):
            continue
        first, last = int(words[6]), 2**63 if words[7] == "EOF" else int(words[7])
        if int(words[4]) > 0 and first < part.stop and last >= part.start:
            yield int(words[4])


def _name(pid: int) -> str:
    if pid == os.getpid():
        return "another handle of this process"
    try:
        return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    except OSError:
        return f"process {pid}"
