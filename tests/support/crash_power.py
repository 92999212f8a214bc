"""What is left after a power cut: what an fsync was asked for, and of the rest nothing, or the contents, or the names.

A process that is killed loses nothing that it has written, a machine may. So a process keeps a mirror of what it has
synchronised: of a file its contents then, of a folder its names then. From the mirror the images of a cut are made.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
from pathlib import Path
from typing import Any

VARIANTS = ("nothing else", "all contents", "all names")
# What the C side calls must not be collected.
_kept: list[Any] = []


def keep(library: Any, mirror: Path) -> None:
    """Keep a mirror from now on, in the process that is to be stopped: by inodes, for names come and go."""
    held: dict[int, int] = {}

    def hold(path: Path) -> int:
        """Open, for good: an inode that is held has no successor of its number, and to close one drops locks."""
        inode = path.stat().st_ino
        if inode not in held:
            held[inode] = os.open(path, os.O_RDONLY)
        return inode

    def synced(encoded: bytes) -> None:
        path = Path(os.fsdecode(encoded))
        if path.is_dir():
            names = {each.name: hold(each) for each in path.iterdir()}
            (mirror / f"{hold(path)}.names").write_text(json.dumps(names))
        elif path.exists():
            inode = hold(path)
            size = os.fstat(held[inode]).st_size
            (mirror / str(inode)).write_bytes(os.pread(held[inode], size, 0))

    _kept.append(ctypes.CFUNCTYPE(None, ctypes.c_char_p)(synced))
    library.crash_tell(_kept[-1])


def cut(folder: Path, mirror: Path, variant: str, image: Path) -> None:
    """Make the folder as it may be after the power cut."""
    now = {path.stat().st_ino: path for path in [folder, *folder.rglob("*")]}

    def names_in(inode: int) -> dict[str, int]:
        listing = mirror / f"{inode}.names"
        if variant == "all names":
            return {each.name: each.stat().st_ino for each in now[inode].iterdir()}
        result: dict[str, int] = json.loads(listing.read_text()) if listing.exists() else {}
        return result

    def make(inode: int, path: Path) -> None:
        there = now.get(inode)
        source = there if there is not None and variant == "all contents" else mirror / str(inode)
        if there is not None and there.is_dir():
            path.mkdir()
            for name, each in names_in(inode).items():
                make(each, path / name)
        elif source.exists():
            shutil.copyfile(source, path)
        else:
            path.touch()

    make(folder.stat().st_ino, image)
