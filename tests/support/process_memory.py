"""The writable memory of another process, and how often something lies in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

LANES = 16
PAGE = 4096


class Region(NamedTuple):
    """A part of a process's memory: its first address, what Linux calls it, and its content."""

    start: int
    name: str
    content: bytes


def regions(pid: int) -> Iterator[Region]:
    """Yield the writable parts of a process's memory; it must be a child that waits."""
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            match = re.match(r"(\w+)-(\w+) rw\S+ \S+ \S+ \S+\s*(.*)", line)
            if match is None or match[3].startswith("[v"):
                continue
            start, end = int(match[1], 16), int(match[2], 16)
            yield from _used(Region(start, match[3] or "anonymous", readable(memory, start, end)))


def readable(memory: BinaryIO, start: int, end: int) -> bytes:
    """The memory between two addresses; zeros for guard pages, which nobody can write to, and which give an error."""
    memory.seek(start)
    try:
        return memory.read(end - start)
    except OSError:
        if end - start <= PAGE:
            return bytes(end - start)
        middle = start + (end - start) // (2 * PAGE) * PAGE
        return readable(memory, start, middle) + readable(memory, middle, end)


def content(pid: int, start: int, size: int) -> bytes:
    """What lies at an address of a process's memory; nothing if the process has given it back."""
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        memory.seek(start)
        try:
            return memory.read(size)
        except OSError:
            return b""


def _used(region: Region) -> Iterator[Region]:
    """Yield the parts of a region between pages that are all zero: most were never touched."""
    words = np.frombuffer(region.content, "<u8").reshape(-1, PAGE // 8)
    used = np.concatenate([[False], words.any(axis=1), [False]])
    borders = (np.flatnonzero(used[1:] != used[:-1]) * PAGE).tolist()
    for first, last in zip(borders[::2], borders[1::2], strict=True):
        yield Region(region.start + first, region.name, region.content[first:last])


def places(region: Region, needle: bytes) -> list[int]:
    """The addresses of some bytes."""
    found, at = [], region.content.find(needle)
    while at >= 0:
        found.append(region.start + at)
        at = region.content.find(needle, at + 1)
    return found


def places_in_blocks(region: Region, row: NDArray[np.int16]) -> list[int]:
    """The addresses of a row of 16-bit integers as the core lays rows out in blocks: its pairs 16 pairs apart."""
    words = np.frombuffer(region.content, "<u4", count=len(region.content) // 4)
    pairs = row.view("<u4")
    last = len(words) - (len(pairs) - 1) * LANES
    starts = np.flatnonzero(words[: max(0, last)] == pairs[0])
    for i, pair in enumerate(pairs[1:], start=1):
        starts = starts[words[starts + i * LANES] == pair]
    return [region.start + 4 * int(at) for at in starts]
