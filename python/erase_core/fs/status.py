"""Whether a path exists, and is a file or a folder: False only if that is known.

From Python 3.14 on, `Path.exists` and its like return False for any error too, such as a folder that must not be read.
"""

from __future__ import annotations

import errno
import stat
from pathlib import Path

__all__ = ["exists", "is_dir", "is_file"]

ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP}


def exists(path: Path) -> bool:
    """Whether a path exists.

    Raises
    ------
    OSError
        It cannot be found out.
    """
    return _mode(path) != 0


def is_file(path: Path) -> bool:
    """Whether a path is a regular file, or a link to one. Errors are those of `exists`."""
    return stat.S_ISREG(_mode(path))


def is_dir(path: Path) -> bool:
    """Whether a path is a folder, or a link to one. Errors are those of `exists`."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    """Return the type and the permissions of a path; 0 if it does not exist."""
    try:
        return path.stat().st_mode
    except ValueError:  # a name that no path can have
        return 0
    except OSError as error:
        if error.errno in ABSENT:
            return 0
        raise
