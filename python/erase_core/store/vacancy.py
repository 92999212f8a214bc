"""A folder that is to hold a store: whether it is vacant, and what a process left that was killed while it made one."""

from __future__ import annotations

from pathlib import Path

from erase_core.errors import StoreError, os_reason
from erase_core.fs.durable import partials_left
from erase_core.store.schema import FILE

__all__ = ["check_vacant", "clear_unfinished"]

# Names of what is in the way that a message lists.
MOST = 3


def check_vacant(folder: Path) -> None:
    """Check that a folder is absent or empty, but for what a process left that was killed here.

    Raises
    ------
    StoreError
        It is not; the message says what is in the way.
    """
    try:
        taken = _in_the_way(folder)
    except OSError as error:
        raise StoreError(f"{folder}: {os_reason(error)}") from error
    if taken:
        raise StoreError(f"{folder} {taken}")


def clear_unfinished(folder: Path) -> None:
    """Remove what a process left that was killed while it made a store."""
    for file in partials_left(folder, FILE):
        file.unlink(missing_ok=True)


def _in_the_way(folder: Path) -> str | None:
    """Return why no store can be made there, to be read after the folder's name."""
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not above.is_dir():
        what = "is a file" if above == folder.absolute() else f"cannot be made, since {above} is a file"
        return f"{what}; choose another folder"
    if above != folder.absolute():
        return None
    names = sorted(file.name for file in set(folder.iterdir()) - set(partials_left(folder, FILE)))
    if FILE in names:
        return "is not empty: it holds a store already; open the store that is in it, or choose another folder"
    if not names:
        return None
    others = len(names) - MOST
    more = f" and {others} more" if others > 0 else ""
    verb = "is" if len(names) == 1 else "are"
    listed = ", ".join(map(repr, names[:MOST]))
    return f"is not empty: {listed}{more} {verb} in the way; name a new folder within it, or choose another"
