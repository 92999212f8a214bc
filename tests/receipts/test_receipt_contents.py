"""What a receipt says: of rows and model the truth, and of nobody anything.

The truth is what stands in the SQLite file before the removal, read past the product, and receipts_by_hand.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import ROOT
from erase_core import commitments
from erase_core.examples.example import Example
from erase_core.receipts.receipt import Receipt
from receipts_by_hand import Row, fact, lthash, model_commitment, rows_of, secret_in, token
from small_stores import contents, create, example, some

DATABASE = "examples.sqlite"


# ---- what it says ----
REMOVALS: dict[str, dict[str, Any]] = {
    "one": {"ids": 5},
    "several": {"ids": [1, 2, 7]},
    "subject": {"subject": "bob"},
    "all": {"ids": range(12)},
}


@pytest.mark.parametrize("name", REMOVALS)
def test_rows_and_model_are_those_of_the_file_by_hand(path: Path, name: str) -> None:
    examples = [replace(each, rationale="so" if hash(each.id) % 2 else None) for each in some(12)]
    with create(path, examples) as erase:
        file = path / DATABASE
        before, model_before = rows_of(file), model_commitment(file, erase.status().digest)
        receipt = erase.forget(**REMOVALS[name]).receipt
        after = rows_of(file)
        assert receipt is not None
        gone = {id_: row for id_, row in before.items() if id_ not in after}
        assert {row.hash_with(row.salt).hex() for row in gone.values()} == set(receipt.rows)
        assert (receipt.n_before, receipt.n_after) == (len(before), len(after)) == (12, 12 - len(gone))
        assert receipt.commitment_before == lthash(row.hash_with(row.salt) for row in before.values())
        assert receipt.commitment_after == lthash(row.hash_with(row.salt) for row in after.values())
        assert (receipt.model_before, receipt.model_after) == (
            model_before,
            model_commitment(file, erase.status().digest),
        )
        assert receipt.is_balanced
        key = fact(file, "key")
        tokens = set().union(*(row.tokens(key) for row in gone.values()))
        assert set(receipt.tokens) == tokens | ({token(key, "subject", "bob")} if name == "subject" else set())
        assert erase.receipts() == [receipt] == [Receipt.from_bytes(contents(path)["receipts/00000001.json"])]
        assert (receipt.store, receipt.scope) == (fact(file, "store"), "subject" if name == "subject" else "ids")


def test_the_page_gives_the_values_of_its_examples() -> None:
    """By hand and by the product, so that whoever writes a verifier can begin with them."""
    page = (ROOT / "docs" / "receipts.md").read_text()
    secret, vector = bytes(range(32)), np.array([1, -0.5], dtype=np.float32)
    row = Row(7, "a", "ö", None, "c", vector.tobytes(), secret, b"", b"", b"", 0)
    hash_ = commitments.row_hash(Example(*row[:5]), vector, secret)
    both = commitments.plus(commitments.EMPTY, [hash_, hash_])
    model = commitments.model_commitment("0" * 64, secret)
    assert row.hash_with(secret) == hash_
    assert lthash([hash_, hash_]) == base64.b64encode(both).decode()
    assert token(secret, "id", "7") == commitments.Tokens(secret).of_id(7).hex()
    for value in (hash_.hex(), hashlib.sha256(both).hexdigest(), token(secret, "id", "7"), model):
        assert f"`{value}`" in page
    for each in fields(Receipt):
        assert f"`{each.name}`" in page


def test_salts_and_hashes_are_gone_with_the_rows(path: Path) -> None:
    """So that nobody can test a guess, by the files, against a receipt. A row's salt comes of its key.

    The secret of the model goes too: with the digest of all other rows and a guess, it would confirm the guess.
    """
    with create(path, some(12)) as erase:
        file = path / DATABASE
        before, secret_of_model = rows_of(file), secret_in(file)
        secrets = [before[id_].key for id_ in (1, 2)] + [secret_of_model]
        assert all(any(secret in content for content in contents(path).values()) for secret in secrets)
        erase.forget([1, 2])
        second_secret = secret_in(file)
        erase.forget(4)
    files = contents(path)
    for secret in [*secrets, before[4].key, second_secret, *(before[id_].salt for id_ in (1, 2, 4))]:
        forms = (secret, secret.hex().encode(), base64.b64encode(secret))
        assert not [name for name, content in files.items() if any(form in content for form in forms)]
    assert len({row.salt for row in before.values()}) == 12


def test_a_row_that_was_forged_is_told(path: Path) -> None:
    """By somebody who has its key, with a hash that fits: by the commitment to all rows, which is in the receipt."""
    with create(path, some(12)) as erase:
        erase.forget(1)
        row = rows_of(path / DATABASE)[5]._replace(output="forged")
        db = sqlite3.connect(path / DATABASE)
        with db:
            forged = (row.texts_sealed_by(fact(path / DATABASE, "store")), row.hash_with(row.salt), row.slot)
            db.execute("UPDATE examples SET texts = ?, hash = ? WHERE slot = ?", forged)
        assert "the examples do not match" in str(erase.verify())
        with db:
            whole = base64.b64decode(lthash(each.hash for each in rows_of(path / DATABASE).values()))
            db.execute("UPDATE state SET commitment = ?", (whole,))
        db.close()
        assert [each.output for each in erase.examples() if each.id == 5] == ["forged"]
        assert "do not match the commitments in the newest receipt" in str(erase.verify())


# ---- whom it tells of ----
def unsalted(text: str) -> dict[str, bytes]:
    """A text, and what anybody can compute from it, as far as it could stand in a receipt."""
    forms = {"plain": text.encode(), "JSON": json.dumps(text)[1:-1].encode(), "hex": text.encode().hex().encode()}
    for content in (text.encode(), text.casefold().encode(), json.dumps(text).encode()):
        for name in sorted(hashlib.algorithms_guaranteed - {"shake_128", "shake_256"}):
            digest = hashlib.new(name, content).digest()
            # A part of it would be enough to test a guess.
            forms[f"{name} of {content!r}, hex"] = digest.hex()[:12].encode()
            forms[f"{name} of {content!r}, base64"] = base64.b64encode(digest)[:10]
    return forms


def tells(file: bytes, text: str) -> list[str]:
    return [name for name, form in unsalted(text).items() if form in file]


def test_a_receipt_tells_of_nobody(path: Path) -> None:
    ann = Example("customer-4711", "My parcel went to Zürich", "Ann's street 5", "because", "Ann Somebody")
    bob = Example("customer-1", "Bob's parcel", "his house", "why not", "Bob Somebody")
    with create(path, [ann, bob, *(example(f"id {i}") for i in range(5))]) as erase:
        rows = rows_of(path / DATABASE)
        erase.forget(subject="Ann Somebody")
        erase.forget("customer-1")
    files = contents(path / "receipts").values()
    for each in (ann, bob):
        values = [str(value) for value in astuple(each)]
        # The hash of a row too, with a salt that anybody could try.
        guesses = [rows[str(each.id)].hash_with(salt).hex() for salt in (b"", bytes(32))]
        for text in [*values, "\n".join(values), ",".join(values), json.dumps(values), *guesses]:
            assert [tells(file, text) for file in files] == [[], []]
    file = next(iter(files))
    assert tells(file.replace(b"ids", b"customer-4711").replace(b"subject", b"customer-4711"), "customer-4711")
    assert tells(file + hashlib.sha256(b"Bob's parcel").hexdigest().encode(), "Bob's parcel")


def test_equal_removals_of_equal_stores_have_nothing_in_common(path: Path) -> None:
    told: list[Receipt] = []
    for name in ("a", "b"):
        with create(path / name, some(12)) as erase:
            erase.forget([1, 2])
            told += erase.receipts()
    one, other = told
    assert not set(one.rows + one.tokens) & set(other.rows + other.tokens)
    for name in ("store", "commitment_before", "commitment_after", "model_before", "model_after"):
        assert getattr(one, name) != getattr(other, name)
