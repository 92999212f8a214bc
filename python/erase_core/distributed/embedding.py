"""Embedding on the workers of an engine, to the very bits that this process would give.

The texts are shared out in whole batches, and each goes to a worker as an argument of a call: nothing of it is put
into an engine's store. Before a worker gets any, it embeds the probe texts of the package, and its vectors must have
the bits of those embedded here.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erase_core.distributed.embedding_holder import PROCESS, EmbeddingHolder, Probed, probed
from erase_core.distributed.engines.choosing import connected
from erase_core.distributed.engines.protocol import Engine, Lost, Place
from erase_core.embedding.sentence import Embedder, each_once, probe_texts
from erase_core.errors import EmbedderError, EraseError, NotPicklableError, WorkerLostError, first_line
from erase_core.progress import bar

__all__ = ["EngineEmbedder", "chunks_of"]

# Texts that go to a worker at once, at least: some batches. And how often a worker that died is replaced, each time.
AT_ONCE, TRIES = 64, 3


class EngineEmbedder:
    """An embedder whose `embed` runs on the workers of an engine.

    Parameters
    ----------
    embedder : Embedder
        It must be possible to pickle it. Each worker loads it for itself.
    engine : distributed.Client, Engine or str
        ``"dask://host:port"``, ``"ray"``, ``"ray://host:port"`` or ``"local"``. What is connected here is disconnected
        after each `embed`.

    Attributes
    ----------
    name, dim
        Those of the embedder.
    """

    def __init__(self, embedder: Embedder, engine: Any) -> None:
        self.name, self.dim = embedder.name, int(embedder.dim)
        self._embedder = embedder
        self._engine = engine

    def embed(self, texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        """Return the vectors of texts, in their order: ndarray of shape (n_texts, dim). Equal texts are embedded once.

        Parameters
        ----------
        texts : sequence of str
        progress : bool, default=False
            Show a progress bar if stderr is a terminal.

        Raises
        ------
        EmbedderError
            A worker cannot load the model, or gives other bits than this process, or the model fails.
        WorkerLostError
            No worker is left.
        MissingPackageError
            The package of the engine is not installed.
        NotPicklableError
            The embedder cannot be sent to a worker.
        """
        unique, places = each_once(texts)
        with connected(self._engine) as engine, bar("Embedding", len(unique), shown=progress) as advance:
            if not unique:
                return np.empty((0, self.dim), dtype=np.float32)
            return _Sharing(engine, self._embedder, unique, advance).run()[places]


class _Sharing:
    """One call of `embed`: a thread for each worker takes texts until there are none."""

    def __init__(self, engine: Engine, embedder: Embedder, texts: list[str], advance: Callable[[int], object]) -> None:
        self._engine, self._embedder, self._texts, self._advance = engine, embedder, texts, advance
        self._waiting = deque(chunks_of(embedder, texts))
        self._vectors = np.empty((len(texts), embedder.dim), dtype=np.float32)
        self._model = _pickled(embedder)
        self._probes = probe_texts()
        self._here = probed(embedder, self._probes)
        self._starting = Lock()  # an engine starts hosts from one thread at a time
        self._fresh: list[Place] = []
        self._errors: list[BaseException] = []
        self._lost: Lost | None = None

    def run(self) -> NDArray[np.float32]:
        """Return the vectors of all texts."""
        while self._waiting:
            self._lost = None
            before = len(self._waiting)
            count = min(_workers(self._engine), before)
            try:
                # All at once, so that the engine knows how many share its processors.
                self._fresh = self._engine.start(count)
            except Lost as error:
                self._lost = error
            try:
                with ThreadPoolExecutor(count) as pool:
                    for _ in range(count):
                        pool.submit(self._work)
            except BaseException:  # interrupted: the threads end after what they are doing
                self._waiting.clear()
                raise
            finally:
                while self._fresh:
                    self._stop(self._fresh.pop())
            if self._errors:
                raise self._errors[0]
            if self._lost is not None and len(self._waiting) == before:
                raise WorkerLostError(
                    f"worker {self._lost.place.name} is lost, and no other takes its place. Workers need erase-core "
                    "in the version of this process, with the extra llm, and memory for the model. Start such workers, "
                    "and repeat."
                )
        return self._vectors

    def _work(self) -> None:
        place, tries = None, 0
        try:
            while self._waiting and not self._errors and tries <= TRIES:
                try:
                    place = place or self._started()
                    self._take(place)
                    tries = 0
                except Lost as error:
                    self._stop(place)
                    place, self._lost = None, error
                    tries += 1
        except BaseException as error:
            self._errors.append(error)
        finally:
            self._stop(place)

    def _take(self, place: Place) -> None:
        """Let a worker embed some texts. They wait again if it dies."""
        try:
            chunk = self._waiting.popleft()
        except IndexError:  # another thread was faster
            return
        try:
            vectors = self._ask(place, "embed", [self._texts[at] for at in chunk])
        except Lost:
            self._waiting.append(chunk)
            raise
        if vectors.shape != (len(chunk), self._vectors.shape[1]):
            raise EmbedderError(
                f"the embedding model {self._embedder.name} must return vectors of shape "
                f"({len(chunk)}, {self._vectors.shape[1]}), but on worker {place.name} it returned {vectors.shape}"
            )
        self._vectors[chunk] = vectors
        vectors.fill(0)
        self._advance(len(chunk))

    def _started(self) -> Place:
        """Return a new worker, whose bits are those of this process."""
        with self._starting:
            place = self._fresh.pop() if self._fresh else self._engine.start(1)[0]
        try:
            self._ask(place, "hold", EmbeddingHolder)
            self._ask(place, "load", self._model, PROCESS)
            there: Probed
            # First with the threads that are the worker's own.
            for threads in dict.fromkeys((place.threads, self._here.threads)):
                there = self._ask(place, "probe", self._probes, threads)
                if there.hashes == self._here.hashes:
                    return place
        except BaseException:
            self._stop(place)
            raise
        self._stop(place)
        raise EmbedderError(_difference(place, there, self._here))

    def _ask(self, place: Place, method: str, *arguments: Any) -> Any:
        try:
            return self._engine.gather([self._engine.call(place, method, *arguments)])[0]
        except Lost:
            raise
        except EraseError as error:
            raise EmbedderError(f"worker {place.name}: {error}") from None
        except Exception as error:  # an older version of the package, for example
            reason = "" if method == "embed" else f" ({first_line(error)})"
            raise EmbedderError(
                f"worker {place.name} fails with {type(error).__name__}{reason}. Workers need erase-core in the "
                "version of this process, with the extra llm."
            ) from None

    def _stop(self, place: Place | None) -> None:
        if place is not None:
            with self._starting:
                self._engine.stop(place)


def chunks_of(embedder: Embedder, texts: list[str]) -> list[list[int]]:
    """Return the positions of texts that go to a worker at once: whole batches, if the embedder has batches."""
    if not hasattr(embedder, "batches"):
        positions = iter(range(len(texts)))
        return list(iter(lambda: list(islice(positions, AT_ONCE)), []))
    chunks: list[list[int]] = [[]]
    for batch in embedder.batches(texts):
        if len(chunks[-1]) >= AT_ONCE:
            chunks.append([])
        chunks[-1] += batch
    return chunks


def _pickled(embedder: Embedder) -> bytes:
    try:
        return pickle.dumps(embedder, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # a class may raise anything
        raise NotPicklableError(
            f"the embedding model {embedder.name} cannot be sent to workers ({first_line(error)}). Give its class a "
            "`__reduce__` method, or ingest without an engine."
        ) from None


def _workers(engine: Engine) -> int:
    try:
        return engine.workers
    except (OSError, TimeoutError):
        raise WorkerLostError("the engine has no workers. Start some, and repeat.") from None


def _difference(place: Place, there: Probed, here: Probed) -> str:
    """Return what is said of a worker whose bits differ."""
    differ = sum(one != other for one, other in zip(there.hashes, here.hashes, strict=True))
    facts = [
        f"{name} {there.facts.get(name, 'missing')} there and {here.facts.get(name, 'missing')} here"
        for name in dict.fromkeys((*here.facts, *there.facts))
        if there.facts.get(name) != here.facts.get(name)
    ]
    seen = f" They differ in: {', '.join(facts)}." if facts else ""
    return (
        f"worker {place.name} ({there.where}) gives {differ} of {len(here.hashes)} probe texts other bits than this "
        f"process.{seen} Give all of them the same versions of the packages and processors or devices of one kind, or "
        "leave this worker out. Nothing was ingested."
    )
