"""The form of a receipt: it comes back as it was written, and nothing else is taken for one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from erase_core.errors import ReceiptError
from erase_core.receipts.chain import verify_receipts
from erase_core.receipts.receipt import Receipt, ReceiptRef
from hypothesis import given
from hypothesis import strategies as st
from receipts_by_hand import (
    Fields,
    Keys,
    canonical,
    check_signature,
    new_keys,
    sealed,
)
from small_stores import create, new_path, parts_of, some

DATABASE = "examples.sqlite"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return new_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def file(keys: Keys) -> Iterator[bytes]:
    """A signed receipt of the last of three removals, which left nothing; with a letter beyond ASCII."""
    with new_path() as path, create(path, some(6), signing_key=keys.private) as erase:
        erase.forget(0)
        erase.forget(subject="ann")
        receipt = erase.forget([2, 3, 4]).receipt
        assert receipt is not None
        named = replace(receipt, parameters={**receipt.parameters, "embedder": "wörter/5"}, public_key="", signature="")
        yield named.signed(parts_of(erase).receipts.signer).to_bytes()


def refusal(content: bytes) -> str:
    """Why a file is no receipt."""
    with pytest.raises(ReceiptError) as caught:
        Receipt.from_bytes(content)
    assert type(caught.value) is ReceiptError
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- there and back ----
def hexadecimal(digits: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=digits // 2, max_size=digits // 2).map(bytes.hex)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
mappings = st.dictionaries(st.text("abcdefghijklmnopqrstuvwxyz_", max_size=9), texts, max_size=4)
counts = st.integers(0, 2**53 - 1)
commitments = st.binary(min_size=2048, max_size=2048).map(lambda content: base64.b64encode(content).decode())
receipts = st.builds(
    Receipt,
    number=st.integers(1, 2**53 - 1),
    store=hexadecimal(32),
    time=st.datetimes().map(lambda time: time.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)),
    scope=st.sampled_from(["ids", "subject"]),
    rows=st.lists(hexadecimal(64), min_size=1, max_size=4, unique=True).map(lambda rows: tuple(sorted(rows))),
    tokens=st.lists(hexadecimal(32), max_size=4, unique=True).map(lambda tokens: tuple(sorted(tokens))),
    n_before=counts,
    n_after=counts,
    commitment_before=st.just(base64.b64encode(bytes(2048)).decode()),
    commitment_after=commitments,
    model_before=hexadecimal(64),
    model_after=hexadecimal(64),
    path=st.sampled_from(["certified", "replayed", "reseeded"]),
    parameters=mappings,
    software=mappings,
    destroyed=mappings,
    previous=hexadecimal(64),
    public_key=st.just(""),
    signature=st.just(""),
)


@given(receipt=receipts, key=hexadecimal(64), signature=hexadecimal(128), is_signed=st.booleans())
def test_a_receipt_comes_back_and_is_written_as_the_page_says(
    receipt: Receipt, key: str, signature: str, is_signed: bool
) -> None:
    if is_signed:
        receipt = replace(receipt, public_key=key, signature=signature)
    content = receipt.to_bytes()
    assert Receipt.from_bytes(content) == receipt
    told = json.loads(content)
    assert content == canonical(told) + b"\n" == sealed(told)
    assert told == {key: list(v) if isinstance(v, tuple) else v for key, v in receipt.to_dict().items()}
    assert told["hash"] == receipt.hash


def test_a_signature_is_of_all_but_hash_and_signature(file: bytes) -> None:
    told = json.loads(file)
    check_signature(told)
    for name in set(told) - {"hash", "signature", "public_key"}:
        with pytest.raises(InvalidSignature):
            check_signature({**told, name: "another"})


# ---- nothing else is taken for one ----
def put(name: str, text: str) -> Callable[[bytes], bytes]:
    """Write something else where a field's value stands."""

    def change(file: bytes) -> bytes:
        told = json.loads(file)
        before = canonical(name) + b":" + canonical(told[name])
        assert file.count(before) == 1
        return file.replace(before, canonical(name) + b":" + text.encode())

    return change


OTHER_FORMS: dict[str, Callable[[bytes], bytes]] = {
    "a space": lambda file: file.replace(b",", b", ", 1),
    "a space at the beginning": lambda file: b" " + file,
    "no line's end": lambda file: file[:-1],
    "two line's ends": lambda file: file + b"\n",
    "another line's end": lambda file: file[:-1] + b"\r\n",
    "a NUL at the end": lambda file: file + b"\0",
    "fields in another order": lambda file: (
        json.dumps(dict(reversed(json.loads(file).items())), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    ),
    "indented": lambda file: json.dumps(json.loads(file), sort_keys=True, indent=1, ensure_ascii=False).encode(),
    "a field twice": lambda file: b'{"n_after":0,' + file[1:],
    "a field twice, the first another": lambda file: b'{"n_after":5,' + file[1:],
    "escaped, though it need not be": lambda file: file.replace("ö".encode(), b"\\u00f6"),
    "an escaped slash": lambda file: file.replace(b"/", b"\\/"),
    "a letter decomposed": lambda file: file.replace("ö".encode(), b"o\xcc\x88"),
    "minus zero": put("n_after", "-0"),
    "zero and a point": put("n_after", "0.0"),
    "a point": put("n_before", "3.0"),
    "an exponent": put("n_before", "3e0"),
    "a plus": put("n_before", "+3"),
    "a leading zero": put("n_before", "03"),
    "a big number": put("n_before", "9" * 400),
    "a number too big to be read": put("n_before", "9" * 100_000),
    "NaN": put("n_before", "NaN"),
    "infinity": put("n_before", "Infinity"),
    "a byte-order mark": lambda file: b"\xef\xbb\xbf" + file,
    "UTF-16": lambda file: file.decode().encode("utf-16"),
    "Latin-1": lambda file: file.decode().encode("latin-1"),
    "an overlong form": lambda file: file.replace(b"/", b"\xc0\xaf"),
    "half a surrogate": lambda file: file.replace("ö".encode(), b"\xed\xa0\x80"),
    "deeply nested": put("parameters", "[" * 100_000 + "]" * 100_000),
    "deeply nested, as another version": put("version", "[" * 900 + "]" * 900),
    "empty": lambda _: b"",
    "null": lambda _: b"null\n",
    "a list": lambda file: b"[" + file[:-1] + b"]\n",
    "two": lambda file: file + file,
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_a_receipt_has_one_form(file: bytes, form: str) -> None:
    """A hash in its fields that fits does not help."""
    content = OTHER_FORMS[form](file)
    assert content != file
    refusal(content)


HASHES: list[object] = ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 63 + "\n", "\u0660" * 64, None, 0, ["0" * 64]]
NUMBERS: list[object] = [-1, True, False, "1", None, [1], 2**53, 10**400]
LISTS: list[object] = [None, "x", {}, [1], [None], [["x"]], ["\ud800"]]
MAPPINGS: list[object] = [None, "x", [], {"a": 1}, {"a": None}, {"a": {"b": "c"}}, {"a": "\ud800"}, {"\ud800": "a"}]
SIZES: list[object] = [base64.b64encode(bytes(size)).decode() for size in (0, 2047, 2049)]
WRONG: dict[str, list[object]] = {
    "number": [*NUMBERS, 0],
    "n_before": NUMBERS,
    "n_after": NUMBERS,
    "version": [0, 1, True, None, "1", [1], 10**400],
    "store": ["", "0" * 31, "0" * 33, "F" * 32, None, 7],
    "time": [
        "",
        "2026-11-21",
        "2026-11-21T18:00:00",
        "2026-11-21T18:00:00+00:00",
        "\uff12026-11-21T18:00:00Z",
        None,
        0,
    ],
    "scope": ["", "all", None, ["ids"]],
    "path": ["", "fast", None, 1],
    "rows": [*LISTS, [], ["0" * 63], ["0" * 64, "0" * 64], ["1" * 64, "0" * 64], ["G" * 64]],
    "tokens": [*LISTS, ["0" * 31], ["0" * 33], ["0" * 32, "0" * 32], ["1" * 32, "0" * 32], ["F" * 32]],
    "commitment_before": [None, 0, "", "!" * 2732, "ö", "A" * 2732, *SIZES],
    "commitment_after": [None, 0, "", "!" * 2732, "ö", "A" * 2732, *SIZES],
    "model_before": HASHES,
    "model_after": HASHES,
    "previous": HASHES,
    "parameters": MAPPINGS,
    "destroyed": MAPPINGS,
    "software": MAPPINGS,
    "public_key": HASHES[1:],
    "signature": ["0" * 127, "0" * 129, "F" * 128, "", None, 0],
}


def test_every_field_has_its_form(file: bytes) -> None:
    """Whoever writes something else there, and a hash that fits, has written no receipt."""
    told: Fields = json.loads(file)
    assert sealed(told) == file
    assert set(WRONG) == {each.name for each in fields(Receipt)} == set(told) - {"hash"}
    for name, values in WRONG.items():
        for value in values:
            changed = {**told, name: value}
            if "\\ud800" in json.dumps(value):  # in JSON it can be written, in UTF-8 it cannot
                content = json.dumps({**changed, "hash": "0" * 64}, sort_keys=True, separators=(",", ":")).encode()
            else:
                content = sealed(changed)
            assert name in refusal(content) or name == "version"
        assert refusal(sealed({key: value for key, value in told.items() if key != name}))
    assert refusal(sealed({**told, "note": ""}))
    assert refusal(sealed({**told, "signature": "", "public_key": "0" * 64}))
    assert refusal(sealed({**told, "public_key": ""}))


def changes(file: bytes, place: int, value: int) -> list[bytes]:
    """A byte changed, left out, put in, and doubled."""
    before, byte, after = file[:place], file[place : place + 1], file[place + 1 :]
    changed = bytes([byte[0] ^ value])
    return [before + changed + after, before + after, before + changed + byte + after, before + byte + byte + after]


def check_changes(file: bytes, places: range, values: tuple[int, ...]) -> int:
    number = 0
    for place in places:
        for content in changes(file, place, values[place % len(values)]):
            if content != file:
                refusal(content)
                number += 1
    return number


def test_changes_of_one_byte_are_refused(file: bytes) -> None:
    assert check_changes(file, range(0, len(file), 17), (1, 32, 128)) > 1000


@pytest.mark.slow
def test_every_change_of_one_byte_is_refused(file: bytes) -> None:
    number = sum(check_changes(file, range(len(file)), (value,)) for value in (1, 2, 4, 8, 16, 32, 64, 128, 255))
    print(f"{number} changes of one byte refused")


def test_a_reference_to_a_receipt_is_the_pair_that_may_be_given_for_it(path: Path) -> None:
    with create(path, some(6)) as erase:
        assert erase.newest_receipt == ReceiptRef(0, "") == (0, "")
        erase.forget(1)
        newest = erase.newest_receipt
        pair = (newest.number, newest.hash)
        assert newest == erase.receipts()[-1].ref == pair
        folder = erase.status().receipts
        for each in (newest, pair, (newest.number, newest.hash.upper())):
            assert erase.verify(known=[each]).ok
            assert verify_receipts(folder, head=each, known=[each]).ok
