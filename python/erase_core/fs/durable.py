"""Files that outlast a crash: written whole or not at all, and on the disk when the call returns."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["discard", "make_folder", "move_new", "partial_of", "partials_left", "sync_folder", "write_new"]

BLOCK = 2**20


def partial_of(file: Path) -> Path:
    """Return where this process writes a file that is to be complete when it gets its name."""
    return file.with_name(f"{file.name}.partial-{os.getpid()}")


def partials_left(folder: Path, name: str) -> list[Path]:
    """Return the partial files of any process in a folder: of the file with this name, or of those that match it."""
    return list(folder.glob(f"{name}.partial-*"))


def write_new(file: Path, content: bytes) -> None:
    """Write a file that is not there yet, whole or not at all, and durably.

    Raises
    ------
    FileExistsError
        It is there.
    OSError
        It cannot be written.
    """
    partial = partial_of(file)
    try:
        with open(partial, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        move_new(partial, file)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def move_new(partial: Path, file: Path) -> None:
    """Give a file its name, durably, unless the name is taken.

    Raises
    ------
    FileExistsError
    """
    try:
        # A rename would replace what another process has put there in the meantime.
        os.link(partial, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if file.exists():
            raise FileExistsError(f"{file} is there already") from None
        partial.rename(file)
    with suppress(OSError):  # whoever comes next removes it
        partial.unlink(missing_ok=True)
    try:
        sync_folder(file.parent)
    except BaseException:
        # It is there durably or not at all.
        with suppress(OSError):
            file.unlink()
        raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably, for nobody else to look into; nothing if it is there.

    Raises
    ------
    OSError
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def discard(file: Path) -> None:
    """Overwrite a file with zeros, which whoever still has it open sees too, and unlink it.

    Raises
    ------
    FileNotFoundError
        It is not there.
    OSError
    """
    with open(file, "r+b") as stream:
        for start in range(0, size := os.fstat(stream.fileno()).st_size, BLOCK):
            stream.write(bytes(min(BLOCK, size - start)))
        stream.flush()
        # Of a file that is unlinked the system writes nothing any more.
        os.fsync(stream.fileno())
    file.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: those that came, and those that went."""
    if os.name == "nt":  # which opens no folders
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
