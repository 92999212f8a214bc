"""What can be asked of a store that changes no example: demonstrations, prompts, answers, whether it is sound.

What changes it is pipeline.py's business.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray

from erase_core import checks
from erase_core._core import Model
from erase_core.backends import Access, Backends, checked_vectors
from erase_core.embedding.sentence import Embedder
from erase_core.erasure.removal import Removals
from erase_core.errors import ParameterError, StopWarning, StoreError
from erase_core.examples.control_tokens import check_texts
from erase_core.examples.example import Example
from erase_core.examples.formats import write_jsonl
from erase_core.llm import LLM, Answer, Choice
from erase_core.llm.prompt import Prompt, Template, check_query, fit_budget
from erase_core.llm.protocol import check_max_tokens, check_options
from erase_core.receipts.chain import as_noted
from erase_core.receipts.receipt import Receipt
from erase_core.receipts.signing import Signer
from erase_core.reports import Status, Verification
from erase_core.selection import SELECTORS, select_demonstrations
from erase_core.settings import Settings
from erase_core.store.model_cache import Clustering
from erase_core.store.store import Store
from erase_core.verify.scan import forms_of_text, forms_of_vector
from erase_core.verify.verification import verify

__all__ = ["Reader"]


class Reader:
    """A store that is read. See `Erase`, which is one."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder | None,
        llm: LLM | None,
        *,
        receipts: Path | None = None,
        signer: Signer | None = None,
        public_keys: frozenset[str] = frozenset(),
        access: Access | None = None,
    ) -> None:
        self._store = store
        self._settings = store.facts.settings
        self._clustering = Clustering(store)
        self._removals = Removals(store, self._clustering, receipts, signer, public_keys)
        self._models = Backends(self._settings, store.facts.embedder, store.facts.dim, access or Access())
        if embedder is not None:
            self._models.embed_by(embedder)
        self._models.answer_by(llm)
        self._seen: int | None = None
        self._lock = threading.RLock()

    def close(self) -> None:
        """Let go of the store and of what the language model keeps of prompts."""
        with self._lock:
            self._models.forget()
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def settings(self) -> Settings:
        """What the store was created with."""
        return self._settings

    @property
    def id_type(self) -> type[int] | type[str] | None:
        """Whether ids are integers or text; None for a store without examples."""
        with self._lock, self._reading():
            return self._store.id_type

    def demonstrations(self, query: str | None = None) -> list[Example]:
        """Return the examples that are shown, in their order.

        Parameters
        ----------
        query : str or None, default=None
            Needed where the selection depends on it (``strategy="knn"``).

        Raises
        ------
        ParameterError
            A query is needed, and there is none, or it is blank.
        EmbedderError, MissingPackageError
            A query is needed, and the embedding model cannot be loaded.
        StoreError
            The store cannot be read: it was closed, moved or damaged.
        """
        with self._lock:
            vector = None
            if SELECTORS[self._settings.strategy].per_query:
                if query is None:
                    raise ParameterError("query must be given, since the demonstrations depend on it")
                self._check_query(query)
                # Before the store is read: whoever reads for long holds up those who forget.
                vector = checked_vectors(self._models.embedder, [query])[0]
            with self._reading():
                return self._shown(self._clustering.current(), vector)

    def prompt(self, query: str) -> Prompt:
        """Return the prompt for a query: its `text`, or its `messages` for a chat.

        Raises
        ------
        ParameterError
            The query is blank, or holds a control token that is refused.
        EmbedderError, MissingPackageError, StoreError
            As for `demonstrations`.
        """
        with self._lock:
            self._check_query(query)
        return Prompt(self._settings.template or Template(), tuple(self.demonstrations(query)), query)

    def ask(self, query: str, *, max_tokens: int = 64) -> Answer:
        """Return the language model's answer to a query.

        Demonstrations that do not fit the context are left out: from the last one on, of neighbours the farthest.

        Parameters
        ----------
        query : str
        max_tokens : int, default=64
            Most tokens of the answer, from 1 to 2**20.

        Raises
        ------
        ParameterError
            The query is blank, or holds a control token that is refused, or `max_tokens` is out of its range.
        PromptTooLongError
            The query alone does not fit.
        LLMError, ServerError, MissingPackageError
            The model cannot be loaded or reached, or makes no sense.
        EmbedderError, StoreError
            As for `demonstrations`.

        Warns
        -----
        StopWarning
            Demonstrations have answers of more lines than the template's stop lets through.
        """
        with self._lock:
            check_max_tokens(max_tokens)
            llm = self._models.llm
            prompt = self._fitting(query, llm, max_tokens)
            if prompt.n_cut_answers:
                cut = f"{prompt.n_cut_answers} of {len(prompt.demonstrations)} demonstrations"
                warnings.warn(
                    f"the template's stop {prompt.template.stop!r} is in the answers of {cut}, and cuts the model's "
                    "answer too; create the store with another stop (template, or --stop)",
                    StopWarning,
                    stacklevel=2,
                )
            return llm.generate(prompt, max_tokens=max_tokens)

    def choose(self, query: str, options: Sequence[str] | None = None) -> Choice:
        """Return the option that the language model prefers as an answer to a query.

        Parameters
        ----------
        query : str
        options : sequence of str or None, default=None
            None for the store's.

        Raises
        ------
        ParameterError
            There are no options, or one is blank or there twice; or a control token is refused.
        PromptTooLongError, LLMError, ServerError, MissingPackageError, EmbedderError, StoreError
            As for `ask`.
        """
        with self._lock:
            chosen = self._settings.options if options is None else options
            if options is None and not chosen:
                raise ParameterError("options must be given, since the store was created without any")
            chosen = check_options(chosen)
            if self._settings.on_control_tokens == "refuse":
                check_texts("options", chosen, self._models.control_tokens)
            llm = self._models.llm
            # No tokenizer makes more tokens than bytes.
            longest = max(len(option.encode()) for option in chosen) + 1
            return llm.choose(self._fitting(query, llm, longest), chosen)

    def status(self) -> Status:
        """Return what the store holds.

        Raises
        ------
        StoreError
            The store cannot be read: it was closed, moved or damaged.
        """
        with self._lock, self._reading():
            model = self._clustering.current()
            settings = self._settings
            return Status(
                folder=str(self._store.folder),
                n_examples=len(self._store),
                n_subjects=self._store.n_subjects,
                strategy=settings.strategy,
                n_shots=settings.n_shots,
                demonstrations=[example.id for example in self._shown(model) if example.id is not None],
                embedder=self._store.facts.embedder,
                llm=self._models.llm_name,
                digest=self._store.facts.digest,
                n_receipts=self._store.facts.head.number,
                receipts=str(self._removals.receipts.path),
                scrubbed=self._store.facts.is_scrubbed,
                bytes=self._store.size,
            )

    def verify(
        self, absent: Iterable[str | NDArray[np.floating]] = (), *, known: Iterable[tuple[int, str]] = ()
    ) -> Verification:
        """Verify that the store is what it should be.

        The model is compared with one that a second implementation, which shares no code with the first, makes of the
        examples present; what it shows with what a model read anew from those bytes shows; each row with its hash and
        all rows with the store's commitment; the receipts with one another, with the store and, if `open` was given
        public keys, with these.

        Parameters
        ----------
        absent : iterable of str and of ndarray of shape (dim,)
            Texts and vectors that no file of the store may hold: each in several encodings (UTF-8 and UTF-16, JSON,
            base64, hex; float64, 32 and 16, int16); of a text the vector too. See docs/erasure.md.
        known : iterable of (int, str), default=()
            Number and hash of receipts that were written down elsewhere (`newest_receipt`), and must be there still.

        Raises
        ------
        ParameterError
            A text is too short to be looked for.
        EmbedderError, MissingPackageError
            Texts are given, and the embedding model cannot be loaded.
        StoreError
            The store's content cannot be read, or is not of the kind that a store has.
        """
        wanted = checks.texts_and_vectors("absent", absent)
        noted = [as_noted("known", each) for each in checks.several("known", known)]
        forms = [forms_of_text(each) if isinstance(each, str) else forms_of_vector(each) for each in wanted]
        texts = [each for each in wanted if isinstance(each, str)]
        shapes = {each.shape for each in wanted if not isinstance(each, str)} - {(self._store.facts.dim,)}
        if shapes:
            raise ParameterError(f"absent vectors must have the shape ({self._store.facts.dim},), got {shapes.pop()}")
        with self._lock:
            if texts:
                vectors = dict(zip(texts, checked_vectors(self._models.embedder, texts), strict=True))
                for form, each in zip(forms, wanted, strict=True):
                    if isinstance(each, str):
                        own = forms_of_vector(vectors[each])
                        form |= {f"its vector as {name}": content for name, content in own.items()}
            verification = verify(self._store, self._clustering, self._removals, forms, noted)
            with self._reading():  # which makes the snapshot good
                pass
            return verification

    def receipts(self) -> list[Receipt]:
        """Return the receipts that are published, the first one first. See `verify` for whether they fit together.

        Raises
        ------
        ReceiptError
            One cannot be read, or is not what was written; or the folder cannot be read.
        """
        with self._lock:
            folder = self._removals.receipts
            return [folder.read(number) for number in folder.numbers()]

    @property
    def newest_receipt(self) -> tuple[int, str]:
        """Number and hash of the newest receipt, to be written down elsewhere; ``(0, "")`` if there is none."""
        with self._lock, self._reading():
            return self._store.facts.head[:2]

    def refresh(self) -> None:
        """Let go of what other processes have forgotten, as every call does that reads the store."""
        with self._lock, self._reading():
            pass

    def examples(self) -> list[Example]:
        """Return all examples by ascending id.

        Raises
        ------
        StoreError
            The store cannot be read: it was closed, moved or damaged.
        """
        with self._lock, self._reading():
            return list(self._store.all_examples())

    def export(self, path: str | PathLike[str] | BinaryIO) -> int:
        """Write all examples to a new file as JSON lines, which `ingest` reads.

        Receipts and the list of what was forgotten are not exported.

        Parameters
        ----------
        path : path or binary file
            A file that is not there yet, outside the store's folder; or one that is open for writing bytes.

        Returns
        -------
        int
            How many examples.

        Raises
        ------
        ParameterError
            `path` is no path.
        StoreError
            The file exists, is within the store's folder, or cannot be written; or the store cannot be read.
        """
        if isinstance(path, (io.RawIOBase, io.BufferedIOBase)):
            examples = self.examples()
            write_jsonl(cast("BinaryIO", path), examples)
            return len(examples)
        target = checks.path("path", path)
        if target.resolve().is_relative_to(self._store.folder.resolve()):
            raise StoreError(f"{path} is within the store's folder, where what is forgotten would stay; choose another")
        examples = self.examples()
        try:
            write_jsonl(target, examples)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror or error}") from error
        return len(examples)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Read the store as of one moment; what the language model keeps of an older prompt is dropped."""
        outermost = not self._store.busy
        with self._store.reading():
            generation = self._store.facts.generation
            if generation != self._seen:
                self._clustering.let_go(generation)
                self._models.forget()
                self._seen = generation
            yield
        if outermost and self._clustering.outdated:
            # A process that writes now, or may write here where this one may not, does so itself.
            with suppress(StoreError, OSError), self._store.locked():
                self._clustering.repair()

    def _shown(self, model: Model | None, vector: NDArray[np.float32] | None = None) -> list[Example]:
        """Return the demonstrations; without a query's vector those that do not depend on it."""
        return self._store.examples(select_demonstrations(self._settings, model, vector))

    def _check_query(self, query: str) -> None:
        check_query(query)
        if self._settings.on_control_tokens == "refuse":
            check_texts("query", [query], self._models.control_tokens)

    def _fitting(self, query: str, llm: LLM, answer_tokens: int) -> Prompt:
        prompt = self.prompt(query)
        if llm.context_length is None:
            return prompt
        room = max(1, llm.context_length - answer_tokens)
        # Of neighbours the nearest stands last.
        keep: Literal["first", "last"] = "last" if SELECTORS[self._settings.strategy].per_query else "first"
        return fit_budget(prompt.demonstrations, query, prompt.template, room, llm.count_tokens, keep=keep)
