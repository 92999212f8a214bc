"""Names that are not UTF-8 and texts that are not Unicode: each works or is refused in words, wherever it is given.

Linux has file names in any bytes, which Python shows as halves of surrogate pairs. JSON from elsewhere has such halves
too, and they can be neither stored nor tokenized.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import check_refused as check_ended
from command_line import json_of, shell
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from erase_core import QKMeans, SentenceEmbedder, Signer, TransformersLLM, errors, verify_receipts
from erase_core.embedding.projection import read_public_texts
from erase_core.erase import Erase
from erase_core.errors import EmbedderError, EraseError, ParameterError
from erase_core.examples.example import Example
from erase_core.examples.reading import read_examples
from small_stores import CountingLLM, WordEmbedder, check_refused, create, fresh, refused, seen, some

ENCODING = (Encoding.PEM, PrivateFormat.PKCS8)
BAD = "of 1998 \udce9t\udcff"  # as os.fsdecode shows a name in Latin-1
LONE = "half \ud83d"  # which is no byte either
WORDS = {BAD: "surrogate", LONE: "surrogate", "a\0b": "NUL"}


def opened(path: Path, **options: Any) -> Erase:
    return Erase.open(path, **{"embedder": WordEmbedder(), "llm": CountingLLM(), **options})


def new_key(file: Path, password: bytes | None = None) -> tuple[Path, str]:
    """Write a private key to a file; return that and the public key."""
    secrecy = NoEncryption() if password is None else BestAvailableEncryption(password)
    file.write_bytes(Ed25519PrivateKey.generate().private_bytes(*ENCODING, secrecy))
    return file, Signer(file, password).public_key


# ---- names in other bytes ----
@pytest.mark.parametrize("outside", [True, False])
def test_a_store_and_its_receipts_may_have_any_name(tmp_path: Path, outside: bool) -> None:
    receipts = tmp_path / f"receipts {BAD}" if outside else None
    with create(tmp_path / BAD, some(12), receipts=receipts) as erase:
        erase.forget(5)
        print(erase.status(), erase.verify(), file=io.TextIOWrapper(io.BytesIO(), "utf-8"))
    shutil.copytree(tmp_path / BAD, tmp_path / "old")
    with opened(tmp_path / BAD) as erase:
        erase.forget(subject="ann")
        assert [each.number for each in erase.receipts()] == [1, 2]
        assert Path(erase.status().receipts) == (receipts or tmp_path / BAD / "receipts")
        assert erase.verify().detects_old_copies is outside
        assert seen(erase) == fresh([each for each in some(12) if each.id != 5 and each.subject != "ann"])
    if receipts is not None:
        with pytest.warns(errors.OldCopyWarning), opened(tmp_path / "old") as erase:
            assert "ann" not in {each.subject for each in erase.examples()}
        assert verify_receipts(receipts).ok


def test_a_folder_within_one_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / BAD).mkdir()
    monkeypatch.chdir(tmp_path / BAD)
    create(Path("store"), some(4), receipts="receipts").close()
    monkeypatch.chdir("/")
    with opened(tmp_path / BAD / "store") as erase:
        assert erase.forget(1).receipt
        assert Path(erase.status().receipts) == tmp_path / BAD / "receipts"


def test_files_may_have_any_name(tmp_path: Path) -> None:
    key, public = new_key(tmp_path / f"key {BAD}")
    with create(tmp_path / "a", some(4), signing_key=key, public_keys=[public], receipts=tmp_path / "r") as erase:
        rows = tmp_path / f"{BAD}.jsonl"
        assert erase.export(rows) == 4
        erase.forget(1)
    with opened(tmp_path / "a", receipts=tmp_path / "r", public_keys=public, signing_key=Signer(key)) as erase:
        assert erase.verify().keys_are_named
    assert read_examples(rows).examples == some(4)
    with create(tmp_path / "b") as erase:
        assert erase.ingest(rows).n_added == 4
    (tmp_path / BAD).write_text("one\ntwo\n")
    assert read_public_texts(tmp_path / BAD) == ["one", "two"]
    model = QKMeans(2).fit(np.eye(4))
    model.save(tmp_path / f"model {BAD}")
    assert QKMeans.load(tmp_path / f"model {BAD}").digest() == model.digest()


def test_the_command_takes_any_name(tmp_path: Path) -> None:
    store, receipts, rows = tmp_path / BAD, tmp_path / f"receipts {BAD}", tmp_path / f"{BAD}.jsonl"
    create(store, some(4), receipts=receipts, llm=None).close()
    assert json_of("status", "--store", store)["receipts"] == str(receipts)
    assert json_of("export", rows, "--store", store) == {"file": str(rows), "n_examples": 4}
    (tmp_path / f"ids {BAD}").write_text("1\n")
    report = json_of("forget", "--ids-from", tmp_path / f"ids {BAD}", "--yes", "--store", store)
    assert report["n_examples"] == 3
    assert json_of("receipts", "verify", "--folder", receipts)["ok"]
    result = shell("receipts", "list", "--store", store, env={**os.environ, "ERASE_RECEIPTS": str(receipts)})
    assert result.returncode == 0
    for arguments in (["status"], ["status", "--json"], ["receipts", "verify"]):
        result = shell(*arguments, env={**os.environ, "ERASE_STORE": str(store), "PYTHONIOENCODING": "utf-8:strict"})
        assert (result.returncode, result.stderr) == (0, ""), result.stderr


def test_an_error_about_a_file_of_any_name_can_be_printed(tmp_path: Path) -> None:
    calls: list[Callable[[], object]] = [
        lambda: Erase.open(tmp_path / BAD),
        lambda: read_examples(tmp_path / f"{BAD}.jsonl"),
        lambda: Signer(tmp_path / BAD),
        lambda: verify_receipts(tmp_path / BAD),
        lambda: read_public_texts(tmp_path / BAD),
        lambda: SentenceEmbedder(tmp_path / BAD),
    ]
    for call in calls:
        with pytest.raises(EraseError) as caught:
            call()
        print(caught.value, file=io.TextIOWrapper(io.BytesIO(), "utf-8"))
        assert r"\udce9t" in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)])
def test_every_error_says_its_message_and_nothing_else(kind: type[Exception]) -> None:
    if issubclass(kind, EraseError):
        assert str(kind("a 'message'\nin full")) == "a 'message'\nin full"
        assert str(kind(f"a file {BAD}")).isprintable()
        assert str(kind()) == ""


# ---- names and texts that are none ----
@pytest.mark.parametrize("text", [LONE, "a\0b"], ids=["half", "NUL"])
def test_no_file_has_such_a_name(tmp_path: Path, text: str) -> None:
    model = QKMeans(2).fit(np.eye(4))
    calls: dict[str, Callable[[str], object]] = {
        "path": lambda path: Erase.create(path, embedder=WordEmbedder()),
        "path of a store": lambda path: Erase.open(path),
        "receipts": lambda path: create(tmp_path / "new", receipts=path),
        "signing_key": lambda path: create(tmp_path / "new", signing_key=path),
        "public_keys": lambda path: create(tmp_path / "new", public_keys=path),
        "folder": verify_receipts,
        "public texts": read_public_texts,
        "save": model.save,
        "load": QKMeans.load,
    }
    for call in calls.values():
        refused(lambda call=call: call(str(tmp_path / text)), ParameterError, "must be a path", "character")  # type: ignore[misc]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", WORDS, ids=["bytes", "half", "NUL"])
@pytest.mark.parametrize("name", ["embedder", "llm", "base_url", "options", "template"])
def test_no_setting_has_such_a_text(tmp_path: Path, name: str, text: str) -> None:
    value: Any = {"options": [text], "template": {"instruction": text}}.get(name, text)
    more = {"llm": "a model"} if name == "base_url" else {}
    refused(
        lambda: Erase.create(tmp_path / "new", **{"embedder": WordEmbedder(), **more, name: value}),
        ParameterError,
        WORDS[text],
    )
    assert list(tmp_path.iterdir()) == []


def test_a_model_in_a_folder_that_no_setting_can_name(tmp_path: Path) -> None:
    (tmp_path / BAD).mkdir()
    create(tmp_path / "store", some(4)).close()
    for name in ("embedder", "llm"):
        words = ("surrogate", "Rename") if name == "llm" else ()
        for options in ({name: tmp_path / BAD}, {name: str(tmp_path / BAD)}):
            refused(lambda options=options: create(tmp_path / "new", **options), ParameterError, "surrogate", "Rename")  # type: ignore[misc]
            error = ParameterError if name == "llm" else EmbedderError
            refused(lambda options=options: opened(tmp_path / "store", **options), error, *words)  # type: ignore[misc]


def test_a_cache_in_a_folder_of_another_name_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    for name in ("ERASE_CORE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / BAD))
        refused(lambda: TransformersLLM(tmp_path / "a.gguf"), errors.LLMError, "ERASE_CORE_CACHE", "surrogate")
        monkeypatch.delenv(name)
    assert [each.name for each in tmp_path.iterdir()] == ["a.gguf"]


@pytest.mark.parametrize("text", WORDS, ids=["bytes", "half", "NUL"])
@pytest.mark.parametrize("field", ["id", "input", "output", "rationale", "subject"])
def test_no_example_has_such_a_text(path: Path, field: str, text: str) -> None:
    row = {"id": "a", "input": "b", "output": "c"}
    with create(path, [Example("z", "y", "x")]) as erase:
        check_refused(erase, lambda: erase.ingest([{**row, field: text}]), errors.ExampleError, WORDS[text], field)
        file = path.with_name("rows.jsonl")
        file.write_text(json.dumps({**row, field: text}))
        check_refused(erase, lambda: erase.ingest(file), errors.ExampleError, WORDS[text], field)
        assert erase.ingest([{**row, field: text}, row], skip_bad=True).n_skipped == 1


@pytest.mark.parametrize("text", WORDS, ids=["bytes", "half", "NUL"])
def test_no_question_has_such_a_text(path: Path, text: str) -> None:
    with create(path, some(8), strategy="knn", options=["a", "b"]) as erase:
        calls: list[Callable[[], object]] = [lambda: erase.prompt(text), lambda: erase.ask(text)]
        calls += [lambda: erase.demonstrations(text), lambda: erase.choose(text)]
        calls += [lambda: erase.choose("what?", ["a", text])]
        for call in calls:
            check_refused(erase, call, ParameterError, WORDS[text])
        check_refused(erase, lambda: erase.forget(text), errors.UnknownIdError)
        check_refused(erase, lambda: erase.forget(subject=text), errors.UnknownSubjectError)
        if text != "a\0b":  # which a file may hold
            check_refused(erase, lambda: erase.verify(["long enough", text]), ParameterError, "absent", "surrogate")


@pytest.mark.parametrize("text", WORDS, ids=["bytes", "half", "NUL"])
def test_no_embedding_model_has_such_a_name(path: Path, text: str) -> None:
    refused(lambda: create(path, embedder=WordEmbedder(text)), EmbedderError, "name", WORDS[text])
    assert not path.exists()
    if text != "a\0b":
        refused(lambda: SentenceEmbedder(prompt=text), ParameterError, "prompt", WORDS[text])


@pytest.mark.parametrize(("name", "dim"), [(5, 8), ("", 8), (None, 8), ("a", 0), ("a", 2.5), ("a", True), ("a", 65537)])
def test_an_embedding_model_says_what_it_is(path: Path, name: Any, dim: Any) -> None:
    refused(lambda: create(path, embedder=WordEmbedder(name, dim)), EmbedderError, "must be")
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("ask", BAD), 2),
        (("choose", "what?", "a", BAD), 2),
        (("forget", "--id", BAD, "--yes"), 2),
        (("forget", "--subject", BAD, "--yes"), 2),
        (("verify", "--absent", f"long {BAD}"), 2),
        (("ingest", f"{BAD}.jsonl"), 3),
        (("status", "--public-key", BAD), 2),
        (("status", "--receipts", BAD), 16),
        (("receipts", "verify", "--folder", BAD), 2),
        (("forget", "--id", "1", "--yes", "--signing-key", BAD), 2),
    ],
    ids=lambda value: " ".join(value)[:20] if isinstance(value, tuple) else "",
)
def test_the_command_refuses_what_is_no_text(tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    create(tmp_path / "store", some(4), llm=None, options=["a"]).close()
    check_ended(shell(*arguments, "--store", tmp_path / "store"), code)


def test_a_password_in_other_bytes_is_a_password(tmp_path: Path) -> None:
    key, _ = new_key(tmp_path / "key", b"caf\xe9")
    create(tmp_path / "store", some(4), llm=None).close()
    environment = {**os.environ, "ERASE_SIGNING_PASSWORD": os.fsdecode(b"caf\xe9")}
    result = shell("forget", "--id", 1, "--yes", "-s", tmp_path / "store", "--signing-key", key, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
