"""Which process is in the way: who holds SQLite's locks on a store, as Linux tells it.

A file's locks are read from /proc/locks, never by opening the file: a process that closes one handle of a file loses
its locks on that file, SQLite's among them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["READERS", "WRITER", "holder"]

# Bytes of the file named -shm that SQLite locks (its documentation of the WAL index's format).
WRITER = range(120, 121)
READERS = range(123, 128)


def holder(shm: Path, part: range) -> str:
    """Describe who holds a lock on some bytes of a file; "another process" if that cannot be told.

    Parameters
    ----------
    shm : Path
        The file that SQLite locks.
    part : range
        Its bytes: `READERS` or `WRITER`.

    Returns
    -------
    str
        Like ``"process 4711 (python3)"``.
    """
    try:
        inode = shm.stat().st_ino
        pids = sorted(set(_pids(Path("/proc/locks").read_text(), inode, part)))
    except OSError:
        pids = []
    names = [_name(pid) for pid in pids]
    return " and ".join(names) or "another process"


def _pids(table: str, inode: int, part: range) -> Iterator[int]:
    # 1: POSIX  ADVISORY  READ 4711 08:01:123456 124 124
    for line in table.splitlines():
        words = [word for word in line.split() if word != "->"]
        if len(words) < 8 or words[1] not in ("POSIX", "OFDLCK") or words[5].rpartition(":")[2] != str(inode):
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
