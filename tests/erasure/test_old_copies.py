"""Old copies of a store, put back: what was removed since is removed again, whatever of the copy was put back, and how.

The state after `open` is that of a new store of the copy's rows without all that was ever removed.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from erase_core import verify_receipts
from erase_core.erase import Erase
from erase_core.erasure.receipt_checks import StoreReceipts
from erase_core.erasure.recovery import Recovery
from erase_core.erasure.removal import Removals
from erase_core.errors import EraseError, ForgottenError, KeyFileError, OldCopyWarning, ReceiptError, StoreError
from erase_core.store.clustering import Clustering
from erase_core.store.key_file import HEAD_BYTES, KEY_BYTES, KeyFile
from erase_core.store.reads import Reads
from erase_core.store.store import Store
from erase_core.store.transaction import WriteTransaction
from old_copies import (
    DATABASE,
    KEYS,
    LAST,
    LOG,
    POINTS,
    WAYS,
    History,
    carry_out,
    head,
    keys_of,
    left,
    opened,
    put_back,
    residue,
)
from receipts_by_hand import rows_of
from small_stores import (
    Elsewhere,
    WordEmbedder,
    check_refused,
    contents,
    create,
    example,
    fresh,
    new_path,
    parts_of,
    refused,
    reopened,
    seen,
    seen_anew,
    some,
    without_id,
)


@pytest.fixture(scope="module", params=["receipts outside", "receipts inside"])
def history(request: pytest.FixtureRequest) -> Iterator[History]:
    """Not to be changed."""
    with new_path() as path:
        yield carry_out(path, path.with_name("receipts") if request.param == "receipts outside" else None)


@pytest.fixture
def outside(path: Path) -> History:
    """With receipts outside, and one's own."""
    return carry_out(path, path.with_name("receipts"))


# ---- the law ----
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("point", POINTS)
def test_what_was_removed_since_is_removed_again(history: History, path: Path, point: int, way: str) -> None:
    receipts = put_back(history, point, way, path)
    kept, gone = left(history, path)
    old = head(path) < LAST
    with reopened(path) as erase:  # which does not go on with anything
        if old:
            assert "a copy from before a removal" in said_by(erase.verify)
        else:
            assert erase.verify().ok
    with opened(path, old=old, receipts=receipts) as erase:
        assert seen(erase) == seen_anew(path) == fresh(kept)
        for each in gone:
            if each.id not in {one.id for one in kept}:
                refused(lambda each=each: erase.ingest([each]), ForgottenError)  # type: ignore[misc]
        status = erase.status()
        assert (status.n_receipts, status.scrubbed) == (LAST, True)
        assert verify_receipts(receipts, head=(LAST, erase.receipts()[-1].hash)).ok
        assert residue(history, path) == []
        assert sum(map(any, slots_in(path))) == len(kept)
    with opened(path, old=False, receipts=receipts) as erase:  # once is enough
        erase.ingest([example(999)])
        erase.forget(999)
        assert seen(erase) == fresh(kept)


def said_by(verify: Callable[[], object]) -> str:
    """What verify finds, or why it cannot look."""
    try:
        return str(verify())
    except StoreError as error:
        return str(error)


def slots_in(path: Path) -> list[bytes]:
    """The slots of a key file."""
    content = (path / KEYS).read_bytes()[HEAD_BYTES:]
    return [content[start : start + KEY_BYTES] for start in range(0, len(content), KEY_BYTES)]


def test_the_residue_that_is_looked_for_can_be_found(history: History) -> None:
    assert residue(history, history.copies[0]) == [KEYS]


def test_a_whole_folder_with_receipts_inside_tells_nothing(path: Path) -> None:
    """Which `verify` says of every such store."""
    history = carry_out(path)
    for copy in history.copies:
        with opened(copy, old=False) as erase:
            verification = erase.verify()
            assert verification.ok
            assert not verification.detects_old_copies
            assert [each.id for each in erase.examples()] == sorted(rows_of(copy / DATABASE))
    with create(path.with_name("other"), receipts=path.with_name("receipts")) as erase:
        assert erase.verify().detects_old_copies


def test_receipts_that_were_moved_are_named(outside: History) -> None:
    moved = outside.receipts.rename(outside.receipts.with_name("moved"))
    copy = outside.copies[2]
    refused(lambda: opened(copy, old=False), ReceiptError, str(outside.receipts), "--receipts")
    kept, _ = left(outside, copy)
    with opened(copy, old=True, receipts=moved) as erase:
        assert erase.examples() == kept
        verification = erase.verify()
        assert verification.ok
        assert verification.detects_old_copies


def test_an_old_copy_forgets_nothing_before_it_has_caught_up(outside: History) -> None:
    """A handle from before the receipts came: its removal would be a second one of the same number."""
    with reopened(outside.copies[2]) as erase:
        refused(lambda: erase.forget(5), ReceiptError, "older than its receipts", "nothing was forgotten")
    with opened(outside.copies[2], old=True) as erase:
        assert erase.verify().ok


def test_a_removal_of_what_a_copy_never_had_changes_nothing_in_it(path: Path) -> None:
    with create(path, some(12), receipts=path.with_name("receipts")) as erase:
        erase.forget(1)
        copy = Path(shutil.copytree(path, path.with_name("copy")))
        expected = seen(erase)
        erase.ingest([example(50)])
        erase.forget(50)
    with opened(copy, old=True) as erase:
        assert seen(erase) == seen_anew(copy) == expected
        erase.forget(2)
        assert erase.verify().ok


def test_what_a_copy_never_had_is_refused_by_it_too(path: Path) -> None:
    """What came in after the copy was made, and was removed: by its id, its subject, or what it says."""
    receipts = path.with_name("receipts")
    with create(path, some(12), receipts=receipts) as erase:
        copy = Path(shutil.copytree(path, path.with_name("copy")))
        erase.ingest([example(50), example(51, subject="dan"), example(52, "said once")])
        erase.forget([50, 52])
        erase.forget(subject="dan")
    with opened(copy, old=True) as erase:
        unnumbered = without_id(example(52, "said once"))
        for each in (example(50, "another"), example(99, subject="dan"), unnumbered):
            check_refused(erase, lambda each=each: erase.ingest([each]), ForgottenError)  # type: ignore[misc]
        assert seen(erase) == fresh(some(12))


def test_a_copy_from_before_its_receipt_was_published_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the receipt itself; whether the folder has it too or not."""
    receipts = path.with_name("receipts")
    with create(path, some(12), receipts=receipts) as erase:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "destroy", crash)
            with pytest.raises(Crash):
                erase.forget(subject="ann")
        copies = [Path(shutil.copytree(path, path.with_name(name))) for name in ("one", "other")]
        shutil.copytree(receipts, aside := path.with_name("none yet"))
    with opened(path, old=False) as erase:
        erase.forget(subject="bob")
        told = erase.receipts()
        expected = seen(erase)
    with opened(copies[0], old=True) as erase:
        assert seen(erase) == expected
        assert erase.receipts() == told
    with opened(copies[1], old=False, receipts=aside) as erase:
        assert erase.verify().ok
        assert erase.receipts() == told[:1]


def test_a_log_of_another_time_never_brings_back_what_was_removed(outside: History) -> None:
    """A database put back where another day's log was left: SQLite mixes them. An error says so, or all is well."""
    told = 0
    logs = [copy / LOG for copy in outside.copies if (copy / LOG).exists() and (copy / LOG).stat().st_size]
    for copy, log in product(outside.copies, logs):
        for keys in (copy / KEYS, log.with_name(KEYS), outside.store / KEYS):
            with new_path() as mixed:
                mixed.mkdir()
                for file in (copy / DATABASE, log, keys):
                    shutil.copy(file, mixed)
                try:
                    with opened(mixed) as erase:
                        ok = erase.verify().ok
                    assert not ok or not keys_of(mixed).keys() & outside.removed.keys()
                    told += not ok
                except EraseError:
                    told += 1
    assert told > 0


# ---- a half of a copy ----
def database_of(store: Path, copy: Path) -> None:
    """Put the SQLite file of a copy back, with its log or without one."""
    for name in (DATABASE, LOG):
        (store / name).unlink(missing_ok=True)
        if (copy / name).exists():
            shutil.copy(copy / name, store / name)
    (store / f"{DATABASE}-shm").unlink(missing_ok=True)


@pytest.mark.parametrize("place", ["outside", "inside"])
def test_an_old_database_beside_the_keys_of_today_loses_only_what_came_in_since(path: Path, place: str) -> None:
    """The receipts of today are there, wherever: what was forgotten since goes, though it cannot be opened."""
    receipts = path.with_name("receipts") if place == "outside" else None
    with create(path, some(12), receipts=receipts) as erase:
        copy = Path(shutil.copytree(path, path.with_name("copy")))
        erase.ingest(some(2, 52))
        erase.forget(1)
        erase.forget(subject="bob")
    database_of(path, copy)
    kept = [each for each in some(12) if each.id != 1 and each.subject != "bob"]
    with pytest.warns(
        OldCopyWarning, match=r"4 examples .* removed again; 2 examples that were ingested since are lost"
    ):
        Erase.open(path, embedder=WordEmbedder(), receipts=receipts).close()
    with opened(path, old=False) as erase:
        assert seen(erase) == seen_anew(path) == fresh(kept)
        assert sum(map(any, slots_in(path))) == len(kept)
        erase.ingest(some(2, 52))
        assert seen(erase) == fresh([*kept, *some(2, 52)])


def test_an_old_database_whose_removals_no_receipt_knows_is_refused_and_left_alone(path: Path) -> None:
    """The receipts are those of the copy, too: what was forgotten since has no key, and nobody says that it may go."""
    with create(path, some(12)) as erase:
        erase.forget(1)
        copy = Path(shutil.copytree(path, path.with_name("copy")))
        erase.forget([2, 5])
        erase.ingest(some(2, 50))
        after = seen(erase)
    today = Path(shutil.copytree(path, path.with_name("today")))
    database_of(path, copy)
    shutil.rmtree(path / "receipts")
    shutil.copytree(copy / "receipts", path / "receipts")
    keys = contents(path)[KEYS]
    with opened(path, old=False) as erase:
        for call in (erase.examples, erase.verify, lambda: erase.prompt("late"), lambda: erase.ingest(some(1, 70))):
            refused(call, StoreError, "examples whose keys are not in", "newest copies of both", "forget these")
        refused(lambda: erase.forget(7), StoreError, "2 examples not named here", "nothing was forgotten")
    assert contents(path)[KEYS] == keys
    # With the newest of both, all is there: what came in since the copy, too.
    database_of(path, today)
    shutil.rmtree(path / "receipts")
    shutil.copytree(today / "receipts", path / "receipts")
    with opened(path, old=False) as erase:
        assert seen(erase) == after
    # Or, if there is no newer one, they are forgotten by their ids.
    database_of(path, copy)
    shutil.rmtree(path / "receipts")
    shutil.copytree(copy / "receipts", path / "receipts")
    with opened(path, old=False) as erase:
        assert sorted(erase.forget([5, 2]).ids) == [2, 5]
        assert seen(erase) == fresh([each for each in some(12) if each.id not in (1, 2, 5)])


@pytest.mark.parametrize("is_changed", [False, True])
def test_the_right_database_can_be_put_back_after_a_wrong_one(path: Path, *, is_changed: bool) -> None:
    """The wrong one has caught up, which overwrote the secret. All examples are there, so the store opens.

    But not if the database was changed: then nothing else says what its examples were.
    """
    with create(path, some(12)) as erase:
        wrong = Path(shutil.copytree(path, path.with_name("wrong")))
        erase.forget([1, 2])
        after = seen(erase)
    right = Path(shutil.copytree(path, path.with_name("right")))
    database_of(path, wrong)
    with pytest.warns(OldCopyWarning, match="2 examples that the receipts list were removed again"):
        Erase.open(path, embedder=WordEmbedder()).close()
    database_of(path, right)
    if is_changed:
        with sqlite3.connect(path / DATABASE) as db:
            db.execute("DELETE FROM examples WHERE slot = 3")
        db.close()
        with opened(path, old=False) as erase:
            refused(erase.status, StoreError, "newest copies of both")
        return
    with pytest.warns(OldCopyWarning, match="0 examples that the receipts list were removed again"):
        Erase.open(path, embedder=WordEmbedder()).close()
    with opened(path, old=False) as erase:
        assert seen(erase) == seen_anew(path) == after
        assert erase.verify().ok
        erase.forget(3)
        assert seen(erase) == fresh([each for each in some(12) if each.id not in (1, 2, 3)])


def test_a_copy_that_catches_up_without_all_keys_opens_so_that_the_others_can_be_forgotten(path: Path) -> None:
    """What came in after a wrong copy lost its keys when that copy was opened, and no receipt says that it may go."""
    with create(path, some(12)) as erase:
        wrong = Path(shutil.copytree(path, path.with_name("wrong")))
        erase.ingest(some(2, 50))
        right = Path(shutil.copytree(path, path.with_name("right")))
        erase.forget(1)
    database_of(path, wrong)
    with pytest.warns(OldCopyWarning, match="2 examples that were ingested since are lost"):
        Erase.open(path, embedder=WordEmbedder()).close()
    database_of(path, right)
    with pytest.warns(OldCopyWarning, match="1 example that the receipts list was removed again"):
        Erase.open(path, embedder=WordEmbedder()).close()
    with opened(path, old=False) as erase:
        refused(erase.verify, StoreError, "examples whose keys are not in", "forget these")
        assert sorted(erase.forget([50, 51]).ids) == [50, 51]
        assert seen(erase) == seen_anew(path) == fresh([each for each in some(12) if each.id != 1])
        assert erase.verify().ok


def test_an_old_key_file_that_is_shorter_is_refused_and_left_alone(path: Path) -> None:
    with create(path, some(12)) as erase:
        old = contents(path)[KEYS]
        erase.ingest(some(2, 50))
        erase.forget(1)
        after = seen(erase)
    today = contents(path)[KEYS]
    (path / KEYS).write_bytes(old)
    files = contents(path)
    refused(lambda: opened(path), KeyFileError, str(path / KEYS), "older than the store", "nothing was changed")
    assert contents(path) == files
    (path / KEYS).write_bytes(today)
    with opened(path, old=False) as erase:
        assert seen(erase) == after


def test_an_old_key_file_has_its_destroyed_keys_destroyed_again(path: Path) -> None:
    with create(path, some(12)) as erase:
        old = contents(path)[KEYS]
        erase.forget([1, 2, 5])
        after = seen(erase)
    today = contents(path)[KEYS]
    assert today != old
    (path / KEYS).write_bytes(old)
    with reopened(path) as erase:
        assert not erase.verify().ok
    with opened(path, old=False) as erase:
        assert contents(path)[KEYS] == today
        assert seen(erase) == after


# ---- several at once ----
def test_a_process_that_is_overtaken_while_it_catches_up_is_content(
    outside: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = outside.copies[2]
    kept, _ = left(outside, copy)
    is_outdated = Recovery._is_outdated

    def overtaken(recovery: Recovery) -> bool:
        result = is_outdated(recovery)
        monkeypatch.setattr(Recovery, "_is_outdated", is_outdated)
        opened(copy, old=True).close()
        return result

    monkeypatch.setattr(Recovery, "_is_outdated", overtaken)
    with opened(copy) as erase:
        assert seen(erase) == fresh(kept)


def test_two_processes_open_an_old_copy_at_once(outside: History) -> None:
    others = [Elsewhere(), Elsewhere()]
    errors: list[BaseException] = []

    def call(other: Elsewhere, copy: Path) -> None:
        try:
            other("open", copy)
        except BaseException as error:
            errors.append(error)

    try:
        for copy in outside.copies[:6]:
            kept, _ = left(outside, copy)
            threads = [threading.Thread(target=call, args=(other, copy)) for other in others]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert errors == []
            text = fresh(kept).prompts[0]
            assert [other("text") for other in others] == [text, text]
            assert all(other("verify").ok for other in others)
            assert seen_anew(copy).examples == kept
    finally:
        for other in others:
            other.end()


# ---- crashes ----
class Crash(BaseException):
    """The process ends here."""


def crash(*args: object) -> None:
    raise Crash


STEPS: dict[str, tuple[type, str]] = {
    "receipts read": (StoreReceipts, "missed"),
    "rows found": (Reads, "slots_matching"),
    "rows deleted": (WriteTransaction, "delete"),
    "what was forgotten noted": (WriteTransaction, "remember"),
    "keys noted": (WriteTransaction, "is_to_finish"),
    "model fitted anew": (Clustering, "refit"),
    "state written": (WriteTransaction, "end"),
    "all committed": (Recovery, "catch_up"),
    "some keys overwritten": (KeyFile, "_write"),
    "keys destroyed": (Store, "destroy"),
    "all noted": (Removals, "finish"),
}


def crashing(whole: Callable[..., Any], at: int) -> Callable[..., Any]:
    """A method after whose n-th call the process ends."""
    calls = 0

    def method(*args: Any, **options: Any) -> Any:
        nonlocal calls
        result = whole(*args, **options)
        calls += 1
        if calls == at:
            raise Crash
        return result

    return method


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_while_an_old_copy_catches_up_leaves_an_old_copy(
    outside: History, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or one that has caught up; `verify` tells which of both."""
    kept, _ = left(outside, outside.copies[2])
    owner, name = STEPS[step]
    for at in range(1, 9):
        with new_path() as copy, monkeypatch.context() as patch:
            shutil.copytree(outside.copies[2], copy)
            patch.setattr(owner, name, crashing(getattr(owner, name), at))
            try:
                opened(copy).close()
            except Crash:
                patch.undo()
            else:
                assert at > 1
                return
            with reopened(copy) as erase:
                finished = erase.status().scrubbed and erase.status().n_receipts == LAST
                assert erase.verify().ok == finished
                assert (erase.examples() == kept) == (erase.status().n_receipts == LAST)
            with opened(copy) as erase:
                assert seen(erase) == seen_anew(copy) == fresh(kept)
                assert erase.status().n_receipts == LAST
                assert residue(outside, copy) == []


def test_an_old_copy_that_cannot_catch_up_is_left_as_it_was(outside: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process writes: it says so, and the next to open it goes on."""
    copy = outside.copies[2]
    kept, gone = left(outside, copy)
    with reopened(copy) as erase, parts_of(erase).store.writing(), pytest.raises(EraseError, match="is writing"):
        opened(copy, timeout=0.05)
    with reopened(copy) as erase:
        assert len(erase.examples()) == len(kept) + len(gone)
    with opened(copy, old=True) as erase:
        assert seen(erase) == fresh(kept)
