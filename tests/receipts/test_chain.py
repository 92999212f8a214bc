"""Receipts in a folder: whoever changes, exchanges, leaves out or rewrites any of them is found out.

A forger here can do whatever does not need the private key: also compute hashes that fit. Where nothing could tell, the
test says so: without a signature and without the newest hash, written down elsewhere, a whole new chain is as good.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from erase_core import ChainVerification, verify_receipts
from erase_core.errors import ParameterError, ReceiptError
from erase_core.receipts.chain import judge_chain
from erase_core.receipts.folder import ReceiptFolder
from erase_core.receipts.receipt import Receipt, ReceiptRef
from receipts_by_hand import Fields, Keys, linked, new_keys, sealed
from small_stores import contents, create, example, new_path, refused, some

REMOVALS: tuple[dict[str, Any], ...] = (
    {"ids": 1},
    {"ids": [4, 8]},
    {"subject": "ann"},
    {"ids": 20},
    {"subject": "bob"},
    {"ids": [0, 3, 7, 11, 21]},
)
LAST = len(REMOVALS)
Head = tuple[int, str]
Kinds = set[tuple[int | None, str]]


class Chain(NamedTuple):
    """A chain of receipts, its newest hash, and who signed it."""

    folder: Path
    head: Head
    keys: Keys | None


def make(path: Path, receipts: Path, keys: Keys | None = None) -> Chain:
    """Remove all examples of a store, step by step."""
    with create(path, some(12), receipts=receipts, signing_key=keys and keys.private) as erase:
        for number, removal in enumerate(REMOVALS):
            if number == 3:
                erase.ingest([example(20), example(21)])
            erase.forget(**removal)
        assert erase.verify().ok
        assert erase.examples() == []
        return Chain(receipts, (LAST, erase.receipts()[-1].hash), keys)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return new_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return new_keys(tmp_path_factory.mktemp("others"))


@pytest.fixture(scope="module", params=["plain", "signed"])
def made(request: pytest.FixtureRequest, keys: Keys) -> Iterator[Chain]:
    with new_path() as path:
        yield make(path / "store", path / "receipts", keys if request.param == "signed" else None)


@pytest.fixture
def chain(made: Chain, path: Path) -> Chain:
    """A chain that may be changed."""
    shutil.copytree(made.folder, path, ignore=shutil.ignore_patterns("STORE"))
    return made._replace(folder=path)


def file(chain: Chain, number: int) -> Path:
    return chain.folder / f"{number:08}.json"


def told(chain: Chain) -> list[Fields]:
    return [json.loads(content) for name, content in contents(chain.folder).items() if name.endswith(".json")]


def write(chain: Chain, files: list[bytes]) -> None:
    for number, content in enumerate(files, start=1):
        file(chain, number).write_bytes(content)


def kinds(verification: ChainVerification) -> Kinds:
    assert verification.ok == (not verification.problems)
    assert str(verification).startswith("verified" if verification.ok else "NOT verified")
    for problem in verification.problems:
        assert f"receipt {problem.number} is {problem.kind}" in str(verification)
    return {(problem.number, problem.kind) for problem in verification.problems}


def judged(chain: Chain, *, head: bool = True, keys: bool = True) -> Kinds:
    """What is found, by whoever knows the newest hash, or the public key, or not."""
    named = [chain.keys.public] if keys and chain.keys else []
    return kinds(verify_receipts(chain.folder, head=chain.head if head else None, public_keys=named))


def judged_by_all(chain: Chain) -> Kinds:
    """What everybody finds, whatever is known."""
    found = judged(chain, head=False, keys=False)
    for head, keys in ((True, False), (False, True), (True, True)):
        assert judged(chain, head=head, keys=keys) >= found
    return found


# ---- nothing is wrong ----
def test_a_chain_that_nobody_touched_is_verified(chain: Chain) -> None:
    assert judged_by_all(chain) == judged(chain) == set()
    verification = verify_receipts(str(chain.folder), head=chain.head)
    assert (verification.n_receipts, verification.head) == chain.head
    assert verification.public_keys == ((chain.keys.public,) if chain.keys else ())
    if chain.keys:
        assert verify_receipts(chain.folder, public_keys=["0" * 64, str(chain.keys.public_file)]).ok
    for number, receipt in enumerate(told(chain), start=1):
        assert receipt["previous"] == ("0" * 64 if number == 1 else told(chain)[number - 2]["hash"])
    assert told(chain)[-1]["n_after"] == 0


def test_a_folder_without_receipts_is_a_chain_without_receipts(path: Path) -> None:
    refused(lambda: verify_receipts(path), ParameterError, str(path), "is not a folder")
    path.mkdir()
    (path / "notes.txt").write_text("mine")
    assert kinds(verify_receipts(path, head=(0, ""))) == kinds(verify_receipts(path)) == set()
    assert kinds(verify_receipts(path, head=(2, "0" * 64))) == {(2, "truncated")}


@pytest.mark.parametrize("key", ["", "0" * 63, "nowhere.pem", "\0"])
def test_a_key_that_is_none_is_refused(chain: Chain, key: str) -> None:
    refused(lambda: verify_receipts(chain.folder, public_keys=[key]), ParameterError)


@pytest.mark.parametrize(
    "head", [(1,), (-1, "0" * 64), ("1", "0" * 64), (True, "0" * 64), (1, ""), (1, "g" * 64), "1:0", 1]
)
def test_a_newest_hash_that_is_none_is_refused(chain: Chain, head: Any) -> None:
    refused(lambda: verify_receipts(chain.folder, head=head), ParameterError, "head")
    refused(lambda: verify_receipts(chain.folder, known=[head]), ParameterError, "known")


# ---- damage ----
def test_a_change_of_one_byte_is_found(chain: Chain) -> None:
    """Of all bytes in one file or another; test_receipts.py changes each byte of one file."""
    executions = 0
    for number in range(1, LAST + 1):
        content = file(chain, number).read_bytes()
        for place in range(number, len(content), 401):
            changed = bytes([content[place] ^ (1, 32, 128)[place % 3]])
            for after in (changed + content[place + 1 :], content[place + 1 :], changed + content[place:]):
                if (damaged := content[:place] + after) == content:
                    continue
                file(chain, number).write_bytes(damaged)
                assert judged(chain, head=executions % 2 > 0, keys=executions % 4 > 1) == {(number, "tampered")}
                executions += 1
        file(chain, number).write_bytes(content)
    assert executions > 250


def test_receipts_that_are_exchanged_are_found(chain: Chain) -> None:
    files = list(contents(chain.folder).values())
    for one, other in combinations(range(LAST), 2):
        exchanged = list(files)
        exchanged[one], exchanged[other] = files[other], files[one]
        write(chain, exchanged)
        assert judged_by_all(chain) == judged(chain) == {(one + 1, "reordered"), (other + 1, "reordered")}


def test_a_receipt_that_stands_there_twice_is_found(chain: Chain) -> None:
    shutil.copy(file(chain, 2), file(chain, 3))
    assert judged_by_all(chain) == {(3, "reordered")}
    shutil.copy(file(chain, 2), file(chain, LAST + 1))
    assert (LAST + 1, "reordered") in judged_by_all(chain)


def test_receipts_that_are_missing_are_found(chain: Chain) -> None:
    files = contents(chain.folder)
    for number in range(1, LAST):
        file(chain, number).unlink()
        assert judged_by_all(chain) == judged(chain) == {(number, "omitted")}
        write(chain, list(files.values()))
    for number in range(LAST, 0, -1):  # at the end nobody can tell without the newest hash
        file(chain, number).unlink()
        assert judged(chain, head=False) == set()
        assert judged(chain) == {(LAST, "truncated")}


def test_receipts_of_any_number_are_judged_at_once(chain: Chain) -> None:
    """A file's name may say anything, and so may the newest number."""
    shutil.copy(file(chain, 1), file(chain, 999_999))
    assert judged_by_all(chain) == {(LAST + 1, "omitted"), (999_999, "reordered")}
    file(chain, 999_999).unlink()
    assert kinds(verify_receipts(chain.folder, head=(2**53, "0" * 64))) == {(2**53, "truncated")}
    shutil.copy(file(chain, 1), file(chain, 0))
    assert judged_by_all(chain) == {(0, "reordered")}


# ---- read first, then judged ----
def test_receipts_are_judged_without_their_files(chain: Chain) -> None:
    file(chain, 2).write_bytes(b"{}")
    file(chain, 4).unlink()
    shutil.copy(file(chain, 1), file(chain, LAST))
    verification, found = verify_receipts(chain.folder, head=chain.head), ReceiptFolder(chain.folder).collect()
    shutil.rmtree(chain.folder)
    assert judge_chain(found, ReceiptRef(*chain.head)) == verification
    assert kinds(verification) >= {(2, "tampered"), (4, "omitted"), (LAST, "reordered")}


@pytest.mark.parametrize("unpublished", [[LAST], [LAST - 1, LAST], [1], range(1, LAST + 1)])
def test_receipts_that_are_not_published_yet_count_as_if_they_were(chain: Chain, unpublished: Sequence[int]) -> None:
    folder = ReceiptFolder(chain.folder)
    published = folder.collect()
    assert [folder.collect(upto=number) for number in range(LAST + 1)] == [published[:n] for n in range(LAST + 1)]
    pending = {number: file(chain, number).read_bytes() for number in unpublished}
    assert folder.collect(pending) == published
    for number in unpublished:
        file(chain, number).unlink()
    assert folder.collect(pending) == published
    assert kinds(judge_chain(folder.collect(pending), ReceiptRef(*chain.head))) == set()


def test_another_receipt_than_the_one_to_be_published_is_found_out(chain: Chain) -> None:
    found = ReceiptFolder(chain.folder).collect({2: file(chain, 1).read_bytes()})
    assert kinds(judge_chain(found, ReceiptRef(*chain.head))) == {(2, "tampered")}


def test_what_is_no_receipt_is_none(chain: Chain) -> None:
    for name in ("0000001.json", "000000001.json", "00000001.json~", "x00000001.json", "0000000\u0661.json"):
        (chain.folder / name).write_bytes(b"{}")
    assert judged(chain) == set()
    assert verify_receipts(chain.folder).n_receipts == LAST
    file(chain, 3).unlink()
    file(chain, 3).mkdir()
    assert judged_by_all(chain) == {(3, "tampered")}


# ---- forgers ----
FORGED: dict[str, object] = {
    "time": "2020-01-01T00:00:00Z",
    "scope": "ids",
    "path": "reseeded",
    "model_before": "1" * 64,
    "model_after": "2" * 64,
    "software": {},
    "parameters": {"n_shots": "9"},
    "destroyed": {"keys": "0"},
}


@pytest.mark.parametrize("name", FORGED)
def test_a_receipt_that_was_rewritten_is_found(chain: Chain, name: str) -> None:
    """By its signature, or by the receipt after it, or, if it is the newest, by the hash that someone wrote down."""
    files = contents(chain.folder)
    for number, fields in enumerate(told(chain), start=1):
        file(chain, number).write_bytes(sealed({**fields, name: FORGED[name]}))
        if file(chain, number).read_bytes() == files[file(chain, number).name]:
            continue
        expected = {(number + 1 if number < LAST else LAST, "tampered")}
        if chain.keys:
            expected |= {(number, "forged")}
        assert judged(chain) == expected
        if number == LAST:
            assert judged(chain, head=False) == expected - {(LAST, "tampered")}
        write(chain, list(files.values()))


def test_receipts_of_another_store_are_found(chain: Chain, tmp_path: Path, others: Keys) -> None:
    other = make(tmp_path / "store", tmp_path / "receipts", others if chain.keys else None)
    files = list(contents(chain.folder).values())
    for number in range(1, LAST + 1):
        shutil.copy(file(other, number), file(chain, number))
        found = judged(chain)
        strange = range(2, LAST + 1) if number == 1 else [number]
        assert {at for at, kind in found if kind == "foreign"} == set(strange)
        assert {at for at, kind in found if kind == "tampered"} == {number, number + 1} & set(range(2, LAST + 1))
        assert {at for at, kind in found if kind == "forged"} == ({number} if chain.keys else set())
        write(chain, files)
    receipts = told(chain)
    receipts[1] |= {"store": "f" * 32}
    write(chain, linked(receipts, [None] * LAST))
    assert judged_by_all(chain) == {(2, "foreign")}


def test_a_chain_that_was_rewritten_is_found(chain: Chain, others: Keys) -> None:
    """By the key, if it is known, or by the newest hash, if it is: by nobody who knows neither."""
    changed = [{**fields, "time": "2020-01-01T00:00:00Z"} for fields in told(chain)]
    everywhere = range(1, LAST + 1)
    write(chain, linked(changed, [None] * LAST))
    assert judged(chain, head=False, keys=False) == set()
    assert judged(chain, keys=False) == {(LAST, "tampered")}
    assert judged(chain, head=False) == ({(number, "unsigned") for number in everywhere} if chain.keys else set())
    write(chain, linked(changed, [others] * LAST))
    assert judged(chain, head=False, keys=False) == set()
    assert judged(chain, keys=False) == {(LAST, "tampered")}
    assert judged(chain, head=False) == ({(number, "forged") for number in everywhere} if chain.keys else set())
    assert verify_receipts(chain.folder).public_keys == (others.public,)


def test_a_chain_that_goes_on_is_found(chain: Chain) -> None:
    """By whoever knows the newest."""
    newest = told(chain)[-1]
    more = {**newest, "number": LAST + 1, "previous": newest["hash"], "public_key": "", "signature": ""}
    more |= {"n_before": newest["n_after"] + len(newest["rows"])}
    file(chain, LAST + 1).write_bytes(sealed(more))
    assert judged(chain, head=False, keys=False) == set()
    assert judged(chain, keys=False) == {(LAST + 1, "newer")}
    assert kinds(verify_receipts(chain.folder, known=[chain.head])) == set()
    assert judged(chain, head=False) == ({(LAST + 1, "unsigned")} if chain.keys else set())


def test_receipts_that_were_written_down_have_to_be_there(chain: Chain) -> None:
    """Whichever they are, and whatever came after them; hashes in large letters too."""
    noted = [(receipt["number"], receipt["hash"]) for receipt in told(chain)]
    for each in noted:
        assert verify_receipts(chain.folder, known=[each]).ok
    assert verify_receipts(chain.folder, known=[(0, "")], head=chain.head).ok
    assert verify_receipts(chain.folder, known=[[number, hash_.upper()] for number, hash_ in noted]).ok  # type: ignore[misc]
    for number, _ in noted:
        assert kinds(verify_receipts(chain.folder, known=[(number, "0" * 64), *noted[number:]])) == {
            (number, "tampered")
        }
    file(chain, LAST).unlink()
    assert verify_receipts(chain.folder, known=noted[:-1]).ok
    assert kinds(verify_receipts(chain.folder, known=noted)) == {(LAST, "truncated")}


def test_a_forged_signature_is_found(keys: Keys, others: Keys, path: Path) -> None:
    chain = make(path / "store", path / "receipts", keys)
    fields = told(chain)[2]
    signature = fields["signature"]
    for forged in (
        {"signature": ("1" if signature[0] == "0" else "0") + signature[1:]},
        {"signature": told(chain)[1]["signature"]},
        {"signature": "0" * 128},
        {"public_key": others.public},
        {"public_key": "0" * 64},
        {"public_key": "f" * 64},
        {"time": "2020-01-01T00:00:00Z"},
    ):
        file(chain, 3).write_bytes(sealed({**fields, **forged}))
        assert judged_by_all(chain) == judged(chain) == {(3, "forged"), (4, "tampered")}
    file(chain, 3).write_bytes(sealed({**fields, "public_key": "", "signature": ""}))
    assert judged(chain) == {(3, "unsigned"), (4, "tampered")}


def unbalanced(fields: Fields) -> list[Fields]:
    after = bytearray(base64.b64decode(fields["commitment_after"]))
    after[77] ^= 1
    rows = fields["rows"]
    return [
        {**fields, "n_before": fields["n_before"] + 1},
        {**fields, "n_after": fields["n_after"] + 1},
        {**fields, "commitment_after": base64.b64encode(after).decode()},
        {**fields, "commitment_before": fields["commitment_after"]},
        {**fields, "rows": sorted([*rows, "0" * 64])},
        {**fields, "rows": sorted([*rows, "0" * 64]), "n_before": fields["n_before"] + 1},
        {**fields, "rows": ["0" * 64, *rows[1:]]},
        {**fields, "rows": rows[1:], "n_before": fields["n_before"] - 1}
        if len(rows) > 1
        else {**fields, "n_after": 99},
    ]


def test_a_receipt_that_does_not_balance_is_found(chain: Chain) -> None:
    """Also if it was written by whoever has the key."""
    receipts = told(chain)
    for number in (1, 3, LAST):
        for fields in unbalanced(receipts[number - 1]):
            changed = [*receipts[: number - 1], fields, *receipts[number:]]
            write(chain, linked(changed, [chain.keys] * LAST))
            assert judged_by_all(chain) == {(number, "unbalanced")}
            assert judged(chain) == {(number, "unbalanced"), (LAST, "tampered")}


# ---- the store's own ----
def test_a_store_tells_what_is_wrong_with_its_receipts(path: Path) -> None:
    with create(path / "store", some(12), receipts=path / "receipts") as erase:
        chain = Chain(path / "receipts", (0, ""), None)
        for number in range(1, 4):
            erase.forget(number)
        assert [receipt.number for receipt in erase.receipts()] == [1, 2, 3]
        assert Receipt.from_bytes(file(chain, 3).read_bytes()) == erase.receipts()[-1]
        content = file(chain, 2).read_bytes()
        for damage, words in ((content[:-1], "tampered"), (file(chain, 1).read_bytes(), "reordered")):
            file(chain, 2).write_bytes(damage)
            verification = erase.verify()
            assert not verification.ok
            assert [problem for problem in verification.problems if f"receipt 2 is {words}" in problem]
        file(chain, 2).unlink()
        assert "receipt 2 is omitted" in str(erase.verify())
        file(chain, 2).write_bytes(content)
        file(chain, 3).unlink()
        # The store still has it, and `open` publishes it again.
        assert "a receipt is not published" in str(erase.verify())
        file(chain, 2).write_bytes(b"")
        refused(erase.receipts, ReceiptError, str(file(chain, 2)))
