"""Keys of receipts: which files hold one, and that the store of a signed receipt asks for it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from functools import partial
from pathlib import Path
from traceback import format_exception
from typing import Any

import pytest
from checkout import ROOT
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from erase_core import verify_receipts
from erase_core.commitments import minus
from erase_core.erase import Erase
from erase_core.errors import OldCopyWarning, ParameterError, ReceiptError
from erase_core.receipts.receipt import Receipt
from erase_core.receipts.signing import Signer, is_signed_by, public_key
from receipts_by_hand import Keys, check_signature, new_keys, sealed, signed
from small_stores import WordEmbedder, check_refused, contents, create, refused, some, unchecked


def test_a_signature_is_ed25519s(tmp_path: Path) -> None:
    """RFC 8032, section 7.1, tests 1 and 3."""
    for secret, public, text, signature in (
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a",
        ),
    ):
        key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / "key.pem").write_bytes(pem)
        signer = Signer(tmp_path / "key.pem")
        assert (signer.public_key, signer.sign(bytes.fromhex(text))) == (public, signature)
        assert is_signed_by(public, signature, bytes.fromhex(text))
        assert not is_signed_by(public, signature, b"another")
        assert not is_signed_by(public, signature[2:], bytes.fromhex(text))


TOOLS = ("openssl", "xxd", "sha256sum")


@pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}")
def test_a_receipt_is_verified_by_hand_as_the_page_says(path: Path, tmp_path: Path) -> None:
    """With keys from openssl, and the shell commands of docs/receipts.md as they stand there."""

    def run(*words: str | Path) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    private, public = tmp_path / "key.pem", path / "receipts" / "public.pem"
    run("genpkey", "-algorithm", "ed25519", "-out", private)
    with create(path, some(6), signing_key=private) as erase:
        erase.forget(1)
        [receipt] = erase.receipts()
    run("pkey", "-in", private, "-pubout", "-out", public)
    assert verify_receipts(path / "receipts", public_keys=[public]).public_keys == (public_key(public),)
    assert receipt.public_key == public_key(public)

    page = (ROOT / "docs" / "receipts.md").read_text()
    [script] = re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)

    def by_hand() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", "-ec", script], cwd=path / "receipts", capture_output=True, text=True, check=False)

    good = by_hand()
    assert good.stdout.splitlines() == [
        f"{receipt.hash}  -",
        f'"hash":"{receipt.hash}"',
        "Signature Verified Successfully",
    ]
    file = path / "receipts" / "00000001.json"
    file.write_bytes(file.read_bytes().replace(b'"ids"', b'"idz"'))
    bad = by_hand()
    assert bad.returncode != 0
    assert "Signature Verified" not in bad.stdout
    assert bad.stdout.split()[0] != receipt.hash


def test_a_file_that_holds_no_key_is_refused(path: Path, tmp_path: Path) -> None:
    keys = new_keys(tmp_path)
    other = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "other.pem").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    mine = ed25519.Ed25519PrivateKey.generate()
    locked = mine.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open"))
    (tmp_path / "locked.pem").write_bytes(locked)
    (tmp_path / "text.pem").write_text("no key")
    (tmp_path / "empty.pem").write_bytes(b"")
    (tmp_path / "folder.pem").mkdir()
    files = [tmp_path / f"{name}.pem" for name in ("other", "locked", "text", "empty", "folder", "nowhere")]
    for file in (*files, keys.public_file):
        refused(lambda file=file: create(path, signing_key=file), ParameterError, file.name)  # type: ignore[misc]
    for file in (*files, keys.private):
        refused(lambda file=file: public_key(file), ParameterError, file.name)  # type: ignore[misc]
    assert not path.exists()
    assert Signer(tmp_path / "locked.pem", b"open").public_key == mine.public_key().public_bytes_raw().hex()
    assert public_key(keys.public) == public_key(keys.public_file) == keys.public


def test_a_store_whose_receipts_are_signed_asks_for_a_key(path: Path, tmp_path: Path) -> None:
    """Any key: keys are changed from time to time, and whoever verifies names those that count."""
    keys, new = new_keys(tmp_path), new_keys(tmp_path, "new")
    create(path, some(12)).close()
    with Erase.open(path, embedder=WordEmbedder()) as erase:
        erase.forget(1)
    with Erase.open(path, embedder=WordEmbedder(), signing_key=keys.private) as erase:
        erase.forget(2)
    with Erase.open(path, embedder=WordEmbedder()) as erase:
        check_refused(erase, lambda: erase.forget(3), ReceiptError, "signed", "signing_key", "nothing was forgotten")
        assert erase.forget(3, dry_run=True).receipt is None
        erase.ingest(some(1, 50))
    with Erase.open(path, embedder=WordEmbedder(), signing_key=new.private) as erase:
        erase.forget(3)
        assert [receipt.public_key for receipt in erase.receipts()] == ["", keys.public, new.public]
        for receipt in erase.receipts()[1:]:
            check_signature(json.loads(receipt.to_bytes()))
        assert erase.verify().ok
    found = verify_receipts(path / "receipts", public_keys=[keys.public])
    assert [(each.number, each.kind) for each in found.problems] == [(1, "unsigned"), (3, "forged")]
    assert verify_receipts(path / "receipts").ok
    private = keys.private.read_bytes().splitlines()[1]
    assert not [name for name, content in contents(path).items() if private in content]


def test_without_the_package_signed_receipts_are_not_judged(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = new_keys(tmp_path)
    with create(path / "plain", some(6)) as erase:
        erase.forget(1)
    with create(path / "signed", some(6), signing_key=keys.private) as erase:
        erase.forget(1)
        fields = json.loads(erase.receipts()[0].to_bytes())
    assert signed(fields, keys)["signature"] == fields["signature"]


# ---- keys that are named ----
def test_a_store_whose_receipts_were_written_anew_unsigned_is_told_by_the_key_that_is_named(
    path: Path, tmp_path: Path
) -> None:
    """By whoever has no key, but can write to the store and its receipts."""
    keys = new_keys(tmp_path)
    with create(path, some(12), signing_key=keys.private) as erase:
        erase.forget(1)
        erase.forget(2)
        noted = erase.newest_receipt
    previous = "0" * 64
    for number in (1, 2):
        file = path / "receipts" / f"0000000{number}.json"
        forged = signed({**json.loads(file.read_bytes()), "previous": previous, "time": "2020-01-01T00:00:00Z"}, None)
        file.write_bytes(sealed(forged))
        previous = json.loads(file.read_bytes())["hash"]
    put(
        path,
        ("UPDATE state SET head_hash = ?", (previous,)),
        ("UPDATE state SET head_key = ''", ()),
        ("DELETE FROM unfinished", ()),
    )
    with Erase.open(path, embedder=WordEmbedder()) as erase:
        assert erase.verify().ok  # nobody can see it from within
        assert erase.verify(known=[noted]).problems == [
            "receipt 2 is tampered: it differs from the one that was written down"
        ]
    with Erase.open(path, embedder=WordEmbedder(), public_keys=keys.public_file) as erase:
        assert [problem[:21] for problem in erase.verify().problems] == [
            f"receipt {number} is unsigned" for number in (1, 2)
        ]
        refused(lambda: erase.forget(3), ReceiptError, "Give the key", "nothing was forgotten")


def test_who_names_keys_signs_with_one_of_them(path: Path, tmp_path: Path) -> None:
    keys, other = new_keys(tmp_path), new_keys(tmp_path, "other")
    create(path, some(12)).close()
    for named in (keys.public, [other.public, keys.public.upper()], [str(keys.public_file)]):
        with Erase.open(path, embedder=WordEmbedder(), signing_key=keys.private, public_keys=named) as erase:
            erase.forget(erase.examples()[0].id)
            assert erase.verify().ok
    with Erase.open(path, embedder=WordEmbedder(), signing_key=keys.private, public_keys=other.public) as erase:
        check_key = "belongs to none of the named public keys"
        refused(lambda: erase.forget(9), ReceiptError, check_key, "nothing was forgotten")
        assert len(erase.examples()) == 9
    wrong: list[Any] = [3, ["0" * 63], [b"key"], [3], None]
    for bad in wrong:
        refused(partial(Erase.open, path, public_keys=bad), ParameterError, "public_keys", "64 hexadecimal digits")
    refused(lambda: Erase.open(path, signing_key=3), ParameterError, "signing_key", "got 3")  # type: ignore[arg-type]


# ---- who can write to the store alone, or has no key ----
@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return new_keys(tmp_path)


@pytest.fixture
def receipts(path: Path, keys: Keys) -> Path:
    """The receipts, outside, of a store with two signed removals."""
    receipts = path.with_name("receipts")
    with create(path, some(12), receipts=receipts, signing_key=keys.private, public_keys=keys.public) as erase:
        erase.forget(1)
        erase.forget(2)
        assert f"signed by {keys.public[:16]} (a named key)" in str(erase.verify())
    return receipts


def put(path: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    with closing(sqlite3.connect(path / "examples.sqlite")) as db, db:
        for statement, values in statements:
            db.execute(statement, values)
    db.close()


def without_a_key(receipts: Path, number: int) -> bytes:
    """A receipt after the newest but this one, made by somebody else."""
    before, row = json.loads((receipts / f"{number - 1:08}.json").read_bytes()), bytes(32)
    after = base64.b64encode(minus(base64.b64decode(before["commitment_after"]), [row])).decode()
    told = {**before, "number": number, "previous": before["hash"], "rows": [row.hex()]}
    told |= {"n_before": before["n_after"], "n_after": before["n_after"] - 1}
    return sealed(signed({**told, "commitment_before": before["commitment_after"], "commitment_after": after}, None))


def test_a_receipt_that_waits_does_not_hide_the_others(path: Path, receipts: Path, keys: Keys) -> None:
    file = receipts / "00000001.json"
    content = file.read_bytes()
    put(path, ("INSERT INTO unfinished VALUES (9, x'', 1, ?)", (Receipt.from_bytes(content).packed(),)))
    file.write_bytes(sealed(signed(json.loads(content), None)))
    with unchecked(path, public_keys=[keys.public]) as erase:
        problems = str(erase.verify())
        for part in ("receipt 1 is unsigned", "differs from the one that is to be published"):
            assert part in problems


def test_a_receipt_without_a_key_is_not_published(path: Path, receipts: Path, keys: Keys) -> None:
    forged = without_a_key(receipts, 3)
    hash_ = json.loads(forged)["hash"]
    put(
        path,
        ("INSERT INTO unfinished VALUES (9, x'', 3, ?)", (Receipt.from_bytes(forged).packed(),)),
        ("UPDATE state SET head = 3", ()),
        ("UPDATE state SET head_hash = ?", (hash_,)),
    )
    for key in (None, keys.private):
        refused(
            lambda key=key: Erase.open(path, embedder=WordEmbedder(), signing_key=key, public_keys=keys.public),  # type: ignore[misc]
            ReceiptError,
            "receipt 3 is not signed by a named public key",
        )
    with unchecked(path, public_keys=[keys.public]) as erase:
        assert "receipt 3 is unsigned" in str(erase.verify())
    assert not (receipts / "00000003.json").exists()


def test_nobody_signs_after_a_receipt_without_a_key(path: Path, receipts: Path, keys: Keys) -> None:
    """The signature would vouch for it."""
    forged = without_a_key(receipts, 3)
    (receipts / "00000003.json").write_bytes(forged)
    hash_ = json.loads(forged)["hash"]
    put(
        path,
        ("UPDATE state SET head = 3", ()),
        ("UPDATE state SET head_hash = ?", (hash_,)),
    )
    named = {"signing_key": keys.private, "public_keys": keys.public}
    with Erase.open(path, embedder=WordEmbedder(), **named) as erase:  # type: ignore[arg-type]
        refused(
            lambda: erase.forget(5),
            ReceiptError,
            "receipt 3 is not signed by a named public key",
            "nothing was forgotten",
        )
        put(path, ("UPDATE state SET head_hash = ?", ("0" * 64,)))
        refused(lambda: erase.forget(5), ReceiptError, "is not the store's", "nothing was forgotten")
        assert 5 in [example.id for example in erase.examples()]


def test_an_old_copy_takes_no_receipt_without_a_key_even_under_one_that_is_signed(
    path: Path, receipts: Path, keys: Keys
) -> None:
    copy = Path(shutil.copytree(path, path.with_name("copy")))
    third = json.loads(without_a_key(receipts, 3))
    (receipts / "00000003.json").write_bytes(sealed(third))
    fourth = signed({**json.loads(without_a_key(receipts, 4))}, keys)
    (receipts / "00000004.json").write_bytes(sealed(fourth))
    refused(lambda: Erase.open(copy, embedder=WordEmbedder(), public_keys=keys.public), ReceiptError, "00000003.json")
    with pytest.warns(OldCopyWarning):
        Erase.open(copy, embedder=WordEmbedder()).close()


def test_without_receipts_it_is_said_why_a_key_is_needed(path: Path, keys: Keys) -> None:
    with create(path, some(12), public_keys=keys.public) as erase:
        refused(lambda: erase.forget(1), ReceiptError, "public keys are named", "signing_key", "nothing was forgotten")
        assert erase.forget(1, dry_run=True).dry_run
    with Erase.open(path, embedder=WordEmbedder(), signing_key=keys.private) as erase:
        erase.forget(1)
        assert f"signed by {keys.public[:16]} (no key was named, so any is accepted)" in str(erase.verify())
    for empty in ("", [""], b"key", [keys.public, ""]):
        refused(lambda empty=empty: Erase.open(path, public_keys=empty), ParameterError, "public_keys")  # type: ignore[misc]


def test_the_text_of_a_key_is_refused_and_not_shown(path: Path, keys: Keys) -> None:
    text = Path(keys.private).read_text()
    secret = text.splitlines()[1]
    with pytest.raises(ParameterError, match="must be a file") as caught:
        Erase.create(path, embedder=WordEmbedder(), signing_key=text)
    assert secret not in "".join(format_exception(caught.value))
    assert not path.exists()
