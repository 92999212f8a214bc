"""The command line's part in receipts, refusals, old copies and searches. What they mean is tested at `Erase`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import answered, check_refused, erase, json_of, needs_embedder
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from erase_core.cli.options import lines_of
from erase_core.erase import Erase
from small_stores import ONE_PROMPT, WordEmbedder, some


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store whose receipts lie beside it."""
    with Erase.create(
        tmp_path / "store", **ONE_PROMPT, embedder=WordEmbedder(), receipts=tmp_path / "receipts"
    ) as made:
        made.ingest(some(12))
    return tmp_path / "store"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private key with a password, and its public key."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"the password"),
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    files = tmp_path / "private.pem", tmp_path / "public.pem"
    for file, content in zip(files, (private, public), strict=True):
        file.write_bytes(content)
    return files


def forget(store: Path, *arguments: object) -> dict[str, object]:
    return json_of("forget", *arguments, "--yes", "--store", store)


def test_receipts_are_listed_shown_and_verified_with_and_without_the_store(store: Path) -> None:
    assert erase("receipts", "list", "--store", store).stdout == "no receipts\n"
    assert erase("receipts", "verify", "--store", store).stdout == "verified: no receipts\n"
    told = [forget(store, "--id", 1)["receipt"], forget(store, "--subject", "bob")["receipt"]]
    for place in (["--store", store], ["--folder", store.parent / "receipts"]):
        listed = json_of("receipts", "list", *place)["receipts"]
        assert [{name: receipt[name] for name in ("number", "hash")} for receipt in listed] == told
        lines = erase("receipts", "list", *place).stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["1", "2"]
        assert json_of("receipts", "show", 2, *place) == listed[1]
        shown = erase("receipts", "show", 2, *place).stdout.splitlines()
        assert f"scope              {listed[1]['scope']}" in shown
        verified = json_of("receipts", "verify", *place)
        assert (verified["ok"], verified["n_receipts"], verified["head"]) == (True, 2, listed[1]["hash"])
    assert "note: " in erase("receipts", "verify", "--folder", store.parent / "receipts").stdout
    assert "note: " not in erase("receipts", "verify", "--store", store).stdout


def test_receipts_that_are_not_there_or_were_touched(store: Path) -> None:
    forget(store, "--id", 1)
    forget(store, "--id", 2)
    folder = store.parent / "receipts"
    newest = json_of("status", "--store", store)
    assert (newest["n_receipts"], newest["receipts"]) == (2, str(folder))
    check_refused(erase("receipts", "show", 3, "--store", store), 16, "does not contain receipt 3")
    check_refused(erase("receipts", "verify", "--folder", folder, "--head", "2"), 2, "--head")
    check_refused(erase("receipts", "list", "--folder", folder, "--receipts", folder), 2, "--folder")
    head = f"2:{json_of('receipts', 'verify', '--store', store)['head']}"
    (folder / "00000002.json").rename(store.parent / "kept")
    truncated = json_of("receipts", "verify", "--folder", folder, "--head", head, code=1)
    assert [problem["kind"] for problem in truncated["problems"]] == ["truncated"]
    (folder / "00000002.json").write_bytes((folder / "00000001.json").read_bytes())
    assert erase("receipts", "verify", "--folder", folder).stdout.startswith("NOT verified:\nreceipt 2 is reordered")
    (folder / "00000002.json").write_bytes(b"{}")
    check_refused(erase("receipts", "list", "--folder", folder), 16, "00000002.json")
    check_refused(erase("status", "--store", store), 16, "00000002.json")


def test_a_removal_is_signed_and_from_then_on_each_is(
    store: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = keys
    sign = ("--signing-key", private)
    check_refused(erase("forget", "--id", 1, "--yes", "--store", store, *sign), 2, str(private))
    monkeypatch.setenv("ERASE_SIGNING_PASSWORD", "the password")
    forget(store, "--id", 1, *sign)
    assert json_of("receipts", "verify", "--store", store, "--public-key", public)["ok"]
    check_refused(erase("forget", "--id", 2, "--yes", "--store", store), 16, "signed", "--signing-key")
    monkeypatch.setenv("ERASE_SIGNING_KEY", str(private))
    forget(store, "--id", 2)
    other = json_of("receipts", "verify", "--store", store, "--public-key", "0" * 64, code=1)
    assert {problem["kind"] for problem in other["problems"]} == {"forged"}


def test_what_was_forgotten_is_refused_before_a_model_is_loaded(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "again.jsonl"
    file.write_text(json.dumps({"id": 1, "input": "late parcel", "output": "yes"}))
    forget(store, "--id", 1)
    check_refused(erase("ingest", file, "--store", store), 17, "1 of 1", "--forgotten skip")
    check_refused(erase("ingest", file, "--store", store, "--forgotten", "maybe"), 2, "maybe")


def test_an_old_copy_is_noticed_and_a_folder_of_receipts_that_moved_is_named(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "old")
    forget(store, "--subject", "bob")
    after = json_of("status", "--store", store)["digest"]
    shutil.rmtree(store)
    (tmp_path / "old").rename(store)
    (tmp_path / "receipts").rename(tmp_path / "moved")
    check_refused(erase("status", "--store", store), 16, "--receipts")
    result = erase("status", "--store", store, "--receipts", tmp_path / "moved", "--json")
    assert (result.exit_code, json.loads(result.stdout)["digest"]) == (0, after)
    assert result.stderr.startswith("note: ")
    again = erase("status", "--store", store, env={"ERASE_RECEIPTS": str(tmp_path / "moved")})
    assert (again.exit_code, again.stderr) == (0, "")


def test_verify_tells_where_receipts_should_be(tmp_path: Path) -> None:
    with Erase.create(tmp_path / "store", **ONE_PROMPT, embedder=WordEmbedder()) as made:
        made.ingest(some(5))
    verified = erase("verify", "--store", tmp_path / "store")
    assert verified.exit_code == 0
    assert "note: the receipts lie within the store" in verified.stdout


def test_texts_to_look_for_are_checked(store: Path) -> None:
    check_refused(erase("verify", "--absent", "ab", "--store", store), 2, "4 bytes")
    result = erase("verify", "--absent-from", "-", "--store", store, input="\nlong enough\r\nabc\r\n")
    assert "abc" not in check_refused(result, 2, "--absent-from", "line 3", "4 bytes")
    four_bytes = store.parent / "texts"
    four_bytes.write_bytes("\u00fc\u00fc\r\n\n".encode())
    assert lines_of("--absent-from", four_bytes, 4) == ["\u00fc\u00fc"]


def test_blank_lines_are_no_texts_to_look_for(store: Path) -> None:
    result = erase("verify", "--absent-from", "-", "--store", store, "--json", input="\n   \n")
    assert (result.exit_code, json.loads(result.stdout)["n_absent"]) == (0, 0)
    check_refused(erase("verify", "--absent-from", "-", "--store", store, input=b"M\xfcller\n"), 2, "UTF-8: byte 2")


# ---- keys, and what was written down ----
OPENING = (
    ("ingest", "rows.jsonl"),
    ("forget", "--id", 3, "--yes"),
    ("ask", "what?"),
    ("choose", "what?", "one", "two"),
    ("prompt", "what?"),
    ("status",),
    ("verify",),
    ("export", "out.jsonl"),
    ("receipts", "list"),
    ("receipts", "show", 1),
    ("receipts", "verify"),
)


def test_no_command_takes_receipts_that_are_not_signed_by_a_key_that_was_named(
    store: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = keys
    monkeypatch.setenv("ERASE_SIGNING_PASSWORD", "the password")
    shutil.copytree(store, store.parent / "old")
    forget(store, "--subject", "bob", "--signing-key", private, "--public-key", public)
    for command in OPENING:
        check_refused(erase(*command, "--store", store.parent / "old", "--public-key", "0" * 64), 16, "--public-key")
    caught_up = erase("status", "--store", store.parent / "old", "--public-key", "0" * 64, "--public-key", public)
    assert (caught_up.exit_code, caught_up.stderr[:6]) == (0, "note: ")
    assert json_of("verify", "--store", store, "--public-key", public)["ok"]
    assert "forged" in json_of("verify", "--store", store, "--public-key", "0" * 64, code=1)["problems"][0]


def test_public_keys_are_named_by_the_environment(
    store: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = keys
    monkeypatch.setenv("ERASE_SIGNING_PASSWORD", "the password")
    monkeypatch.setenv("ERASE_PUBLIC_KEY", f"{'0' * 64}\n {public} ")
    check_refused(erase("forget", "--id", 1, "--yes", "--store", store), 16, "--signing-key")
    forget(store, "--id", 1, "--signing-key", private)
    signed = json_of("receipts", "verify", "--folder", store.parent / "receipts")
    monkeypatch.setenv("ERASE_PUBLIC_KEY", f"{'0' * 64} {signed['public_keys'][0].upper()}")
    for command in (("verify",), ("receipts", "verify")):
        assert json_of(*command, "--store", store)["ok"]
    monkeypatch.setenv("ERASE_PUBLIC_KEY", "0" * 64)
    for command in (("verify",), ("receipts", "verify")):
        assert not json_of(*command, "--store", store, code=1)["ok"]
    check_refused(
        erase("forget", "--id", 2, "--yes", "--store", store, "--signing-key", private), 16, "none of the named"
    )


@pytest.mark.parametrize("empty", ["", " \n"])
def test_keys_that_are_named_by_nothing_are_refused(store: Path, monkeypatch: pytest.MonkeyPatch, empty: str) -> None:
    folder = ("receipts", "verify", "--folder", store.parent / "receipts")
    for command in (("status", "--store", store), folder):
        check_refused(erase(*command, "--public-key", "0" * 64, "--public-key", empty), 2, "--public-key")
    monkeypatch.setenv("ERASE_PUBLIC_KEY", empty)
    for command in (*((*each, "--store", store) for each in OPENING), folder):
        check_refused(erase(*command), 2, "ERASE_PUBLIC_KEY", "unset it")
    assert erase("status", "--store", store, "--public-key", "0" * 64).exit_code == 0


def test_a_signature_that_is_only_shown_is_not_said_to_be_checked(
    store: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = keys
    monkeypatch.setenv("ERASE_SIGNING_PASSWORD", "the password")
    forget(store, "--id", 1)
    forget(store, "--id", 2, "--signing-key", private)
    folder = ("--folder", store.parent / "receipts")
    lines = erase("receipts", "list", *folder).stdout.splitlines()
    assert ["signed (not checked)" in line for line in lines] == [False, True]
    for command in (("list",), ("show", 1)):
        refused = erase("receipts", *command, *folder, "--public-key", public)
        check_refused(refused, 2, "--folder", "--public-key", "erase receipts verify")
        # Where the variable names keys for all commands, those that check nothing go on without.
        assert erase("receipts", *command, *folder, env={"ERASE_PUBLIC_KEY": "0" * 64}).exit_code == 0


def test_forget_asks_for_the_key_before_it_asks_whether_to_act(
    store: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = keys
    monkeypatch.setenv("ERASE_SIGNING_PASSWORD", "the password")
    command = ("forget", "--id", 1, "--store", store, "--public-key")
    for arguments, word in (((public,), "--signing-key"), (("0" * 64, "--signing-key", private), "none of the named")):
        code, said, printed = answered("n\n", *command, *arguments)
        assert (code, printed, "Forget?" in said, word in said) == (16, "", False, True)
    code, said, _ = answered("y\n", *command, public, "--signing-key", private)
    assert (code, "Forget?" in said) == (0, True)


def test_receipts_that_were_written_down_must_be_there(store: Path) -> None:
    folder = ("receipts", "verify", "--folder", store.parent / "receipts")
    assert erase(*folder, "--head", "0:").stdout == "verified: no receipts\n"
    told = [forget(store, "--id", number)["receipt"] for number in (1, 2)]
    written = [f"{receipt['number']}:{receipt['hash'].upper()}" for receipt in told]  # type: ignore[index]
    of_the_store = ("receipts", "verify", "--store", store)
    for command in (("verify", "--store", store), folder, of_the_store):
        assert json_of(*command, "--known", written[0], "--known", written[1], "--known", "0:")["ok"]
        for known, kind in {f"1:{'a' * 64}": "tampered", f"3:{'a' * 64}": "truncated"}.items():
            result = erase(*command, "--known", written[1], "--known", known)
            assert (result.exit_code, kind in result.stdout) == (1, True)
        check_refused(erase(*command, "--known", "1:abc"), 2, "--known", "64 hexadecimal")
    assert json_of(*folder, "--head", written[1])["ok"]
    for head in (written[0], "0:"):
        found = json_of(*folder, "--head", head, code=1)
        assert [problem["kind"] for problem in found["problems"]] == ["newer"]


def test_a_folder_of_receipts_goes_before_that_of_the_environment(store: Path, tmp_path: Path) -> None:
    forget(store, "--id", 1)
    (tmp_path / "receipts").rename(tmp_path / "moved")
    for command in (("list",), ("show", 1), ("verify",)):
        named = ("receipts", *command, "--folder", tmp_path / "moved")
        assert erase(*named, env={"ERASE_RECEIPTS": str(tmp_path / "none")}).exit_code == 0
        check_refused(erase(*named, "--receipts", tmp_path / "moved"), 2, "--folder", "--receipts")


@needs_embedder
def test_a_store_is_made_with_the_folder_of_receipts_that_the_environment_names(tmp_path: Path) -> None:
    made = erase("init", "--json", "--store", tmp_path / "new", env={"ERASE_RECEIPTS": str(tmp_path / "outside")})
    assert json.loads(made.stdout)["receipts"] == str(tmp_path / "outside")
