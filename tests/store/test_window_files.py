"""Files with windows: what is read is what was written, under the same key and label. Else they are as if missing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core.errors import StoreLockedError
from erase_core.store.window_files import WindowFiles, WindowKey
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sealed_by_hand import is_marked, opened_window
from small_stores import new_path

STORE = "0123456789abcdef0123456789abcdef"
SECRET = bytes(range(32))
KEY = WindowKey.of(7, SECRET)
LABEL = b"L" * 32
CONTENT = np.arange(200, dtype=np.uint8)


@pytest.fixture
def files(path: Path) -> Iterator[WindowFiles]:
    path.mkdir()
    files = WindowFiles(path, STORE)
    with files.writing(0):
        yield files


def write(files: WindowFiles, key: WindowKey = KEY, label: bytes = LABEL, content: Any = CONTENT) -> Path:
    files.write(key, label, np.array(content))
    return files.folder / str(key.slot)


def is_same(found: NDArray[np.uint8] | None) -> bool:
    return found is not None and found.tolist() == CONTENT.tolist()


def test_what_is_read_is_what_was_written(files: WindowFiles) -> None:
    assert not files.has(KEY, LABEL)
    assert files.read(KEY, LABEL) is None
    file = write(files)
    assert files.has(KEY, LABEL)
    assert is_same(files.read(KEY, LABEL))
    assert (files.slots(), files.n_bytes) == ([7], file.stat().st_size)


def test_another_program_opens_a_file_by_its_documentation(files: WindowFiles) -> None:
    content = write(files).read_bytes()
    store = bytes.fromhex(STORE)
    assert opened_window(content, SECRET, store, 7) == CONTENT.tobytes()
    assert is_marked(content, SECRET, store, 7, LABEL)


@given(
    place=st.integers(0, 10**6),
    change=st.integers(1, 255),
    how=st.sampled_from(["flip", "cut", "more", "zeros", "mix"]),
)
def test_a_damaged_file_is_as_if_it_were_missing(place: int, change: int, how: str) -> None:
    with new_path() as path:
        path.mkdir()
        files = WindowFiles(path, STORE)
        with files.writing(0):
            file = write(files)
            before = file.read_bytes()
            place %= len(before)
            other = write(files).read_bytes()  # the same window, sealed once more
            damaged = {
                "flip": before[:place] + bytes([before[place] ^ change]) + before[place + 1 :],
                "cut": before[:place],
                "more": before + bytes(change),
                "zeros": before[:place] + bytes(len(before) - place),
                "mix": before[:place] + other[place:],
            }[how]
            file.write_bytes(damaged)
            assert is_same(files.read(KEY, LABEL)) == (damaged in (before, other))
            write(files)
            assert is_same(files.read(KEY, LABEL))


def test_what_is_damaged_behind_its_header_is_deleted_so_that_it_is_computed_again(files: WindowFiles) -> None:
    file = write(files)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert files.has(KEY, LABEL)  # the content is not looked at
    assert files.read(KEY, LABEL) is None
    assert not file.exists()


@pytest.mark.parametrize("kind", ["slot", "store", "key", "label"])
def test_a_file_of_something_else_does_not_open(files: WindowFiles, path: Path, kind: str) -> None:
    file = write(files)
    there, key, label = files, KEY, LABEL
    if kind == "slot":
        key = WindowKey.of(8, SECRET)
        file.rename(files.folder / "8")
    elif kind == "store":
        there = WindowFiles(path, STORE[::-1])
    elif kind == "key":
        key = WindowKey.of(7, SECRET[::-1])
    else:
        label = b"M" * 32
    assert not there.has(key, label)
    assert there.read(key, label) is None
    assert len(os.listdir(files.folder)) == 1, "what may be another's was deleted"


def test_a_file_shows_neither_its_label_nor_its_content(files: WindowFiles) -> None:
    """Who could compute the label of a guess must not be able to compare it with a file."""
    content = np.frombuffer(bytes(64) + b"what it is about", dtype=np.uint8)
    given = np.array(content)
    files.write(KEY, LABEL, given)
    first = (files.folder / "7").read_bytes()
    assert given.tobytes() not in (content.tobytes(), bytes(len(given)))
    assert given.tobytes() in first, "the array is not the ciphertext, so the plaintext is left somewhere"
    second = write(files, content=content).read_bytes()
    for one in (first, second):
        assert LABEL not in one
        assert b"about" not in one
    # Neither a nonce nor anything after it is ever written again.
    assert not {first[at : at + 12] for at in range(20, len(first) - 12)} & {
        second[at : at + 12] for at in range(20, len(second) - 12)
    }


def test_a_write_that_fails_leaves_what_was_there(files: WindowFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    write(files)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write(files, content=CONTENT[::-1])
    assert os.listdir(files.folder) == ["7"]
    assert is_same(files.read(KEY, LABEL))


def test_what_is_no_file_of_ours_is_left_alone_and_hinders_nothing(files: WindowFiles) -> None:
    os.mkfifo(files.folder / "7")
    (files.folder / "8").mkdir()
    for name in ("notes", "08", "-1", "9.partial-1"):
        (files.folder / name).write_bytes(b"x")
    for slot in (7, 8):
        key = WindowKey.of(slot, SECRET)
        assert not files.has(key, LABEL)
        assert files.read(key, LABEL) is None
    assert files.slots() == [7, 8]
    files.delete([7, 8, 9])
    assert sorted(os.listdir(files.folder)) == ["-1", "08", "8", "9.partial-1", "notes"]


def test_one_process_at_a_time_writes_and_what_a_killed_one_left_is_deleted(files: WindowFiles, path: Path) -> None:
    left = files.folder / "7.partial-1"
    left.write_bytes(b"x")
    other = WindowFiles(path, STORE)
    with pytest.raises(StoreLockedError, match="is computing windows"), other.writing(0):
        pass
    other.clear_unfinished()
    assert left.exists(), "what another process is writing was deleted"


def test_what_a_killed_process_left_is_deleted_if_no_other_writes(path: Path) -> None:
    files = WindowFiles(path, STORE)
    files.folder.mkdir(parents=True)
    left = files.folder / "7.partial-1"
    left.write_bytes(b"x")
    files.clear_unfinished()
    assert not left.exists()
    left.write_bytes(b"x")
    with files.writing(0):
        assert not left.exists()
