"""Who is in the way: who holds a lock on a store, as Linux tells it; and a lock of our own, for whole removals.

A file's locks are read from /proc/locks, never by opening the file: a process that closes one handle of a file loses
its locks on that file, SQLite's among them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["FOLDER", "READERS", "WRITER", "alone", "holder"]

# Bytes of the file named -shm that SQLite locks (its documentation of the WAL index's format).
WRITER = range(120, 121)
READERS = range(123, 128)
# Of a folder that is locked as a whole.
FOLDER = range(1)

# Seconds between two looks at a lock.
PAUSE = 0.01


def holder(file: Path, part: range) -> str:
    """Describe who holds a lock on some bytes of a file; "another process" if that cannot be told.

    Parameters
    ----------
    file : Path
        The file that is locked: the one named ``-shm`` by SQLite, a folder by `alone`.
    part : range
        Its bytes: `READERS` or `WRITER`; `FOLDER`.

    Returns
    -------
    str
        Like ``"process 4711 (python3)"``.
    """
    try:
        inode = file.stat().st_ino
        pids = sorted(set(_pids(Path("/proc/locks").read_text(), inode, part)))
    except OSError:
        pids = []
    names = [_name(pid) for pid in pids]
    return " and ".join(names) or "another process"


@contextmanager
def alone(folder: Path, timeout: float) -> Iterator[bool]:
    """Lock a folder against others that do the same: other processes, and other handles of this one.

    The lock is the kernel's (flock), so that it ends with the process. Where there is none SQLite's locks have to do.

    Parameters
    ----------
    folder : Path
    timeout : float
        Seconds to wait for it.

    Yields
    ------
    bool
        Whether it could be had.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # a folder that is not there, or on Windows: its files will tell
        yield True
        return
    try:
        yield _locked(descriptor, time.monotonic() + timeout)
    finally:
        if sys.platform != "win32":
            # By name: a process that was forked meanwhile has the descriptor too.
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
        if sys.platform != "win32":
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
        return "this process, by another handle"
    try:
        return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    except OSError:
        return f"process {pid}"
