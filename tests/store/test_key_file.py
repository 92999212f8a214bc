"""The key file, in bad hands and bad luck: one clear error each, or recovery, and nothing else is lost.

For what is exchanged by hand, see test_exchanged.py; for old copies, test_old_copies.py; for processes that are
killed, the crash tests; for drawn damage, test_fuzz.py.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from functools import partial, partialmethod
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from erase_core.erase import Erase
from erase_core.errors import (
    KeyFileError,
    ParameterError,
    ScrubError,
    ScrubWarning,
    StoreError,
    StoreLockedError,
    UncertainError,
    UnknownIdError,
)
from erase_core.store import key_file
from erase_core.store.key_file import HEAD_BYTES, KEY_BYTES, PLACES
from receipts_by_hand import key_of
from small_stores import (
    QUERIES,
    CountingLLM,
    Elsewhere,
    WordEmbedder,
    contents,
    create,
    fresh,
    parts_of,
    refused,
    reopened,
    seen,
    seen_anew,
    some,
)

DATABASE, KEYS = "examples.sqlite", "keys"
MINE, ANOTHER = b"k" * 32, b"another key, as long as it must be"


def opened(path: Path, **options: Any) -> Erase:
    return Erase.open(path, embedder=WordEmbedder(), llm=CountingLLM(), **options)


@pytest.fixture
def closed(path: Path) -> Path:
    """A store in which something was forgotten, that nobody has open."""
    with create(path, some(12)) as erase:
        erase.forget(3)
    return path


LEFT = [each for each in some(12) if each.id != 3]


def check_refused_to_open(path: Path, *words: str, **options: Any) -> None:
    """Opening is refused, names the key file, and changes nothing."""
    files = contents(path)
    refused(lambda: opened(path, **options), KeyFileError, str(path / KEYS), *words)
    assert contents(path) == files


def check_whole(path: Path, content: bytes) -> None:
    """With the right key file put back, all is there."""
    if (path / KEYS).is_dir():
        (path / KEYS).rmdir()
    (path / KEYS).write_bytes(content)
    with opened(path) as erase:
        assert seen(erase) == fresh(LEFT)


# ---- the file ----
def test_a_missing_key_file_is_named(closed: Path) -> None:
    content = (closed / KEYS).read_bytes()
    (closed / KEYS).unlink()
    check_refused_to_open(closed, "is missing", "no example of the store can be read", "SQLite file are untouched")
    (closed / KEYS).mkdir()
    check_refused_to_open(closed, "not a file", "SQLite file are untouched", "Put the newest copy")
    check_whole(closed, content)


def test_a_key_file_that_goes_missing_under_a_handle_is_named(closed: Path) -> None:
    erase = opened(closed)
    (closed / KEYS).rename(closed / "elsewhere")
    calls = (erase.examples, erase.verify, lambda: erase.ingest(some(1, 50)), lambda: erase.forget(1))
    for call in calls:
        refused(call, KeyFileError, str(closed / KEYS), "Put the newest copy back")
    (closed / "elsewhere").rename(closed / KEYS)
    assert seen(erase) == fresh(LEFT)
    # Another file, of the same content, is not the one that it wrote to.
    shutil.copy(closed / KEYS, closed / "elsewhere")
    os.replace(closed / "elsewhere", closed / KEYS)
    for call in calls:
        refused(call, KeyFileError, "was replaced while the store was open here", "Open it again")
    with opened(closed) as erase:
        assert seen(erase) == fresh(LEFT)


def test_a_key_file_that_was_cut_off_is_named(closed: Path) -> None:
    content = (closed / KEYS).read_bytes()
    assert len(content) == HEAD_BYTES + 12 * KEY_BYTES
    for length in [*range(0, HEAD_BYTES, 9), HEAD_BYTES - 1, *range(HEAD_BYTES, len(content), 7), len(content) - 1]:
        (closed / KEYS).write_bytes(content[:length])
        check_refused_to_open(closed, "Put the newest copy back")
    check_whole(closed, content)


@pytest.mark.parametrize("wrapping", [None, MINE], ids=["plain", "wrapped"])
def test_no_bit_of_the_head_can_be_changed(path: Path, wrapping: bytes | None) -> None:
    create(path, some(12), key=wrapping).close()
    content = (path / KEYS).read_bytes()
    database = contents(path)[DATABASE]
    for at, bit in product(range(PLACES[1]), (0, 7)):
        changed = bytearray(content)
        changed[at] ^= 1 << bit
        (path / KEYS).write_bytes(changed)
        refused(lambda: opened(path, key=wrapping), KeyFileError, str(path / KEYS))
        assert (path / KEYS).read_bytes() == changed
    assert contents(path)[DATABASE] == database
    (path / KEYS).write_bytes(content)
    with opened(path, key=wrapping) as erase:
        assert seen(erase) == fresh(some(12))


def test_the_key_file_of_another_store_is_named(closed: Path) -> None:
    content = (closed / KEYS).read_bytes()
    with create(closed.with_name("another"), some(12)) as another:
        another.forget(3)
        theirs = seen(another)
    foreign = (closed.with_name("another") / KEYS).read_bytes()
    assert len(foreign) == len(content)
    (closed / KEYS).write_bytes(foreign)
    (closed.with_name("another") / KEYS).write_bytes(content)
    check_refused_to_open(closed, "is the key file of another store", "Put the one of this store back")
    check_refused_to_open(closed.with_name("another"), "is the key file of another store")
    (closed.with_name("another") / KEYS).write_bytes(foreign)
    check_whole(closed, content)
    assert seen_anew(closed.with_name("another")) == theirs


def test_the_keys_of_another_store_under_the_head_of_this_one_open_nothing(closed: Path) -> None:
    content = (closed / KEYS).read_bytes()
    create(closed.with_name("another"), some(12)).close()
    foreign = (closed.with_name("another") / KEYS).read_bytes()
    (closed / KEYS).write_bytes(content[:HEAD_BYTES] + foreign[HEAD_BYTES:])
    with opened(closed) as erase:
        for call in (erase.examples, erase.verify, lambda: erase.prompt(QUERIES[0])):
            refused(call, StoreError, "is damaged", "Restore a backup")
    check_whole(closed, content)


def test_a_key_file_that_may_not_be_written_is_named(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, real, left = (closed / KEYS).read_bytes(), os.open, fresh(LEFT)

    def refuse(file: Any, flags: int, *args: Any, **options: Any) -> int:
        if Path(file).name == KEYS and flags & (os.O_RDWR | os.O_WRONLY):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(file, flags, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with opened(closed) as erase:  # which can be read
            assert seen(erase) == left
            for call in (lambda: erase.forget(3), lambda: erase.ingest(some(1, 90)), lambda: erase.rekey(MINE)):
                refused(call, KeyFileError, "cannot be written", "nothing was changed", "needs write access")
            assert seen(erase) == left
    check_whole(closed, content)


# ---- the key of the caller's ----
def test_a_key_of_ones_own_is_needed_and_must_be_the_right_one(path: Path) -> None:
    with create(path, some(12), key=MINE) as erase:
        erase.forget(3)
    check_refused_to_open(path, "can only be read with the key of this store", "--key-from")
    check_refused_to_open(path, "another key was given", "Give the right key", key=ANOTHER)
    refused(lambda: opened(path, key=MINE[1:]), ParameterError, "at least 32 bytes")
    with opened(path, key=MINE) as erase:
        assert seen(erase) == fresh(LEFT)
    for slot in (0, 3, 11):
        assert any(key_of(path / DATABASE, slot)) == (slot != 3)


def test_a_key_that_is_not_needed_is_refused(closed: Path) -> None:
    check_refused_to_open(closed, "a key was given", "needs none", "erase rekey", key=MINE)


def test_a_store_that_two_keys_had_opens_with_the_newest_alone(path: Path) -> None:
    create(path, some(12)).close()
    old: dict[bytes | None, bytes] = {}
    keys = [None, MINE, ANOTHER, None, MINE]
    for key, new in pairwise(keys):
        with opened(path, key=key) as erase:
            old[key] = (path / KEYS).read_bytes()
            erase.rekey(new)
        assert [file.name for file in path.glob(f"{KEYS}*")] == [KEYS]
        refused(lambda: opened(path, key=key), KeyFileError)  # noqa: B023
        with opened(path, key=new) as erase:
            assert seen(erase) == fresh(some(12))
    with opened(path, key=MINE) as erase:
        erase.forget(3)
        today = (path / KEYS).read_bytes()
    # Whoever has an older key file needs its key; with both it is an old key file, put back.
    (path / KEYS).write_bytes(old[ANOTHER])
    for key in (None, MINE):
        check_refused_to_open(path, key=key)
    with opened(path, key=ANOTHER) as erase:
        assert seen(erase) == fresh(LEFT)
        assert not any(key_of(path / DATABASE, 3))
    (path / KEYS).write_bytes(today)
    with opened(path, key=MINE) as erase:
        assert seen(erase) == fresh(LEFT)


# ---- rekey, and others ----
def test_other_handles_have_to_be_opened_again_after_a_rekey(closed: Path, other: Elsewhere) -> None:
    """They would read keys under the old key, and write them to a deleted file."""
    erase, here = opened(closed), opened(closed)
    other("open", closed)
    other("text")
    erase.rekey(MINE)
    for call in (
        here.examples,
        lambda: here.prompt(QUERIES[0]),
        lambda: here.forget(1),
        lambda: here.ingest(some(1, 50)),
    ):
        refused(call, KeyFileError, "was replaced", "Open it again")
    for method, args in (("examples", ()), ("text", ()), ("forget", (1,)), ("ingest", (some(1, 50),))):
        refused(partial(other, method, *args), KeyFileError, "was replaced", "Open it again")
    refused(erase.examples, StoreError, "has been closed")
    with opened(closed, key=MINE) as erase:
        assert seen(erase) == fresh(LEFT)


def test_a_read_that_a_rekey_overtakes_says_so(closed: Path) -> None:
    erase, here = opened(closed), opened(closed)

    def read_slowly(reads: Any) -> Any:
        erase.rekey(MINE)
        return reads.all_examples()

    refused(lambda: parts_of(here).read(read_slowly), KeyFileError, "was replaced")
    with opened(closed, key=MINE) as again:
        assert seen(again) == fresh(LEFT)


def test_a_rekey_waits_for_nobody_who_writes(closed: Path, other: Elsewhere) -> None:
    other("open", closed)
    other("begin_write")
    with reopened(closed) as erase:
        files = contents(closed)[KEYS]
        refused(lambda: erase.rekey(MINE), StoreLockedError, "is writing")
        assert contents(closed)[KEYS] == files
        other("end_write")
        erase.rekey(MINE)
    with opened(closed, key=MINE) as erase:
        assert seen(erase) == fresh(LEFT)


class Crash(BaseException):
    """The process ends here."""


STEPS = ["open", "fsync", "link", "replace", "sync_folder", "discard"]


def failing(patch: pytest.MonkeyPatch, step: str, error: BaseException, *, after: bool) -> None:
    """Let a step of `rekey` fail, before it has happened or after."""
    owner: Any = key_file if step in ("sync_folder", "discard") else os
    real = getattr(owner, step)

    def fail(*args: Any, **options: Any) -> Any:
        if step == "open" and not (isinstance(args[0], str) and ".partial-" in args[0]):
            return real(*args, **options)
        if after:
            real(*args, **options)
        raise error

    patch.setattr(owner, step, fail)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), Crash()], ids=["full", "killed"])
@pytest.mark.parametrize("step", STEPS)
def test_a_rekey_that_ends_early_leaves_the_old_key_or_the_new_one(
    closed: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException, after: bool
) -> None:
    """What is reported is which of both: ScrubError and UncertainError after the change, StoreError before."""
    erase = opened(closed)
    with monkeypatch.context() as patch:
        failing(patch, step, error, after=after)
        if isinstance(error, Crash):
            # Nothing is tidied up by a process that is killed.
            patch.setattr(Path, "unlink", lambda *args, **options: None)
        with pytest.raises((StoreError, Crash)) as caught:
            erase.rekey(MINE)
    changed = (closed / KEYS).read_bytes()[10] == 1
    if not isinstance(error, Crash):
        assert type(caught.value) is ((ScrubError if step == "discard" else UncertainError) if changed else StoreError)
        assert changed or "the key was not changed" in str(caught.value)
        assert changed == (step in ("sync_folder", "discard") or (step == "replace" and after))
        if not changed:
            assert seen(erase) == fresh(LEFT)
    erase.close()
    with opened(closed, key=MINE if changed else None) as erase:
        assert seen(erase) == fresh(LEFT)
        assert [file.name for file in closed.glob(f"{KEYS}*")] == [KEYS]
        erase.rekey(ANOTHER)
    with opened(closed, key=ANOTHER) as erase:
        assert seen(erase) == fresh(LEFT)


# ---- a disk that is full or fails ----
class Disk:
    """A disk on which the n-th write to the key file fails, after a part of it, and all that follow."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, part: int, number: int = errno.ENOSPC) -> None:
        self.calls, self.at, self.part, self.error = 0, at, part, OSError(number, os.strerror(number))
        self.pwrite, self.fdatasync = os.pwrite, os.fdatasync
        patch.setattr(os, "pwrite", self._write)
        patch.setattr(os, "fdatasync", self._sync)

    def _fails(self) -> bool:
        self.calls += 1
        return self.calls > self.at

    def _write(self, descriptor: int, content: Any, offset: int) -> int:
        if self._fails():
            self.pwrite(descriptor, bytes(content)[: self.part], offset)
            raise self.error
        return self.pwrite(descriptor, content, offset)

    def _sync(self, descriptor: int) -> None:
        if self._fails():
            raise self.error
        self.fdatasync(descriptor)


@pytest.mark.parametrize("part", [0, 5, 32, 70])
@pytest.mark.parametrize("at", [0, 1])
def test_an_ingest_whose_keys_find_no_room_changes_nothing(
    closed: Path, monkeypatch: pytest.MonkeyPatch, at: int, part: int
) -> None:
    erase = opened(closed)
    with monkeypatch.context() as patch:
        Disk(patch, at, part)
        refused(
            lambda: erase.ingest(some(3, 50)), StoreError, str(closed / KEYS), "No space left", "nothing was changed"
        )
        assert erase.examples() == LEFT
        assert erase.verify().ok
        with reopened(closed) as again:
            assert again.examples() == LEFT
    # The next ingest overwrites what could not be overwritten then, since the disk did not take that either.
    erase.ingest(some(3, 50))
    assert seen(erase) == seen_anew(closed) == fresh([*LEFT, *some(3, 50)])
    erase.close()
    with opened(closed) as erase:
        assert seen(erase) == fresh([*LEFT, *some(3, 50)])
        with parts_of(erase).store.reading() as reads:
            assert reads.used_slots().tolist() == reads.taken_slots().tolist()


def test_an_ingest_that_the_database_does_not_take_leaves_no_key(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk was full between the keys and the commit that needs them."""
    keys = (closed / KEYS).read_bytes()
    with opened(closed) as erase:
        with monkeypatch.context() as patch:

            def full(*args: Any) -> None:
                raise StoreError("database or disk is full; nothing was changed")

            patch.setattr(type(parts_of(erase).store._db), "_commit", full)
            refused(lambda: erase.ingest(some(3, 50)), StoreError, "nothing was changed")
        assert (closed / KEYS).read_bytes() == keys + bytes(3 * KEY_BYTES)
        assert seen(erase) == seen_anew(closed) == fresh(LEFT)
        erase.ingest(some(3, 50))
        assert seen(erase) == fresh([*LEFT, *some(3, 50)])


def test_the_keys_of_an_ingest_that_may_count_are_kept_until_it_is_known(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit failed: with it the keys would be needed. The next write knows, and so does the next `open`."""
    with opened(closed) as erase:
        commit = type(parts_of(erase).store._db)._commit

        def fail(db: Any, *, counts: bool) -> None:
            if counts:
                commit(db)
            raise UncertainError("the disk failed")

        for counts, left in ((False, LEFT), (True, [*LEFT, *some(3, 50)])):
            keys = (closed / KEYS).read_bytes()
            with monkeypatch.context() as patch:
                patch.setattr(type(parts_of(erase).store._db), "_commit", partialmethod(fail, counts=counts))
                refused(lambda: erase.ingest(some(3, 50)), UncertainError)
            assert len((closed / KEYS).read_bytes().rstrip(b"\0")) > len(keys)
            assert seen(erase) == seen_anew(closed) == fresh(left)
        erase.ingest(some(1, 60))
        with parts_of(erase).store.reading() as reads:
            assert reads.used_slots().tolist() == reads.taken_slots().tolist()
        assert seen(erase) == seen_anew(closed) == fresh([*LEFT, *some(3, 50), *some(1, 60)])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("at", [0, 1])
def test_a_removal_whose_keys_cannot_be_overwritten_says_so_until_they_are(
    closed: Path, monkeypatch: pytest.MonkeyPatch, at: int, number: int
) -> None:
    erase = opened(closed)
    kept = [each for each in LEFT if each.id not in (1, 2)]
    with monkeypatch.context() as patch:
        Disk(patch, at, 0, number)
        with pytest.raises(ScrubError, match="the removal is done") as caught:
            erase.forget([1, 2])
        assert caught.value.report.ids == [1, 2]
        assert str(closed / KEYS) in str(caught.value)
        assert os.strerror(number) in str(caught.value)
        assert erase.examples() == kept
        assert [receipt.number for receipt in erase.receipts()] == [1]
        # If only the sync failed, the keys are overwritten as far as anybody can see.
        assert erase.status().scrubbed is False
        with pytest.warns(ScrubWarning, match="the removal is done"):
            opened(closed).close()
    erase.close()
    with opened(closed) as erase:
        assert seen(erase) == fresh(kept)
        assert not any(key_of(closed / DATABASE, 1) + key_of(closed / DATABASE, 2))
        assert erase.receipts()[-1] == caught.value.report.receipt


# ---- two at once ----
def test_two_processes_that_forget_at_once_forget_all_and_no_more(path: Path, other: Elsewhere) -> None:
    with create(path, some(60), receipts=path.with_name("receipts")) as erase:
        other("open", path)
        errors: list[BaseException] = []

        def forget(call: Callable[[int], object], ids: range) -> None:
            try:
                for id_ in ids:
                    call(id_)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=forget, args=(partial(other, "forget"), range(0, 40, 2)))
        thread.start()
        forget(erase.forget, range(1, 40, 2))
        thread.join()
        assert errors == []
        assert len(erase.receipts()) == 40
        assert not any(any(key_of(path / DATABASE, slot)) for slot in range(40))
        assert seen(erase) == seen_anew(path) == fresh(some(20, 40))
        assert other("verify").ok


def test_two_processes_that_forget_the_same_do_it_once(path: Path, other: Elsewhere) -> None:
    with create(path, some(20)) as erase:
        other("open", path)
        done: list[str] = []

        def forget(name: str, call: Callable[[int], object]) -> None:
            for id_ in range(10):
                try:
                    call(id_)
                    done.append(name)
                except UnknownIdError:
                    pass

        thread = threading.Thread(target=forget, args=("there", partial(other, "forget")))
        thread.start()
        forget("here", erase.forget)
        thread.join()
        assert len(done) == len(erase.receipts()) == 10
        assert seen(erase) == seen_anew(path) == fresh(some(10, 10))
