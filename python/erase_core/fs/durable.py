"""Durable writes: a file is written completely or not at all, and is on the disk when the call returns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from erase_core.fs.status import exists, is_dir

with suppress(ImportError):  # Windows, where nothing is written: see system.py
    import fcntl

__all__ = [
    "discard",
    "make_folder",
    "move_new",
    "partial_of",
    "partials_left",
    "sync",
    "sync_folder",
    "write_new",
    "write_over",
]

BLOCK = 2**20


def partials_left(folder: Path, name: str) -> list[Path]:
    """Return the partial files of any process in a folder: of the file with this name, or of those that match it."""
    return list(folder.glob(f"{name}.partial-*"))


def write_new(file: Path, content: bytes) -> None:
    """Write a new file durably, completely or not at all.

    Raises
    ------
    FileExistsError
        The file exists.
    OSError
        The file cannot be written.
    """
    with _complete(file, content) as partial:
        move_new(partial, file)


def write_over(file: Path, content: bytes) -> None:
    """Write a file durably. If there is one with its name, it is replaced as a whole, or stays as it is.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    with _complete(file, content) as partial:
        os.replace(partial, file)
        sync_folder(file.parent)


@contextmanager
def _complete(file: Path, content: bytes) -> Iterator[Path]:
    """Write a partial file and sync it, for the block to rename. It is deleted if there is an error."""
    partial = partial_of(file)
    try:
        with open(partial, "wb") as stream:
            stream.write(content)
            stream.flush()
            sync(stream.fileno())
        yield partial
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def partial_of(file: Path) -> Path:
    """Return the name under which this process writes a file until it is complete."""
    return file.with_name(f"{file.name}.partial-{os.getpid()}")


def move_new(partial: Path, file: Path) -> None:
    """Rename a complete file durably, unless the new name exists.

    Raises
    ------
    FileExistsError
        The new name exists.
    OSError
        The file cannot be renamed.
    """
    try:
        # A rename would replace a file that another process has created meanwhile.
        os.link(partial, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if exists(file):
            raise FileExistsError(f"{file} exists already") from None
        partial.rename(file)
    with suppress(OSError):  # the next process that opens the store removes it
        partial.unlink(missing_ok=True)
    try:
        sync_folder(file.parent)
    except BaseException:
        # The name was not made durable, so it must not stay.
        with suppress(OSError):
            file.unlink()
        raise


def make_folder(folder: Path) -> None:
    """Make a folder and its parents durably, accessible to the owner only. An existing folder is left as it is.

    Raises
    ------
    OSError
        A folder cannot be made.
    """
    if is_dir(folder):
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def discard(file: Path) -> None:
    """Overwrite a file with zeros, and delete it. Processes that still have it open see the zeros, too.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    OSError
        The file cannot be written or deleted.
    """
    with open(file, "r+b") as stream:
        for start in range(0, size := os.fstat(stream.fileno()).st_size, BLOCK):
            stream.write(bytes(min(BLOCK, size - start)))
        stream.flush()
        # Sync before the file is deleted: the system may never write the zeros of a deleted file to the disk.
        sync(stream.fileno())
    file.unlink()


def sync_folder(folder: Path) -> None:
    """Make the creation and deletion of names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(handle)
    finally:
        os.close(handle)


def sync(descriptor: int) -> None:
    """Wait until what was written to a file is on the disk.

    Raises
    ------
    OSError
        The disk failed.
    """
    # On macOS, fsync leaves the data in the disk's memory, and F_FULLFSYNC does not. Not all file systems have it.
    if (whole := getattr(fcntl, "F_FULLFSYNC", None)) is not None:
        with suppress(OSError):
            fcntl.fcntl(descriptor, whole)
            return
    os.fsync(descriptor)
