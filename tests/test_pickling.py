"""Copies and pickles: of a handle another handle on the same store, of all else that is public an equal object."""

from __future__ import annotations

import asyncio
import copy
import pickle
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from erase_core import (
    AsyncErase,
    BadRow,
    ChainVerification,
    Choice,
    Erase,
    ErasureReport,
    NotPicklableError,
    OpenAILLM,
    Problem,
    Prompt,
    PromptChanges,
    QKMeans,
    Route,
    ServerOptions,
    Settings,
    Signer,
    Template,
    TransformersLLM,
    errors,
    read_examples,
    report_erasure,
    verify_receipts,
)
from erase_core.errors import EraseError, ParameterError, ReceiptError, StoreError
from erase_core.llm import Answer
from numpy.typing import NDArray
from receipts_by_hand import new_keys
from small_models import make_model
from small_stores import QUERIES, CountingLLM, WordEmbedder, create, example, fresh, parts_of, refused, seen, some

COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "old pickle": lambda thing: pickle.loads(pickle.dumps(thing, protocol=2)),
}
copies = pytest.mark.parametrize("way", COPIES)


class Locked(WordEmbedder):
    """An embedder that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Plain(WordEmbedder):
    """An embedder that is pickled without the texts that it has seen."""

    def __reduce__(self) -> Any:
        return Plain, ()


class Nameless(CountingLLM):
    def __reduce__(self) -> Any:
        raise AttributeError("line one\nline two")


# ---- handles ----
@copies
def test_a_copy_is_a_handle_of_its_own(path: Path, way: str) -> None:
    with create(path, some(12)) as erase:
        other = COPIES[way](erase)
        assert type(other) is Erase
        assert seen(other) == seen(erase)
        other.forget(5)
        assert seen(erase) == seen(other) == fresh([each for each in some(12) if each.id != 5])
        other.close()
        erase.ingest([example(99)])
        assert erase.status().n_examples == 12
        third = COPIES[way](erase)
    with third:
        third.forget(99)
        assert third.verify().ok
        refused(erase.status, StoreError, "closed")


@copies
def test_a_copy_of_coroutines_has_a_handle_of_its_own(path: Path, way: str) -> None:
    with create(path, some(6)) as erase:
        other = COPIES[way](AsyncErase(erase))
        assert type(other) is AsyncErase
        assert other.erase is not erase
        asyncio.run(other.forget(5))
        assert seen(erase) == seen(other.erase) == fresh(some(5))
        asyncio.run(other.close())
        assert erase.status().n_examples == 5


@copies
def test_a_closed_handle_has_no_copy(path: Path, way: str) -> None:
    erase = create(path, some(3))
    erase.close()
    refused(lambda: COPIES[way](erase), StoreError, "closed")


@copies
def test_a_copy_has_the_folder_of_the_receipts_and_the_keys(path: Path, tmp_path: Path, way: str) -> None:
    keys = new_keys(tmp_path)
    create(path, some(12), receipts=tmp_path / "receipts").close()
    shutil.move(tmp_path / "receipts", tmp_path / "moved")
    options: dict[str, Any] = {"receipts": tmp_path / "moved", "signing_key": keys.private}
    with Erase.open(path, embedder=WordEmbedder(), llm=CountingLLM(), **options, public_keys=[keys.public]) as erase:
        erase.forget(1)
        with COPIES[way](erase) as other:
            assert other.status().receipts == str(tmp_path / "moved")
            assert other.forget(2).receipt.public_key == keys.public
            assert other.verify().keys_are_named
            assert [each.number for each in erase.receipts()] == [1, 2]
    assert verify_receipts(tmp_path / "moved", public_keys=[keys.public]).ok


@copies
def test_a_copy_has_the_models_and_the_timeout(path: Path, tmp_path: Path, way: str) -> None:
    folder = make_model(tmp_path / "llm", "llama")
    with create(path, some(6), strategy="knn", llm=folder, timeout=0.125) as erase, COPIES[way](erase) as other:
        assert parts_of(other).store.timeout == 0.125
        assert other.demonstrations(QUERIES[0]) == erase.demonstrations(QUERIES[0])
        assert other.status().llm == erase.status().llm == str(folder)
        assert parts_of(other).backends.llm.name == parts_of(erase).backends.llm.name
    with Erase.open(path, embedder=WordEmbedder(), llm=CountingLLM()) as erase, COPIES[way](erase) as other:
        assert other.status().llm == "counting"
        assert other.settings == erase.settings


def test_copies_in_this_process_share_the_models(path: Path) -> None:
    with create(path, some(6), embedder=Locked(), llm=Nameless()) as erase:
        for way in ("copy", "deepcopy"):
            with COPIES[way](erase) as other:
                assert parts_of(other).backends.embedder is parts_of(erase).backends.embedder
                assert parts_of(other).backends.llm is parts_of(erase).backends.llm


@pytest.mark.parametrize(("name", "model"), [("embedder", Locked()), ("llm", Nameless())])
def test_a_model_that_cannot_be_pickled_is_named(path: Path, name: str, model: Any) -> None:
    with create(path, some(3), **{name: model}) as erase:
        words = (name, type(model).__name__, "__reduce__", f"{name}=")
        refused(lambda: pickle.dumps(erase), NotPicklableError, *words)
        assert erase.status().n_examples == 3


@copies
def test_a_copy_of_a_store_that_is_gone_or_old_is_opened_like_any_other(path: Path, tmp_path: Path, way: str) -> None:
    with create(path, some(6), receipts=tmp_path / "receipts") as erase:
        shutil.copytree(path, tmp_path / "old")
        erase.forget(1)
        shutil.move(path, tmp_path / "elsewhere")
        refused(lambda: COPIES[way](erase), StoreError)
    with pytest.warns(errors.OldCopyWarning):
        old = Erase.open(tmp_path / "old", embedder=WordEmbedder(), llm=CountingLLM())
    with old, COPIES[way](old) as other:
        assert [each.id for each in other.examples()] == [0, 2, 3, 4, 5]
        shutil.rmtree(tmp_path / "receipts")
        refused(lambda: COPIES[way](other), ReceiptError)


def test_another_process_works_on_a_pickled_handle(path: Path) -> None:
    with create(path, some(12)) as erase:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            assert pool.submit(_forget, erase, 5).result() == 11
        assert seen(erase) == fresh([each for each in some(12) if each.id != 5])


def _forget(erase: Erase, id_: int) -> int:
    with erase:
        return erase.forget(id_).n_examples


def test_a_pickle_holds_no_example(path: Path) -> None:
    canary = example(7, "a canary of the users", subject="canary-subject")
    with create(path, [*some(6), canary], embedder=Plain(), llm=None, options=["a"]) as erase:
        erase.demonstrations(QUERIES[0])
        assert canary in erase.examples()
        assert not [word for word in (b"canary", b"number 3") if word in pickle.dumps(erase)]


# ---- keys and models ----
@copies
def test_a_signer_is_pickled_as_the_name_of_its_file(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = new_keys(tmp_path)
    monkeypatch.chdir(tmp_path)
    signer = Signer(keys.private.name)
    monkeypatch.chdir("/")
    assert COPIES[way](signer).sign(b"a") == signer.sign(b"a")
    secret = keys.private.read_bytes()
    assert not [line for line in secret.splitlines()[1:-1] if line in pickle.dumps(signer)]
    pickled = pickle.dumps(signer)
    new_keys(tmp_path)
    refused(lambda: pickle.loads(pickled), ParameterError, "public_key")


def test_a_password_is_not_pickled(path: Path, tmp_path: Path) -> None:
    content = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (tmp_path / "key").write_bytes(content)
    signer = Signer(tmp_path / "key", b"secret")
    refused(lambda: pickle.dumps(signer), NotPicklableError, "password")
    with create(path, some(3), signing_key=signer) as erase:
        refused(lambda: pickle.dumps(erase), NotPicklableError, "password")
        with copy.copy(erase) as other:
            receipt = other.forget(1).receipt
            assert receipt is not None
            assert receipt.public_key == signer.public_key


@copies
def test_a_language_model_is_loaded_again_without_what_it_was_asked(folders: Any, way: str) -> None:
    folder = folders("llama")
    llm = TransformersLLM(folder)
    prompt = Prompt(Template(), tuple(some(2)), "a canary question")
    n_tokens = llm.count_tokens(prompt)
    assert b"canary" not in pickle.dumps(llm)
    other = COPIES[way](llm)
    assert (other.name, other.chat, other.context_length) == (llm.name, llm.chat, llm.context_length)
    assert other.count_tokens(prompt) == n_tokens


def test_a_model_that_was_replaced_is_another(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "llm", "llama")
    pickled = pickle.dumps(TransformersLLM(folder))
    shutil.rmtree(folder)
    make_model(folder, "llama", seed=1)
    refused(lambda: pickle.loads(pickled), ParameterError, "name")


@copies
def test_a_server_is_pickled_without_a_key(way: str) -> None:
    options = ServerOptions(timeout=2.5, max_retries=1, context_length=77, parameters={"top_k": 1})
    url = "http://127.0.0.1:9/v1?tier=1"
    llm = OpenAILLM("m", base_url=url, **asdict(options))
    other = COPIES[way](llm)
    assert (other.name, other.context_length) == (llm.name, 77)
    assert other._connection._options == options
    assert str(other._connection._client.base_url) == str(llm._connection._client.base_url)
    for secret in ({"api_key": "sk-secret"}, {"base_url": "http://me:sk-secret@127.0.0.1:9/v1"}):
        known = OpenAILLM("m", **{"base_url": url, **secret})  # type: ignore[arg-type]
        refused(partial(pickle.dumps, known), NotPicklableError, "api_key", "password")


def test_a_handle_with_a_key_is_copied_and_not_pickled(path: Path) -> None:
    create(path, some(4), llm="m", base_url="http://127.0.0.1:9/v1").close()
    server = {"timeout": 7.0}
    with Erase.open(path, embedder=WordEmbedder(), api_key="sk-secret", server=server) as erase:
        refused(lambda: pickle.dumps(erase), NotPicklableError, "api_key")
        with copy.copy(erase) as other:
            assert (parts_of(other).backends.access.api_key, parts_of(other).backends.access.server) == (
                "sk-secret",
                server,
            )
    with Erase.open(path, embedder=WordEmbedder(), server=server) as erase, pickle.loads(pickle.dumps(erase)) as other:
        assert parts_of(other).backends.access.server == server


# ---- all else ----
@copies
def test_what_is_returned_has_equal_copies(path: Path, way: str) -> None:
    with create(path, some(8)) as erase:
        things: list[Any] = [erase.ingest([example(50)]), erase.forget(1), erase.forget(2).receipt, erase.status()]
        things += [PromptChanges([], [[1, 2], []]), Route(0, 2, [1, "a"], 0.5, None)]
        things += [erase.verify(), erase.settings, Settings(template=Template("do")), erase.prompt("what?")]
        things += [example(1), Template("a"), read_examples([{"input": "a", "output": "b"}]), BadRow("a", 1, None, "b")]
        things += [report_erasure(erase, 1)]
        assert isinstance(things[-1], ErasureReport)
        things += [
            ServerOptions(parameters={"a": [1]}),
            Choice("a", {"a": 0.0}, 0.0),
            Answer("a", 1, 1, 0.0),
            Problem(3, "tampered", "receipt 3 was changed"),
            verify_receipts(path / "receipts"),
        ]
        assert isinstance(things[-1], ChainVerification)
        for thing in things:
            again = COPIES[way](thing)
            assert type(again) is type(thing)
            assert again == thing


@copies
def test_a_model_has_equal_copies_that_go_their_own_way(way: str) -> None:
    X: NDArray[np.float64] = np.random.default_rng(0).normal(size=(40, 6))
    model = QKMeans(4).fit(X)
    other = COPIES[way](model)
    assert other.digest() == model.digest()
    other.remove(3)
    assert 3 in model.ids_
    assert model.digest() == QKMeans(4).fit(X).digest()
    assert COPIES[way](QKMeans(3, epsilon=0.5)).get_params() == QKMeans(3, epsilon=0.5).get_params()


@copies
def test_a_report_of_an_update_has_equal_copies(way: str) -> None:
    model = QKMeans(4).fit(np.random.default_rng(0).normal(size=(40, 6)))
    names = ("n_added", "n_removed", "path", "first_iteration", "work", "seconds")
    for report in (model.remove(3), model.remove([4, 5]), model.add(np.eye(6)[:2], ids=[100, 101])):
        again = COPIES[way](report)
        assert [getattr(again, name) for name in names] == [getattr(report, name) for name in names]
        assert repr(again) == repr(report)


@copies
@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)])
def test_errors_have_equal_copies(kind: type[Exception], way: str) -> None:
    if not issubclass(kind, (EraseError, Warning)):
        return
    error: Any = kind("what is wrong; what to do")
    error.report = 5
    again = COPIES[way](error)
    assert (type(again), str(again), again.args, again.report) == (kind, str(error), error.args, 5)


def test_every_public_class_is_copied_here_or_is_no_object() -> None:
    """So that one which is added later is thought of."""
    import erase_core

    classes = {name for name in erase_core.__all__ if isinstance(getattr(erase_core, name), type)}
    raised = {name for name in classes if issubclass(getattr(erase_core, name), Exception)}
    protocols = {"LLM", "Embedder"}
    made_by_others = {
        "ForgetReport",
        "IngestReport",
        "Status",
        "Verification",
        "WarmReport",
        "Receipt",
        "ReceiptRef",
        "Reading",
    }
    made_by_others |= {"ScanReport", "ScanFinding", "UnreadPlace"}
    made_by_others |= {"Example", "NewExample", "UpdateReport", "Answer", "SentenceEmbedder"}
    only_types = {"GivenSettings"}
    named = {name for name in classes if name in globals()}
    assert classes == raised | protocols | only_types | made_by_others | named
