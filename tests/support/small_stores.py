"""What the tests of the facade share: small models, stores, all that can be seen of one, a process that has one.

It judges nothing. The embedder and the language model here are as the protocols want them, but fast; the real ones are
tested elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from erase_core.calls.open_store import OpenStore
from erase_core.calls.opening import GivenKeys, open_existing
from erase_core.erase import Erase
from erase_core.errors import EraseError
from erase_core.examples.example import Example, NewExample
from erase_core.llm import Answer, Choice
from erase_core.llm.prompt import Prompt
from erase_core.reports import Route
from erase_core.store.transaction import WriteTransaction
from numpy.typing import NDArray

Id = int | str

# Stores wait for the disk at every write; hypothesis writes thousands of times.
FAST_FOLDER = "/dev/shm" if os.path.isdir("/dev/shm") else None
DIM = 8
QUERIES = ("where is my parcel", "refund the late parcel please")
WORDS = ("parcel", "late", "refund", "please", "broken")


# Settings of a store whose queries all get the same prompt, and take one call of the language model.
ONE_PROMPT: dict[str, Any] = {"strategy": "kmeans", "calibrate": False}


class WordEmbedder:
    """The sum of a text's words, each a vector drawn by its hash. Fails at the texts, with the errors, of `fails`."""

    def __init__(self, name: str = "words", dim: int = DIM) -> None:
        self.name, self.dim = name, dim
        self.fails: dict[str, BaseException] = {}
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        return np.array([self._vector(text) for text in texts], dtype=np.float32).reshape(len(texts), self.dim)

    def _vector(self, text: str) -> NDArray[np.float32]:
        self.texts.append(text)
        if text in self.fails:
            raise self.fails[text]
        total = np.zeros(self.dim)
        for word in text.split():
            key = hashlib.blake2b(word.encode(), digest_size=8, key=self.name.encode()).digest()
            total += np.random.default_rng(int.from_bytes(key, "big")).normal(size=self.dim)
        vector: NDArray[np.float32] = (total / np.linalg.norm(total)).astype(np.float32)
        return vector


class CountingLLM:
    """Answers with the last demonstration's answer, and counts: words as tokens, and what it was asked to do."""

    name = "counting"

    def __init__(self, context_length: int | None = None) -> None:
        self.context_length = context_length
        self.prompts: list[Prompt] = []
        self.forgotten = 0
        self.error: BaseException | None = None

    def count_tokens(self, prompt: Prompt) -> int:
        return len(prompt.text.split())

    def generate(self, prompt: Prompt, *, max_tokens: int = 64) -> Answer:
        self._record(prompt)
        text = prompt.demonstrations[-1].output if prompt.demonstrations else "unknown"
        return Answer(text, self.count_tokens(prompt), len(text.split()), 0.0)

    def choose(self, prompt: Prompt, options: Sequence[str]) -> Choice:
        self._record(prompt)
        return Choice(options[0], dict.fromkeys(options, 0.0), 0.0)

    def forget(self) -> None:
        self.forgotten += 1

    def _record(self, prompt: Prompt) -> None:
        self.prompts.append(prompt)
        if self.error is not None:
            raise self.error


# ---- stores ----
def example(id_: Id, text: str | None = None, subject: str | None = None) -> Example:
    """An example whose fields follow from its id."""
    text = f"{WORDS[hash_of(id_) % len(WORDS)]} number {id_}" if text is None else text
    return Example(id_, text, f"answer {id_}", subject=subject)


def without_id(example: Example) -> NewExample:
    """The same example, for a store to number."""
    return NewExample(input=example.input, output=example.output, rationale=example.rationale, subject=example.subject)


def hash_of(value: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(value).encode(), digest_size=4).digest(), "big")


def some(count: int, first: int = 0) -> list[Example]:
    """Examples with the ids from `first` on, of three subjects and of none."""
    return [example(i, subject=(None, "ann", "bob", "cem")[i % 4]) for i in range(first, first + count)]


def create(path: Path, examples: Sequence[Example] = (), **settings: Any) -> Erase:
    """A store with these examples."""
    usual = {"n_shots": 3, **ONE_PROMPT, "embedder": WordEmbedder(), "llm": CountingLLM()}
    erase = Erase.create(path, **{**usual, **settings})
    if examples:
        erase.ingest(list(examples))
    return erase


def reopened(path: Path, timeout: float = 0.05) -> Erase:
    """A handle on a store, which does not wait long for others."""
    return unchecked(path, CountingLLM(), timeout=timeout)


def unchecked(
    path: Path, llm: CountingLLM | None = None, *, timeout: float = 1, public_keys: Sequence[str] = ()
) -> Erase:
    """A handle on a store as it lies there: nothing is recovered, and old copies are not noticed."""
    keys = GivenKeys(None, public_keys)
    options: Any = {"api_key": None, "server": None, "receipts": None}
    return Erase(open_existing(path, keys, embedder=WordEmbedder(), llm=llm, timeout=timeout, **options))


def parts_of(erase: Erase) -> OpenStore:
    """What a facade works with. A test looks there for what no call shows, such as locks, or a model that is loaded."""
    return erase._opened


@contextmanager
def new_path() -> Iterator[Path]:
    """Where a store can be made, for as long as this lasts."""
    with tempfile.TemporaryDirectory(dir=FAST_FOLDER) as folder:
        yield Path(folder) / "store"


# What differs between stores of the same examples: where they lie, how they were written, what was forgotten before.
UNLIKE = ("folder", "bytes", "n_receipts", "receipts")


class Seen(NamedTuple):
    """All that can be seen of a store that follows from its examples and settings alone."""

    examples: list[Example]
    status: dict[str, Any]
    demonstrations: list[list[Example]]
    prompts: list[str]
    routes: list[Route]


def seen(erase: Erase) -> Seen:
    """What a store shows, after it has verified itself."""
    verification = erase.verify()
    assert verification.ok, verification
    status = erase.status().to_dict()
    assert status["digest"] == verification.digest
    return Seen(
        erase.examples(),
        {name: value for name, value in status.items() if name not in UNLIKE},
        [erase.demonstrations(query) for query in QUERIES],
        [erase.prompt(query).text for query in QUERIES],
        [erase.route(query) for query in QUERIES if erase.settings.n_prompts is not None],
    )


def seen_anew(path: Path) -> Seen:
    """What a handle that is opened for the purpose shows."""
    with reopened(path) as erase:
        return seen(erase)


def fresh(examples: Sequence[Example], **settings: Any) -> Seen:
    """What a new store of these examples shows, which took them in in two parts, and in another order."""
    with new_path() as path, create(path, **settings) as erase:
        for part in (examples[1::2], examples[::2]):
            if part:
                erase.ingest([replace(example) for example in reversed(part)])
        return seen(erase)


def exported(erase: Erase) -> bytes:
    """The store's export."""
    with new_path() as path:
        erase.export(path)
        return path.read_bytes()


def check_refused(erase: Erase, call: Callable[[], object], error: type[BaseException], *words: str) -> None:
    """The call raises this very class in one line with these words, and the store is as it was."""
    before = (exported(erase), seen(erase), erase.status().bytes)
    refused(call, error, *words)
    assert (exported(erase), seen(erase), erase.status().bytes) == before


def refused(call: Callable[[], object], error: type[BaseException], *words: str) -> None:
    """The call raises this very class in one line with these words."""
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    message = str(caught.value)
    assert "\n" not in message
    assert message or not isinstance(caught.value, EraseError)
    assert not [word for word in words if word not in message], message


# ---- writes ----
WRITES: dict[str, tuple[str, dict[str, Any]]] = {
    "ingest": ("ingest", {"source": some(3, 100)}),
    "forget": ("forget", {"ids": [1, 2]}),
    "forget subject": ("forget", {"subject": "ann"}),
}


def write(erase: Erase, name: str) -> None:
    method, options = WRITES[name]
    getattr(erase, method)(**options)


# ---- files ----
def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its name, those within folders too."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): read(file) for file in files}


def read(file: Path) -> bytes:
    """A file's content, SQLite's read by another process: this one would lose its locks on what it closes."""
    return subprocess.check_output(["cat", file]) if ".sqlite" in file.name else file.read_bytes()


def found(folder: Path, needles: Mapping[str, bytes]) -> dict[str, list[str]]:
    """The files in which each of the needles is found; none that is nowhere."""
    files = contents(folder)
    places = {name: [file for file, content in files.items() if needle in content] for name, needle in needles.items()}
    return {name: files for name, files in places.items() if files}


# ---- another process ----
class Elsewhere:
    """A process with a store of its own: calls are made there, and their results or errors brought here."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there,), daemon=True)
        self._process.start()
        self.pid = self._process.pid
        there.close()

    def __call__(self, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of the store, or one of `Serving`; EOFError if the process does not survive it."""
        self._connection.send((method, args, options))
        failed, result = self._connection.recv()
        if failed:
            raise result
        return result

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()


class Serving:
    """What the other process can do beside the methods of `Erase`."""

    def __init__(self) -> None:
        self.llm = CountingLLM()
        self.erase: Erase | None = None
        self._writing: Any = None

    def open(self, path: Path) -> None:
        if self.erase is not None:
            self.erase.close()
        self.llm = CountingLLM()
        self.erase = Erase.open(path, embedder=WordEmbedder(), llm=self.llm)

    def begin_write(self) -> None:
        assert self.erase is not None
        self._writing = parts_of(self.erase).store.writing()
        self._writing.__enter__()

    def end_write(self) -> None:
        self._writing.__exit__(None, None, None)

    def text(self) -> str:
        assert self.erase is not None
        return self.erase.prompt(QUERIES[0]).text

    def llm_forgotten(self) -> int:
        return self.llm.forgotten

    def die_before_commit(self) -> None:
        """Let the next write end the process when all is written and not yet committed."""
        end = WriteTransaction.end

        def die(self: WriteTransaction) -> None:
            end(self)
            os.kill(os.getpid(), signal.SIGKILL)

        WriteTransaction.end = die  # type: ignore[method-assign]


def _serve(connection: Connection) -> None:
    serving = Serving()
    while True:
        method, args, options = connection.recv()
        try:
            target = serving if hasattr(serving, method) else serving.erase
            connection.send((False, getattr(target, method)(*args, **options)))
        except Exception as error:
            connection.send((True, error))
