"""`Erase`: examples in, prompts and answers out, and examples forgotten. Ties the layers together.

The order of a write is always the same: check, compute what may fail, then the model and the store's rows in one
transaction, then what is derived. So an error leaves the store as it was.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from erase_core import parameters
from erase_core.admission import Admission, rows_of
from erase_core.chain import ReceiptFolder
from erase_core.clustering import Clustering
from erase_core.embed import Embedder
from erase_core.errors import OldCopyWarning, ParameterError, ScrubError, StoreError
from erase_core.examples import Example
from erase_core.formats import write_jsonl
from erase_core.kmeans import QKMeans
from erase_core.llm import LLM, Answer, Choice
from erase_core.llm.protocol import check_max_tokens, check_options
from erase_core.models import Models, as_embedder, checked_vectors, is_name, name_of
from erase_core.prompt import Prompt, Template, fit_budget
from erase_core.receipts import Receipt
from erase_core.removals import Removals
from erase_core.reports import ForgetReport, IngestReport, Status, Verification
from erase_core.scan import forms_of_text, forms_of_vector
from erase_core.select import SELECTORS, selected
from erase_core.settings import Settings, Strategy
from erase_core.signing import Signer, as_signer
from erase_core.sources import read_examples
from erase_core.store import Store
from erase_core.verification import verify

__all__ = ["Erase"]

# Seconds to wait for other processes.
TIMEOUT = 5.0


class Erase:
    """A store of examples that adapts a language model by its prompt, and forgets exactly.

    Made by `create` or `open`. One process writes to a store at a time, any number read; a reader notices what others
    have written at its next call. Methods may be called from several threads.

    Examples
    --------
    >>> from erase_core import Erase
    >>> erase = Erase.create("store", n_shots=8)  # doctest: +SKIP
    >>> erase.ingest("tickets.jsonl")  # doctest: +SKIP
    >>> erase.choose("where is my parcel?", ["delivery", "refund"]).option  # doctest: +SKIP
    'delivery'
    >>> erase.forget(subject="customer-42")  # doctest: +SKIP
    """

    def __init__(
        self,
        store: Store,
        embedder: Embedder | None,
        llm: LLM | None,
        *,
        receipts: Path | None = None,
        signer: Signer | None = None,
    ) -> None:
        self._store = store
        self._settings = store.facts.settings
        self._clustering = Clustering(store)
        self._removals = Removals(store, self._clustering, receipts, signer)
        self._models = Models(self._settings, store.facts.embedder, store.facts.dim)
        if embedder is not None:
            self._models.embed_by(embedder)
        self._models.answer_by(llm)
        self._seen: int | None = None
        self._lock = threading.RLock()

    @classmethod
    def create(
        cls,
        path: str | PathLike[str],
        *,
        n_shots: int = 8,
        strategy: Strategy = "kmeans",
        seed: int = 0,
        epsilon: float = 1.0,
        gamma: float = 0.2,
        max_iter: int = 10,
        projection: int | NDArray[np.float64] | None = None,
        template: Template | Mapping[str, str] | None = None,
        options: Iterable[str] = (),
        embedder: str | PathLike[str] | Embedder | None = None,
        llm: str | PathLike[str] | LLM | None = None,
        base_url: str | None = None,
        chat: bool = False,
        receipts: str | PathLike[str] | None = None,
        signing_key: str | PathLike[str] | Signer | None = None,
        timeout: float = TIMEOUT,
    ) -> Self:
        """Make a new store.

        Parameters
        ----------
        path : path
            A folder that is absent or empty.
        n_shots, strategy, seed, epsilon, gamma, max_iter, base_url, chat
            See `Settings`.
        projection : int, ndarray of shape (m, dim) or None, default=None
            As for `QKMeans`; `principal_axes` of public texts make a matrix.
        template : Template, mapping or None, default=None
            Texts of the prompt; None for plain ones. Those of a BIG-bench task are `read_examples(task).template`.
        options : iterable of str, default=()
            Answers that `choose` takes where it is given none.
        embedder, llm : str, path, an object or None, default=None
            Models, by hub id or folder, or objects of one's own, which are then to be given to `open` too. None for
            the packaged ones.
        receipts : path or None, default=None
            Where receipts of removals are to lie; None for a folder within the store's. Kept outside, they let `open`
            notice a copy of the store from before a removal.
        signing_key, timeout
            See `open`.

        Raises
        ------
        StoreError
            The folder is not empty, or cannot be written; or that of the receipts has some already.
        EmbedderError
            The embedding model cannot be loaded.
        ParameterError
            A setting is out of its range.
        """
        folder = parameters.path(path)
        columns = int(projection) if isinstance(projection, np.integer) else projection
        settings = Settings(
            n_shots=n_shots,
            strategy=strategy,
            seed=seed,
            epsilon=epsilon,
            gamma=gamma,
            max_iter=max_iter,
            projection=columns if isinstance(columns, int) else None,
            template=Template.from_dict(template) if isinstance(template, Mapping) else template,
            options=cast("tuple[str, ...]", options),
            embedder=name_of("embedder", embedder),
            llm=name_of("llm", llm),
            base_url=base_url,
            chat=chat,
        )
        Store.check_vacant(folder)
        signer = as_signer(signing_key)
        outside = None if receipts is None else ReceiptFolder.new(parameters.path(receipts)).path
        embedding = as_embedder(embedder)
        axes = None if settings.projection is not None else parameters.axes(projection, embedding.dim)
        store = Store.create(folder, settings, embedding.name, embedding.dim, axes, outside, timeout)
        return cls(store, embedding, None if is_name(llm) else cast("LLM | None", llm), signer=signer)

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        *,
        embedder: str | PathLike[str] | Embedder | None = None,
        llm: str | PathLike[str] | LLM | None = None,
        receipts: str | PathLike[str] | None = None,
        signing_key: str | PathLike[str] | Signer | None = None,
        timeout: float = TIMEOUT,
    ) -> Self:
        """Open a store. Models are loaded when they are needed.

        A removal whose process was killed, or that another process held up, is brought to its end. A copy of the store
        from before a removal, which its receipts tell of, has that removal done again, and a warning says so.

        Parameters
        ----------
        path : path
        embedder, llm : str, path, an object or None, default=None
            Models instead of those that the store names. The embedding model must be the one it was built with.
        receipts : path or None, default=None
            Where the receipts lie, if they were moved.
        signing_key : path, Signer or None, default=None
            A file with an Ed25519 private key in PEM form, by which receipts are signed; a `Signer` where it has a
            password. It is not kept.
        timeout : float, default=5.0
            Seconds to wait for other processes.

        Raises
        ------
        StoreError, StoreVersionError
            There is no store, or a damaged one, or one that another version wrote.
        ReceiptError
            The receipts are not there, or not this store's, or were changed.
        EmbedderError
            `embedder` is not the one that the store was built with.
        ParameterError, MissingPackageError
            `signing_key` is none, or the package cryptography is missing.

        Warns
        -----
        OldCopyWarning
            The store was a copy from before a removal.
        """
        name_of("embedder", embedder)
        name_of("llm", llm)
        signer = as_signer(signing_key)
        moved = None if receipts is None else parameters.path(receipts).absolute()
        store = Store(parameters.path(path), timeout)
        try:
            erase = cls(store, None, None, receipts=moved, signer=signer)
            erase._recover()
            if embedder is not None:
                erase._models.embed_by(as_embedder(embedder))
            if llm is not None:
                erase._models.answer_by(llm)
        except BaseException:
            store.close()
            raise
        return erase

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

    def ingest(
        self,
        source: object,
        *,
        format: str | None = None,  # noqa: A002
        fields: Mapping[str, str] | None = None,
        skip_bad: bool = False,
        forgotten: Literal["refuse", "skip", "allow"] = "refuse",
        progress: bool = False,
    ) -> IngestReport:
        """Take examples in: all of them, or none if something is wrong.

        Parameters
        ----------
        source, format, fields, skip_bad
            See `read_examples`. Examples without ids are numbered on from the largest id.
        forgotten : {"refuse", "skip", "allow"}, default="refuse"
            What to do with examples that were forgotten, or are about a subject that was: take nothing in, leave them
            out, or take them in again on purpose. One with an id is known by it, one without by what it says.
        progress : bool, default=False
            Show the progress of the embedding on a terminal.

        Raises
        ------
        SourceError, ExampleError
            The source cannot be read, or a row of it is no example.
        DuplicateIdError, IdKindError
            An id is in the store already, or of another kind than the store's.
        ForgottenError
            Some were forgotten.
        StoreLockedError, StoreError
            Another process writes, or the store cannot be written.
        """
        start = time.perf_counter()
        parameters.choice("forgotten", forgotten, ("refuse", "skip", "allow"))
        reading = read_examples(source, format=format, fields=fields, skip_bad=skip_bad)
        with self._lock:
            admission = Admission(self._store, forgotten)
            coming = admission.of(reading.examples)
            self._store.check_new([example.id for example in coming if example.id is not None])
            embedder = self._models.embedder
            before = time.perf_counter()
            vectors = checked_vectors(embedder, [example.input for example in coming], progress)
            embedding_seconds = time.perf_counter() - before
            try:
                with self._writing():
                    # Others may have written since the first look.
                    admitted = admission.of(coming)
                    examples, kept = self._store.numbered(admitted), rows_of(coming, admitted, vectors)
                    ids = [example.id for example in examples if example.id is not None]
                    self._store.check_new(ids)
                    self._store.readmit(admission.tokens)
                    self._store.insert(examples, kept)
                    if ids:
                        self._clustering.add(ids, kept)
            finally:
                vectors.fill(0)
            return IngestReport(
                n_added=len(examples),
                n_skipped=len(reading.skipped),
                n_forgotten=len(reading.examples) - len(examples),
                n_examples=len(self._store),
                skipped=reading.skipped,
                embedding_seconds=embedding_seconds,
                seconds=time.perf_counter() - start,
            )

    def forget(
        self,
        ids: int | str | Iterable[int | str] | None = None,
        *,
        subject: str | None = None,
        dry_run: bool = False,
    ) -> ForgetReport:
        """Forget examples, as if they had never been there: text, vector, and their part in the clustering.

        Parameters
        ----------
        ids : int, str or iterable of either
            Ids of examples. One named twice counts once.
        subject : str
            Forget all examples about this subject. Either `ids` or `subject` is given.
        dry_run : bool, default=False
            Only say what would change.

        Raises
        ------
        UnknownIdError, UnknownSubjectError
            There is no such example; nothing was forgotten.
        ReceiptError
            The store is an old copy, or its receipts are signed and there is no key; nothing was forgotten.
        StoreLockedError, StoreError
            Another process writes, or the store cannot be written; nothing was forgotten.
        ScrubError
            The examples are forgotten and not shown again, but the files may still hold them.
        """
        start = time.perf_counter()
        if (ids is None) == (subject is None):
            raise ParameterError("give either ids or a subject")
        named = [] if ids is None else parameters.distinct_ids(ids)
        if subject is not None and not isinstance(subject, str):
            raise ParameterError(f"subject must be text, got {subject!r}")
        with self._lock, self._store.reading() if dry_run else self._writing(scrub=True):
            going = self._store.ids_of(subject) if subject is not None else named
            if not going:
                raise ParameterError("ids must name at least one example")
            self._store.check_known(going)
            before = self._shown(self._clustering.current())
            receipt = None
            if dry_run:
                update, model = self._clustering.trial(going)
            else:
                update, model, receipt = self._removals.remove(going, subject)
            after = self._shown(model)
            n_examples = len(self._store) - (len(going) if dry_run else 0)
        return ForgetReport(
            ids=going,
            n_examples=n_examples,
            path=update.path,
            before=before,
            after=after,
            model_seconds=update.seconds,
            seconds=time.perf_counter() - start,
            receipt=receipt,
            dry_run=dry_run,
        )

    def demonstrations(self, query: str | None = None) -> list[Example]:
        """Return the examples that are shown, in their order.

        Parameters
        ----------
        query : str or None, default=None
            Needed where the selection depends on it (``strategy="knn"``).
        """
        with self._lock:
            vector = None
            if SELECTORS[self._settings.strategy].per_query:
                if query is None:
                    raise ParameterError("query must be given, since the demonstrations depend on it")
                Prompt(Template(), (), query)  # which checks the query before it is embedded
                # Before the store is read: whoever reads for long holds up those who forget.
                vector = checked_vectors(self._models.embedder, [query])[0]
            with self._reading():
                return self._shown(self._clustering.current(), vector)

    def prompt(self, query: str) -> Prompt:
        """Return the prompt for a query: its `text`, or its `messages` for a chat.

        Raises
        ------
        ParameterError
            The query is empty.
        """
        empty = Prompt(self._settings.template or Template(), (), query)  # which checks the query
        return replace(empty, demonstrations=tuple(self.demonstrations(query)))

    def ask(self, query: str, *, max_tokens: int = 64) -> Answer:
        """Return the language model's answer to a query.

        Demonstrations that do not fit the context are left out: from the last one on, of neighbours the farthest.

        Raises
        ------
        PromptTooLongError
            The query alone does not fit.
        LLMError, ServerError
            The model cannot be loaded or reached, or makes no sense.
        """
        with self._lock:
            check_max_tokens(max_tokens)
            llm = self._models.llm
            return llm.generate(self._fitting(query, llm, max_tokens), max_tokens=max_tokens)

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
            There are no options.
        PromptTooLongError, LLMError, ServerError
            As for `ask`.
        """
        with self._lock:
            chosen = self._settings.options if options is None else options
            if options is None and not chosen:
                raise ParameterError("options must be given, since the store was created without any")
            chosen = check_options(chosen)
            llm = self._models.llm
            # No tokenizer makes more tokens than bytes.
            longest = max(len(option.encode()) for option in chosen) + 1
            return llm.choose(self._fitting(query, llm, longest), chosen)

    def status(self) -> Status:
        """Return what the store holds."""
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

    def verify(self, absent: Iterable[str | NDArray[np.floating]] = ()) -> Verification:
        """Verify that the store is what it should be.

        The model is compared with one that a second implementation, which shares no code with the first, makes of the
        examples present; what it shows with what a model read anew from those bytes shows; each row with its hash and
        all rows with the store's commitment; the receipts with one another and with the store.

        Parameters
        ----------
        absent : iterable of str and of ndarray of shape (dim,)
            Texts and vectors that no file of the store may hold: each in several encodings (UTF-8 and UTF-16, JSON,
            base64, hex; float64, 32 and 16, int16); of a text the vector too. See docs/erasure.md.

        Raises
        ------
        ParameterError
            A text is too short to be looked for.
        """
        wanted = parameters.texts_and_vectors("absent", absent)
        forms = [forms_of_text(each) if isinstance(each, str) else forms_of_vector(each) for each in wanted]
        texts = [each for each in wanted if isinstance(each, str)]
        with self._lock:
            if texts:
                vectors = checked_vectors(self._models.embedder, texts)
                forms += map(forms_of_vector, vectors)
            verification = verify(self._store, self._clustering, self._removals, forms)
            with self._reading():  # which makes the snapshot good
                pass
            return verification

    def receipts(self) -> list[Receipt]:
        """Return the receipts of all removals, the first one first.

        Raises
        ------
        ReceiptError
            One was changed.
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
        """Return all examples by ascending id."""
        with self._lock, self._reading():
            return list(self._store.all_examples())

    def export(self, path: str | PathLike[str]) -> int:
        """Write all examples to a new file as JSON lines, which `ingest` reads; return how many.

        Raises
        ------
        StoreError
            The file exists, or cannot be written.
        """
        target, examples = parameters.path(path), self.examples()
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

    @contextmanager
    def _writing(self, *, scrub: bool = False) -> Iterator[None]:
        """Write to store and model together; then cut off what the removed left behind."""
        with self._clustering.writing():
            yield
        try:
            if scrub:
                self._removals.finish()
        finally:
            # The next call notices the rest.
            self._models.forget()

    def _recover(self) -> None:
        """Bring to an end what a crash, a full disk or a reader held up; do again what an old copy knows nothing of."""
        removed = self._removals.catch_up()
        if not self._store.facts.is_scrubbed:
            with suppress(ScrubError):
                self._removals.finish()
        if removed is not None:
            warnings.warn(
                f"{self._store.folder} was a copy from before a removal; {removed} examples that its receipts tell of "
                "were removed again",
                OldCopyWarning,
                stacklevel=3,
            )

    def _shown(self, model: QKMeans | None, vector: NDArray[np.float32] | None = None) -> list[Example]:
        """Return the demonstrations; without a query's vector those that do not depend on it."""
        return self._store.examples(selected(self._settings, model, vector))

    def _fitting(self, query: str, llm: LLM, answer_tokens: int) -> Prompt:
        prompt = self.prompt(query)
        if llm.context_length is None:
            return prompt
        room = max(1, llm.context_length - answer_tokens)
        # Of neighbours the nearest stands last.
        keep: Literal["first", "last"] = "last" if SELECTORS[self._settings.strategy].per_query else "first"
        return fit_budget(prompt.demonstrations, query, prompt.template, room, llm.count_tokens, keep=keep)
