"""`Erase`: examples in, and examples forgotten. Ties the layers together; what only reads is reader.py's business.

The order of a write is always the same: check, compute what may fail, then the model and the store's rows in one
transaction, then what is derived. So an error leaves the store as it was.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import compress
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from erase_core import checks
from erase_core.backends import Access, as_embedder, as_given, checked_vectors, identified, is_name, name_of
from erase_core.embedding.sentence import Embedder
from erase_core.erasure.admission import Admission, OnDuplicate, OnForgotten, notes_of_duplicates
from erase_core.erasure.recovery import Recovery
from erase_core.erasure.request import Going, OnMissing, Request
from erase_core.erasure.sight import count_tokens, indistinct, limit_of
from erase_core.erasure.subjects import Match
from erase_core.errors import NotPicklableError, OldCopyWarning, ParameterError, ScrubError, ScrubWarning
from erase_core.examples.control_tokens import OnControlTokens, without_control_tokens
from erase_core.examples.example import counted
from erase_core.examples.reading import read_examples
from erase_core.llm import LLM, ServerOptions
from erase_core.llm.address import Address
from erase_core.llm.prompt import Template
from erase_core.pickling import Recipe, check_picklable
from erase_core.reader import Reader
from erase_core.receipts.folder import ReceiptFolder
from erase_core.receipts.signing import Signer, as_public_keys, as_signer
from erase_core.reports import ForgetReport, IngestReport
from erase_core.selection import select_demonstrations
from erase_core.settings import Settings, Strategy
from erase_core.store.metadata import new_name
from erase_core.store.model_cache import ModelTransaction
from erase_core.store.reads import Reads
from erase_core.store.store import Store
from erase_core.store.vacancy import check_vacant

__all__ = ["Erase"]

# Seconds to wait for other processes.
TIMEOUT = 5.0


class Erase(Reader):
    """A store of examples that adapts a language model by its prompt, and forgets exactly.

    Made by `create` or `open`. One process writes to a store at a time, any number read; a reader notices what others
    have written at its next call. Methods may be called from several threads. A copy is another handle on the same
    store, opened anew with the same receipts folder, keys and models; a pickle is opened in the same way where it is
    loaded, by the path of the store. Neither copies the store.

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
        api_key: str | None = None,
        server: ServerOptions | Mapping[str, object] | None = None,
        on_control_tokens: OnControlTokens = "keep",
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
        n_shots, strategy, seed, epsilon, gamma, max_iter, panel, base_url, chat, on_control_tokens
            See `Settings`.
        projection : int, ndarray of shape (m, dim) or None, default=None
            As for `QKMeans`; `principal_axes` of public texts make a matrix.
        template : Template, mapping or None, default=None
            Texts of the prompt; None for plain ones. Those of a BIG-bench task are `read_examples(task).template`.
        options : iterable of str, default=()
            Answers that `choose` takes where it is given none.
        embedder, llm : str, path, an object or None, default=None
            Backends, by hub id or folder, or objects of one's own, which are then to be given to `open` too. None for
            the packaged ones.
        api_key : str or None, default=None
            Key of the server at `base_url`. The store does not keep it: give it to `open` too, or put it into the
            environment variable OPENAI_API_KEY or the one that the server's `api_key_env` names.
        server : ServerOptions, mapping or None, default=None
            How that server is asked, by names: timeout, max_retries, context_length, thinking_tokens, api_key_env,
            parameters. See `ServerOptions`.
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
            There is no such embedding model, or it has to be loaded to know its dimension and cannot be.
        ParameterError
            A setting is out of range, or a key is invalid.
        MissingPackageError
            A package is not installed: of the embedding model, or cryptography for the keys.
        """
        folder, timeout = checks.path("path", path), checks.seconds("timeout", timeout)
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
            server=ServerOptions.of(server),
            on_control_tokens=on_control_tokens,
        )
        access = Access(api_key, server)
        if base_url is not None:
            Address.of(base_url)
        access.over(settings)
        check_vacant(folder)
        signer, keys = as_signer(signing_key), as_public_keys(public_keys)
        identity, embedding = identified(embedder)
        axes = None if settings.projection is not None else checks.axes(projection, identity.dim)
        name = new_name()
        outside = None if receipts is None else ReceiptFolder.new(_outside(receipts, folder), name)
        try:
            place = None if outside is None else outside.path
            store = Store.create(folder, settings, *identity, axes, place, name, timeout)
        except BaseException:
            if outside is not None:
                outside.give_up()
            raise
        answering = None if is_name(llm) else cast("LLM | None", llm)
        erase = cls(store, embedding, answering, signer=signer, public_keys=keys, access=Access(api_key))
        erase._models.given_embedder = as_given("embedder", embedder)
        return erase

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        *,
        embedder: str | PathLike[str] | Embedder | None = None,
        llm: str | PathLike[str] | LLM | None = None,
        api_key: str | None = None,
        server: ServerOptions | Mapping[str, object] | None = None,
        receipts: str | PathLike[str] | None = None,
        signing_key: str | PathLike[str] | Signer | None = None,
        public_keys: str | PathLike[str] | Iterable[str | PathLike[str]] = (),
        timeout: float = TIMEOUT,
    ) -> Self:
        """Open a store. Backends are loaded when they are needed.

        A removal whose process was killed, or that another process held up, is finished. If the store is a copy from
        before a removal that its receipts record, the removal is done again, with a warning.

        Parameters
        ----------
        path : path
        embedder, llm : str, path, an object or None, default=None
            Backends instead of those that the store names. The embedding model must be the one it was built with.
        api_key : str or None, default=None
            Key of the model server that the store names; None for that of the environment, empty for none. It is held
            in memory only.
        server : ServerOptions, mapping or None, default=None
            Options of that server instead of the store's, for this handle: all of them, or some by their names.
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
            A key is invalid, or the package cryptography is missing.

        Warns
        -----
        OldCopyWarning
            The store was a copy from before a removal.
        ScrubWarning
            A removal could not be brought to its end: files may still hold what was forgotten.
        """
        name_of("embedder", embedder)
        name_of("llm", llm)
        signer, timeout = as_signer(signing_key), checks.seconds("timeout", timeout)
        keys = as_public_keys(public_keys)
        moved = None if receipts is None else checks.path("receipts", receipts).absolute()
        store = Store(checks.path("path", path), timeout)
        try:
            access = Access(api_key, server)
            erase = cls(store, None, None, receipts=moved, signer=signer, public_keys=keys, access=access)
            erase._recover()
            if embedder is not None:
                erase._models.embed_by(as_embedder(embedder))
                erase._models.given_embedder = as_given("embedder", embedder)
            if llm is not None:
                erase._models.answer_by(llm)
        except BaseException:
            store.close()
            raise
        return erase

    def __copy__(self) -> Self:
        return type(self).open(self._store.folder, **self._opened(*self._models.loaded))

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        # The models are shared: they are large, and nothing of the store is in them.
        return copy.copy(self)

    def __reduce__(self) -> Recipe:
        embedder, llm = self._models.given_embedder, self._models.given_llm
        check_picklable("embedder", embedder)
        check_picklable("llm", llm)
        if self._models.access.api_key:
            raise NotPicklableError(
                "a store that was opened with an api_key is not pickled, since the key would be in the pickle; open it "
                "in the other process"
            )
        return _open, (type(self), self._store.folder, self._opened(embedder, llm))

    def _opened(self, embedder: str | Embedder | None, llm: str | LLM | None) -> dict[str, Any]:
        """Return the parameters of `open` by which a handle like this one is made.

        Raises
        ------
        StoreError
            This one is closed.
        """
        with self._lock, self._store.reading():
            return {
                "embedder": embedder,
                "llm": llm,
                "receipts": self._receipts.moved,
                "signing_key": self._receipts.signer,
                "public_keys": sorted(self._receipts.public_keys),
                "timeout": self._store.timeout,
                "api_key": self._models.access.api_key,
                "server": self._models.access.server,
            }

    def ingest(
        self,
        source: object,
        *,
        format: str | None = None,  # noqa: A002
        fields: Mapping[str, str] | None = None,
        skip_bad: bool = False,
        delimiter: str | None = None,
        quotechar: str | None = None,
        on_forgotten: OnForgotten = "refuse",
        on_control_tokens: OnControlTokens | None = None,
        on_duplicate: OnDuplicate = "refuse",
        progress: bool = False,
    ) -> IngestReport:
        """Take examples in: all of them, or none if something is wrong.

        Parameters
        ----------
        source, format, fields, skip_bad, delimiter, quotechar
            See `read_examples`. Examples without ids are numbered on from the largest id.
        on_forgotten : {"refuse", "skip", "allow"}, default="refuse"
            What to do with examples that were forgotten, or are about a subject that was: take nothing in, leave them
            out, or take them in again on purpose. One with an id is known by it, one without by what it says. What is
            taken in again is forgotten no longer: its id, what it says, and its subject, of whom others may then come.
        on_control_tokens : {"keep", "refuse"} or None, default=None
            What to do with examples that hold a control token in a text that a prompt shows: take them in as text, or
            treat them as bad rows. None: as the store was created, see `Settings`.
        on_duplicate : {"refuse", "skip"}, default="refuse"
            What to do with examples that are in the store already: the same id with the same content (input, output,
            rationale and subject). "skip" leaves them out, so that a source that has grown can be ingested again. The
            same id with another content is an error either way.
        progress : bool, default=False
            Show the progress of the embedding on a terminal.

        Returns
        -------
        IngestReport
            How many came in and were left out, and why; how many inputs are longer than the embedding model sees; and
            notes on the source, such as a column that looks like the subject but is not read.

        Raises
        ------
        SourceError, ExampleError
            The source cannot be read, or a row of it is no example, or holds a control token that is refused.
        EmbedderError, MissingPackageError
            The embedding model cannot be loaded, or makes no sense.
        LLMError
            Control tokens are refused, and the language model's tokenizer, which has some, cannot be loaded.
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
        checks.choice("on_forgotten", on_forgotten, get_args(OnForgotten))
        reading = read_examples(
            source, format=format, fields=fields, skip_bad=skip_bad, delimiter=delimiter, quotechar=quotechar
        )
        if on_control_tokens is None:
            on_control_tokens = self._settings.on_control_tokens
        checks.choice("on_control_tokens", on_control_tokens, get_args(OnControlTokens))
        checks.choice("on_duplicate", on_duplicate, get_args(OnDuplicate))
        with self._lock:
            if on_control_tokens == "refuse":
                known = self._models.control_tokens
                reading = without_control_tokens(reading, source, known, skip_bad=skip_bad)
            admission = Admission(on_forgotten, on_duplicate)
            skips = on_duplicate == "skip"
            with self._store.reading() as reads:
                coming = list(compress(reading.examples, admission.admits(reads, reading.examples)))
                reads.check_new([e.id for e in coming if e.id is not None], same_are_skipped=skips)
            embedder = self._models.embedder
            before = time.perf_counter()
            inputs = [example.input for example in coming]
            vectors = checked_vectors(embedder, inputs, progress)
            limit, counts = limit_of(embedder), count_tokens(embedder, inputs)
            embedding_seconds = time.perf_counter() - before
            kept = vectors
            try:
                with self._clustering.writing() as tx:
                    # Others may have written since the first look.
                    admitted = admission.admits(tx, coming)
                    examples, counts = admission.numbered(tx, list(compress(coming, admitted))), counts[admitted]
                    # Not copied where all come in, which may be many.
                    kept = vectors if admitted.all() else vectors[admitted]
                    ids = [example.id for example in examples if example.id is not None]
                    tx.check_new(ids, same_are_skipped=skips)
                    tx.readmit(admission.tokens)
                    tx.insert(examples, kept)
                    if ids:
                        self._clustering.add(tx, ids, kept)
                    full = [] if limit is None else [ids[place] for place in np.flatnonzero(counts >= limit)]
                    alike = indistinct(tx, full)
                    n_examples = len(tx)
                self._models.forget()
            finally:
                vectors.fill(0)
                kept.fill(0)
            return IngestReport(
                n_added=len(examples),
                n_skipped=len(reading.skipped),
                n_forgotten=len(reading.examples) - admission.n_duplicates - len(examples),
                n_duplicates=admission.n_duplicates,
                n_examples=n_examples,
                skipped=reading.skipped,
                embedding_seconds=embedding_seconds,
                seconds=time.perf_counter() - start,
                n_truncated=0 if limit is None else int((counts > limit).sum()),
                longest=None if limit is None else int(counts.max(initial=0)),
                max_tokens=limit,
                indistinct=alike,
                notes=reading.notes + notes_of_duplicates(coming, on_duplicate),
            )

    def forget(
        self,
        ids: int | str | Iterable[int | str] | None = None,
        *,
        subject: str | Iterable[str] | None = None,
        on_missing: OnMissing = "refuse",
        match: Match = "exact",
        dry_run: bool = False,
    ) -> ForgetReport:
        """Forget examples, as if they had never been there: text, vector, and their part in the clustering.

        Parameters
        ----------
        ids : int, str or iterable of either
            Ids of examples. One named twice counts once.
        subject : str or iterable of str
            Forget all examples about this subject, or about several. Either `ids` or `subject` is given.
        on_missing : {"refuse", "skip"}, default="refuse"
            What to do if an id or a subject is not in the store: forget nothing and raise, or forget the others and
            count it in the report. With "skip" a request can be repeated: if nothing is left to forget, nothing changes
            and there is no receipt. An earlier removal that is not finished is finished all the same.
        match : {"exact", "normalised"}, default="exact"
            How subjects are compared: letter by letter, or without regard to case, to accents written as one character
            or two, to white space (its kind, how much, at the ends), and to characters that are not shown. Each
            spelling that the store has is forgotten, and kept out from then on; other spellings are not.
        dry_run : bool, default=False
            Only say what would change.

        Returns
        -------
        ForgetReport

        Raises
        ------
        UnknownIdError, UnknownSubjectError
            There is no such example; nothing was forgotten. The message says how many subjects look alike.
        ParameterError, IdKindError
            Both or neither of `ids` and `subject` are given, or one is not what it should be.
        ReceiptError
            The store is an old copy, or its receipts are signed and there is no key; nothing was forgotten.
        StoreLockedError, StoreError
            Another process writes, or the store cannot be written; nothing was forgotten.
        UncertainError
            The disk failed at the end of the write: whether it counts shows when the store is opened again.
        ScrubError
            The examples are forgotten and not shown again, but the files may still hold them, or the receipt is not
            published; the error's `report` is what would have been returned. The next `open` finishes it.
        """
        start = time.perf_counter()
        # forget 1: check the request
        request = Request(ids, subject, on_missing, match)
        if dry_run:
            with self._lock, self._reading() as reads:
                planned = self._planned(reads, request.going(reads))
            return replace(planned, seconds=time.perf_counter() - start)
        # forget 2: the lock for removals
        with self._lock, self._removals.alone():
            # Where nothing is there, nothing is written.
            report = self._nothing_to_forget(request) if request.skips else None
            if report is None:
                # forget 3: the transaction, to its commit (8)
                with self._clustering.writing() as tx:
                    report = self._removed(tx, request.going(tx))
            report = replace(report, seconds=time.perf_counter() - start)
            if report.ids or not self._is_scrubbed():
                self._finish(report)
        return replace(report, seconds=time.perf_counter() - start)

    def _is_scrubbed(self) -> bool:
        with self._store.reading() as reads:
            return reads.metadata.is_scrubbed

    def _nothing_to_forget(self, request: Request) -> ForgetReport | None:
        """Return the report of a removal of nothing; None if there is something to remove."""
        with self._reading() as reads:
            going = request.going(reads)
            if going.ids:
                return None
            shown = select_demonstrations(self._settings, self._clustering.current(reads))
            return going.report(None, len(reads), shown, shown)

    def _planned(self, reads: Reads, going: Going) -> ForgetReport:
        """Return what a removal would do."""
        before = select_demonstrations(self._settings, self._clustering.current(reads))
        if not going.ids:
            return going.report(None, len(reads), before, before, dry_run=True)
        update, model = self._clustering.trial(reads, going.ids)
        n_remaining = len(reads) - len(going.ids)
        return going.report(update, n_remaining, before, select_demonstrations(self._settings, model), dry_run=True)

    def _removed(self, tx: ModelTransaction, going: Going) -> ForgetReport:
        """Remove examples, and return what that did."""
        before = select_demonstrations(self._settings, self._clustering.current(tx))
        if not going.ids:  # another process was faster, on a file system without locks
            return going.report(None, len(tx), before, before)
        update, model, receipt = self._removals.remove(tx, going.ids, going.subjects)
        return going.report(update, len(tx), before, select_demonstrations(self._settings, model), receipt)

    def check_may_forget(self) -> None:
        """Check that `forget` would not be refused for want of a key, or since receipts are not what they should be.

        Raises
        ------
        ReceiptError
        """
        with self._lock, self._store.reading() as reads:
            self._receipts.check_may_remove(reads)

    def _finish(self, report: ForgetReport) -> None:
        """See that nothing of what was removed is left: in files first, then in what the language model keeps."""
        try:
            # forget 9 to 11: files and receipts
            self._removals.finish()
        except ScrubError as error:
            error.report = report
            raise
        finally:
            # forget 12: the language model
            self._models.forget()

    def _recover(self) -> None:
        """Bring to an end what a crash, a full disk or a reader held up; do again what an old copy knows nothing of."""
        with self._store.reading() as reads:
            self._receipts.check_pending(reads)
        recovery = Recovery(self._store, self._clustering, self._receipts, self._removals)
        removed = recovery.catch_up()
        scrubbed = self._is_scrubbed()
        if not scrubbed or self._clustering.has_leftovers():
            with self._reading() as reads:  # which makes the snapshot good
                self._clustering.current(reads)
        if not scrubbed:
            try:
                recovery.finish_what_others_left()
            except ScrubError as error:
                warnings.warn(str(error), ScrubWarning, stacklevel=3)
        if removed is not None:
            warnings.warn(
                f"{self._store.folder} was a copy from before a removal; {counted(removed, 'example')} that its "
                f"receipts record {'was' if removed == 1 else 'were'} removed again",
                OldCopyWarning,
                stacklevel=3,
            )


def _open(kind: type[Erase], path: Path, parameters_: Mapping[str, Any]) -> Erase:
    """Open a store whose handle was pickled."""
    return kind.open(path, **parameters_)


def _outside(receipts: str | PathLike[str], folder: Path) -> Path:
    path = checks.path("receipts", receipts)
    if path.resolve().is_relative_to(folder.resolve()):
        raise ParameterError(
            f"receipts must name a folder outside {folder}, where they lie if none is named, got {path}"
        )
    return path
