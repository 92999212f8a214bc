"""Old copies of a store whose receipts are not as they should be: an error names the receipt, and nothing is removed.

What a copy knows ends with receipt 2; receipts 3 to 5 are those that it has to catch up with.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from erase_core.erase import Erase
from erase_core.errors import EraseError, ReceiptError
from old_copies import DATABASE, LAST, History, carry_out, head, opened
from receipts_by_hand import Fields, Keys, linked, new_keys, rows_of, sealed, signed
from small_stores import WordEmbedder, contents, create, refused, reopened, some


@pytest.fixture
def history(path: Path) -> History:
    return carry_out(path, path.with_name("receipts"))


def told(history: History, number: int) -> Fields:
    fields: Fields = json.loads(history.file(number).read_bytes())
    return fields


def exchange(history: History) -> None:
    three, four = history.file(3).read_bytes(), history.file(4).read_bytes()
    history.file(3).write_bytes(four)
    history.file(4).write_bytes(three)


def rewrite(history: History, number: int, keys: Keys | None = None, **changes: Any) -> None:
    """Change a receipt, and all that follow so that they fit."""
    receipts = [told(history, each) for each in range(1, LAST + 1)]
    receipts[number - 1] |= changes
    for each, content in enumerate(linked(receipts, [keys] * LAST), start=1):
        if each >= number:
            history.file(each).write_bytes(content)


def another_stores(history: History, *numbers: int) -> None:
    """Put receipts of another store in place of some."""
    other = history.store.with_name("another")
    with create(other / "store", some(12), receipts=other / "receipts") as erase:
        for number in range(LAST):
            erase.forget(number)
    for number in numbers:
        shutil.copy(other / "receipts" / history.file(number).name, history.file(number))


def damage_byte(history: History, number: int) -> None:
    content = history.file(number).read_bytes()
    history.file(number).write_bytes(content[:3000] + bytes([content[3000] ^ 1]) + content[3001:])


def make_file(history: History) -> None:
    shutil.rmtree(history.receipts)
    history.receipts.write_text("")


def make_folder(history: History, number: int) -> None:
    history.file(number).unlink()
    history.file(number).mkdir()


# What is done to the receipts, and which of them the error names.
DAMAGE: dict[str, tuple[Callable[[History], object], str]] = {
    "the folder is not there": (lambda h: shutil.rmtree(h.receipts), "receipts"),
    "the folder is a file": (make_file, "receipts"),
    "the next is missing": (lambda h: h.file(3).unlink(), "00000003.json"),
    "one is missing": (lambda h: h.file(4).unlink(), "00000004.json"),
    "two are exchanged": (exchange, "00000003.json"),
    "one stands there twice": (lambda h: shutil.copy(h.file(1), h.file(4)), "00000004.json"),
    "one is another store's": (lambda h: another_stores(h, 4), "00000004.json"),
    "all are another store's": (lambda h: another_stores(h, 1, 2, 3, 4, 5), "00000002.json"),
    "all to come are another store's": (lambda h: another_stores(h, 3, 4, 5), "00000003.json"),
    "one was changed": (lambda h: damage_byte(h, 4), "00000004.json"),
    "the newest was changed": (lambda h: damage_byte(h, 5), "00000005.json"),
    "the known one was changed": (lambda h: damage_byte(h, 2), "00000002.json"),
    "the known one was rewritten": (lambda h: rewrite(h, 2, time="2020-01-01T00:00:00Z"), "00000002.json"),
    "one was rewritten": (
        lambda h: h.file(3).write_bytes(sealed({**told(h, 3), "time": "2020-01-01T00:00:00Z"})),
        "00000004.json",
    ),
    "one tells another store's name": (lambda h: rewrite(h, 3, store="f" * 32), "00000003.json"),
    "one is empty": (lambda h: h.file(5).write_bytes(b""), "00000005.json"),
    "one is a folder": (lambda h: make_folder(h, 5), "00000005.json"),
    "one far away": (lambda h: shutil.copy(h.file(5), h.file(999_999)), "00000006.json"),
}


def verified(erase: Erase) -> bool:
    try:
        return erase.verify().ok
    except EraseError:
        return False


@pytest.mark.parametrize("damage", DAMAGE)
def test_receipts_that_are_not_as_they_should_be_are_named(history: History, damage: str) -> None:
    copy = history.copies[3]
    reopened(copy).close()  # so that everything is in the one file
    assert head(copy) == 2
    change, name = DAMAGE[damage]
    change(history)
    files = contents(copy)
    refused(lambda: opened(copy, old=False), ReceiptError, name)
    assert contents(copy) == files
    with reopened(copy) as erase:
        assert len(erase.examples()) == len(rows_of(copy / DATABASE))
        assert not verified(erase)
    assert contents(copy) == files


def test_a_damaged_receipt_from_before_is_told_by_verify(history: History) -> None:
    """What it told of has been done; so the copy catches up."""
    damage_byte(history, 1)
    with opened(history.copies[3], old=True) as erase:
        assert "receipt 1 is tampered" in str(erase.verify())


@pytest.mark.parametrize("forger", ["nobody", "another"])
def test_a_signed_store_is_emptied_by_nobody_without_the_key(path: Path, forger: str) -> None:
    """Whoever can write to the folder of the receipts, and read the store, can write all but the signature."""
    keys, others = new_keys(path.parent), new_keys(path.parent, "others")
    receipts = path.with_name("receipts")
    with create(path, some(12), receipts=receipts, signing_key=keys.private) as erase:
        erase.forget(1)
        before = erase.examples()
        hashes = sorted(row.hash.hex() for row in rows_of(path / DATABASE).values())
    newest: Fields = json.loads((receipts / "00000001.json").read_bytes())
    forged = {name: value for name, value in newest.items() if name != "hash"}
    forged |= {"number": 2, "previous": newest["hash"], "rows": hashes, "n_before": len(hashes), "n_after": 0}
    forged |= {"commitment_before": newest["commitment_after"], "commitment_after": "A" * 2731 + "="}
    (receipts / "00000002.json").write_bytes(sealed(signed(forged, others if forger == "another" else None)))
    for key in (None, keys.private):
        refused(lambda key=key: opened(path, old=False, signing_key=key), ReceiptError, "00000002.json")  # type: ignore[misc]
        with reopened(path) as erase:
            assert erase.examples() == before
    (receipts / "00000002.json").write_bytes(sealed(signed(forged, keys)))
    with opened(path, old=True) as erase:
        assert erase.examples() == []
        assert erase.verify().ok


def test_a_copy_from_before_keys_were_changed_catches_up_by_a_public_key(path: Path) -> None:
    """Twice changed, so that it knows the first key alone."""
    keys = [new_keys(path.parent, name) for name in ("first", "second", "third")]
    receipts = path.with_name("receipts")
    create(path, some(12), receipts=receipts).close()
    for number, key in enumerate(keys):
        with Erase.open(path, embedder=WordEmbedder(), signing_key=key.private) as erase:
            erase.forget(number)
            kept = erase.examples()
        if number == 0:
            copy = Path(shutil.copytree(path, path.with_name("copy")))
    shutil.rmtree(path)
    for named in ((), keys[0].public, [keys[0].public, keys[1].public]):
        refused(lambda named=named: opened(copy, public_keys=named), ReceiptError, "public_keys", "--public-key")  # type: ignore[misc]
    with opened(copy, old=True, public_keys=[key.public for key in keys]) as erase:
        assert erase.examples() == kept
        assert erase.verify().ok


def test_a_signed_copy_catches_up_without_the_key(path: Path) -> None:
    keys = new_keys(path.parent)
    history = carry_out(path, path.with_name("receipts"), keys.private)
    for copy in history.copies[:3]:
        with opened(copy, old=True) as erase:
            assert erase.verify().ok
            assert {receipt.public_key for receipt in erase.receipts()} == {keys.public}
