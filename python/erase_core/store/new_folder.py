"""Checks that a folder is free for a new store, and deletes files of a process that was killed while creating one."""

from __future__ import annotations

from pathlib import Path

from erase_core.errors import StoreError, os_reason
from erase_core.fs.durable import partials_left
from erase_core.fs.status import exists, is_dir, is_file
from erase_core.store.key_file import FILE as KEY_FILE
from erase_core.store.key_file import HEAD_BYTES
from erase_core.store.schema import FILE

__all__ = ["check_vacant", "clear_unfinished"]

# Most names of files to list in a message.
MOST = 3


def check_vacant(folder: Path) -> None:
    """Check that a folder does not exist or is empty, apart from files of a killed process.

    Raises
    ------
    StoreError
        The folder is not free. The message names the files in it.
    """
    try:
        taken = _in_the_way(folder)
    except OSError as error:
        raise StoreError(f"{folder}: {os_reason(error)}") from error
    if taken:
        raise StoreError(f"{folder} {taken}")


def clear_unfinished(folder: Path) -> None:
    """Delete files of a process that was killed while it created a store."""
    for file in _unfinished(folder):
        file.unlink(missing_ok=True)


def _unfinished(folder: Path) -> list[Path]:
    left = partials_left(folder, FILE)
    if exists(folder / FILE):
        return left
    # The key file is written before the SQLite file. One without keys never had an example.
    keys = folder / KEY_FILE
    has_none = is_file(keys) and keys.stat().st_size == HEAD_BYTES
    return [*left, *partials_left(folder, KEY_FILE), *([keys] if has_none else [])]


def _in_the_way(folder: Path) -> str | None:
    """Return why no store can be created in a folder, as words to put after its name; None if it is free."""
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if exists(path))
    if not is_dir(above):
        what = "is a file" if above == folder.absolute() else f"cannot be made, since {above} is a file"
        return f"{what}. Choose another folder."
    if above != folder.absolute():
        return None
    names = sorted(file.name for file in set(folder.iterdir()) - set(_unfinished(folder)))
    if FILE in names:
        return "is not empty: it holds a store already. Open the store, or choose another folder."
    if not names:
        return None
    others = len(names) - MOST
    more = f" and {others} more" if others > 0 else ""
    verb = "is" if len(names) == 1 else "are"
    listed = ", ".join(map(repr, names[:MOST]))
    return f"is not empty: {listed}{more} {verb} in the way. Give a new folder inside it, or choose another folder."
