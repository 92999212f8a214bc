"""`Erase`: examples in, and examples forgotten. Ties the layers together; what only reads is reader.py's business.

The order of a write is always the same: check, compute what may fail, then the model and the store's rows in one
transaction, then what is derived. So an error leaves the store as it was.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from erase_core import parameters
from erase_core.admission import Admission, Forgotten, rows_of
from erase_core.chain import ReceiptFolder
from erase_core.embed import Embedder
from erase_core.errors import OldCopyWarning, ParameterError, ScrubError, ScrubWarning
from erase_core.facts import new_name
from erase_core.llm import LLM
from erase_core.models import as_embedder, checked_vectors, is_name, name_of
from erase_core.prompt import Template
from erase_core.reader import Reader
from erase_core.reports import ForgetReport, IngestReport
from erase_core.select import selected
from erase_core.settings import Settings, Strategy
from erase_core.signing import Signer, as_public_keys, as_signer
from erase_core.sources import read_examples
from erase_core.store import Store

__all__ = ["Erase"]

# Seconds to wait for other processes.
TIMEOUT = 5.0


class Erase(Reader):
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
        max_iter: int = 5,
        panel: Literal["auto"] | int | None = "auto",
        projection: int | NDArray[np.float64] | None = None,
        template: Template | Mapping[str, str] | None = None,
        options: Iterable[str] = (),
        embedder: str | PathLike[str] | Embedder | None = None,
        llm: str | PathLike[str] | LLM | None = None,
        base_url: str | None = None,
        chat: bool = False,
        receipts: str | PathLike[str] | None = None,
        signing_key: str | PathLike[str] | Signer | None = None,
        public_keys: str | PathLike[str] | Iterable[str | PathLike[str]] = (),
        timeout: float = TIMEOUT,
    ) -> Self:
        """Make a new store.

        Parameters
        ----------
        path : path
            A folder that is absent or empty.
        n_shots, strategy, seed, epsilon, gamma, max_iter, panel, base_url, chat
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
        signing_key, public_keys, timeout
            See `open`.

        Raises
        ------
        StoreError
            The folder is not empty, or cannot be written; or that of the receipts has some already.
        EmbedderError
            The embedding model cannot be loaded.
        ParameterError
            A setting is out of its range, or a key is none.
        MissingPackageError
            A package is not installed: of the embedding model, or cryptography for the keys.
        """
        folder, timeout = parameters.path("path", path), parameters.seconds("timeout", timeout)
        columns = int(projection) if isinstance(projection, np.integer) else projection
        settings = Settings(
            n_shots=n_shots,
            strategy=strategy,
            seed=seed,
            epsilon=epsilon,
            gamma=gamma,
            max_iter=max_iter,
            panel=panel,
            projection=columns if isinstance(columns, int) else None,
            template=Template.from_dict(template) if isinstance(template, Mapping) else template,
            options=cast("tuple[str, ...]", options),
            embedder=name_of("embedder", embedder),
            llm=name_of("llm", llm),
            base_url=base_url,
            chat=chat,
        )
        Store.check_vacant(folder)
        signer, keys = as_signer(signing_key), as_public_keys(public_keys)
        embedding = as_embedder(embedder)
        axes = None if settings.projection is not None else parameters.axes(projection, embedding.dim)
        name = new_name()
        outside = None if receipts is None else ReceiptFolder.new(_outside(receipts, folder), name)
        try:
            place = None if outside is None else outside.path
            store = Store.create(folder, settings, embedding.name, embedding.dim, axes, place, name, timeout)
        except BaseException:
            if outside is not None:
                outside.give_up()
            raise
        answering = None if is_name(llm) else cast("LLM | None", llm)
        return cls(store, embedding, answering, signer=signer, public_keys=keys)

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        *,
        embedder: str | PathLike[str] | Embedder | None = None,
        llm: str | PathLike[str] | LLM | None = None,
        receipts: str | PathLike[str] | None = None,
        signing_key: str | PathLike[str] | Signer | None = None,
        public_keys: str | PathLike[str] | Iterable[str | PathLike[str]] = (),
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
        public_keys : str, path or iterable of them, default=()
            Keys, in hex or as PEM files, one of which must have signed each receipt: those that `verify` looks at, and
            those that `forget` adds to and adds, and those by which an old copy is brought up to date. Without any, an
            old copy wants the newest receipt, whose signature covers those before, signed by the key that it knows, if
            it knows one.
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
            A key is none, or the package cryptography is missing.

        Warns
        -----
        OldCopyWarning
            The store was a copy from before a removal.
        ScrubWarning
            A removal could not be brought to its end: files may still hold what was forgotten.
        """
        name_of("embedder", embedder)
        name_of("llm", llm)
        signer, timeout = as_signer(signing_key), parameters.seconds("timeout", timeout)
        keys = as_public_keys(public_keys)
        moved = None if receipts is None else parameters.path("receipts", receipts).absolute()
        store = Store(parameters.path("path", path), timeout)
        try:
            erase = cls(store, None, None, receipts=moved, signer=signer, public_keys=keys)
            erase._recover()
            if embedder is not None:
                erase._models.embed_by(as_embedder(embedder))
            if llm is not None:
                erase._models.answer_by(llm)
        except BaseException:
            store.close()
            raise
        return erase

    def ingest(
        self,
        source: object,
        *,
        format: str | None = None,  # noqa: A002
        fields: Mapping[str, str] | None = None,
        skip_bad: bool = False,
        forgotten: Forgotten = "refuse",
        progress: bool = False,
    ) -> IngestReport:
        """Take examples in: all of them, or none if something is wrong.

        Parameters
        ----------
        source, format, fields, skip_bad
            See `read_examples`. Examples without ids are numbered on from the largest id.
        forgotten : {"refuse", "skip", "allow"}, default="refuse"
            What to do with examples that were forgotten, or are about a subject that was: take nothing in, leave them
            out, or take them in again on purpose. One with an id is known by it, one without by what it says. What is
            taken in again is forgotten no longer: its id, what it says, and its subject, of whom others may then come.
        progress : bool, default=False
            Show the progress of the embedding on a terminal.

        Returns
        -------
        IngestReport
            How many came in and were left out, and why.

        Raises
        ------
        SourceError, ExampleError
            The source cannot be read, or a row of it is no example.
        EmbedderError, MissingPackageError
            The embedding model cannot be loaded, or makes no sense.
        DuplicateIdError, IdKindError
            An id is in the store already, or of another kind than the store's.
        ForgottenError
            Some were forgotten.
        StoreLockedError, StoreError
            Another process writes, or the store cannot be written.
        UncertainError
            The disk failed at the end of the write: whether it counts shows when the store is opened again.
        """
        start = time.perf_counter()
        parameters.choice("forgotten", forgotten, get_args(Forgotten))
        reading = read_examples(source, format=format, fields=fields, skip_bad=skip_bad)
        with self._lock:
            admission = Admission(self._store, forgotten)
            coming = admission.of(reading.examples)
            self._store.check_new([example.id for example in coming if example.id is not None])
            embedder = self._models.embedder
            before = time.perf_counter()
            vectors = checked_vectors(embedder, [example.input for example in coming], progress)
            embedding_seconds = time.perf_counter() - before
            kept = vectors
            try:
                with self._clustering.writing():
                    # Others may have written since the first look.
                    admitted = admission.of(coming)
                    examples, kept = admission.numbered(admitted), rows_of(coming, admitted, vectors)
                    ids = [example.id for example in examples if example.id is not None]
                    self._store.check_new(ids)
                    self._store.readmit(admission.tokens)
                    self._store.insert(examples, kept)
                    if ids:
                        self._clustering.add(ids, kept)
                self._models.forget()
            finally:
                vectors.fill(0)
                kept.fill(0)
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

        Returns
        -------
        ForgetReport

        Raises
        ------
        UnknownIdError, UnknownSubjectError
            There is no such example; nothing was forgotten.
        ReceiptError
            The store is an old copy, or its receipts are signed and there is no key; nothing was forgotten.
        StoreLockedError, StoreError
            Another process writes, or the store cannot be written; nothing was forgotten.
        UncertainError
            The disk failed at the end of the write: whether it counts shows when the store is opened again.
        ScrubError
            The examples are forgotten and not shown again, but the files may still hold them, or the receipt is not
            published; the error's `report` is what would have been returned. The next `open` goes on with it.
        """
        start = time.perf_counter()
        if (ids is None) == (subject is None):
            raise ParameterError("give either ids or a subject")
        named = [] if ids is None else parameters.distinct_ids(ids)
        if subject is not None and not isinstance(subject, str):
            raise ParameterError(f"subject must be text, got {subject!r}")
        with self._lock, nullcontext() if dry_run else self._removals.alone():
            with self._store.reading() if dry_run else self._clustering.writing():
                going = self._store.ids_of(subject) if subject is not None else named
                if not going:
                    raise ParameterError("ids must name at least one example")
                self._store.check_known(going)
                before = selected(self._settings, self._clustering.current())
                receipt = None
                if dry_run:
                    update, model = self._clustering.trial(going)
                else:
                    self._removals.check()
                    update, model, receipt = self._removals.remove(going, subject)
                report = ForgetReport(
                    ids=going,
                    n_examples=len(self._store) - (len(going) if dry_run else 0),
                    path=update.path,
                    before=before,
                    after=selected(self._settings, model),
                    model_seconds=update.seconds,
                    seconds=time.perf_counter() - start,
                    receipt=receipt,
                    dry_run=dry_run,
                )
            if not dry_run:
                self._finish(report)
        return replace(report, seconds=time.perf_counter() - start)

    def check_may_forget(self) -> None:
        """Check that `forget` would not be refused for want of a key, or since receipts are not what they should be.

        Raises
        ------
        ReceiptError
        """
        with self._lock, self._store.reading():
            self._removals.check()

    def _finish(self, report: ForgetReport) -> None:
        """See that nothing of what was removed is left: in files first, then in what the language model keeps."""
        try:
            self._removals.finish()
        except ScrubError as error:
            error.report = report
            raise
        finally:
            self._models.forget()

    def _recover(self) -> None:
        """Bring to an end what a crash, a full disk or a reader held up; do again what an old copy knows nothing of."""
        self._removals.check_pending()
        removed = self._removals.catch_up()
        scrubbed = self._store.facts.is_scrubbed
        if not scrubbed or self._clustering.has_leftovers():
            with self._reading():  # which makes the snapshot good
                self._clustering.current()
        if not scrubbed:
            try:
                self._removals.finish_what_others_left()
            except ScrubError as error:
                warnings.warn(str(error), ScrubWarning, stacklevel=3)
        if removed is not None:
            warnings.warn(
                f"{self._store.folder} was a copy from before a removal; {removed} examples that its receipts tell of "
                "were removed again",
                OldCopyWarning,
                stacklevel=3,
            )


def _outside(receipts: str | PathLike[str], folder: Path) -> Path:
    path = parameters.path("receipts", receipts)
    if path.resolve().is_relative_to(folder.resolve()):
        raise ParameterError(
            f"receipts must name a folder outside {folder}, where they lie if none is named, got {path}"
        )
    return path
