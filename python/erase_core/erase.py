"""`Erase`, the facade: every call with its documentation. What a call does is in calls/."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, Unpack, get_args

import numpy as np
from numpy.typing import NDArray

from erase_core import checks
from erase_core.calls.forgetting import forget, would_forget
from erase_core.calls.handle import Handle
from erase_core.calls.ingestion import ingest, without_refused_tokens
from erase_core.calls.looking import all_examples, export, status_of
from erase_core.calls.opening import Keys, arguments_of, create, open_store, recipe_of, use_models
from erase_core.calls.prompting import answer, choice, demonstrations_for, prompt_for
from erase_core.calls.recovering import Recovered, recover
from erase_core.calls.verifying import verify_store
from erase_core.embedding.sentence import Embedder
from erase_core.erasure.admission import OnDuplicate, OnForgotten
from erase_core.erasure.request import OnMissing, Request
from erase_core.erasure.subjects import Match
from erase_core.errors import OldCopyWarning, ScrubWarning
from erase_core.examples.control_tokens import OnControlTokens
from erase_core.examples.example import Example, counted
from erase_core.examples.reading import read_examples
from erase_core.llm import LLM, Answer, Choice, ServerOptions
from erase_core.llm.prompt import Prompt
from erase_core.pickling import Recipe
from erase_core.receipts.receipt import Receipt, ReceiptRef, as_receipt_ref
from erase_core.receipts.signing import Signer
from erase_core.reports import ForgetReport, IngestReport, Status, Verification
from erase_core.settings import GivenSettings, Settings

__all__ = ["Erase"]

# Seconds to wait for other processes.
TIMEOUT = 5.0


class Erase:
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

    def __init__(self, handle: Handle) -> None:
        """Take an open store: `create` and `open` make one."""
        self._handle = handle

    @classmethod
    def create(
        cls,
        path: str | PathLike[str],
        *,
        api_key: str | None = None,
        receipts: str | PathLike[str] | None = None,
        signing_key: str | PathLike[str] | Signer | None = None,
        public_keys: str | PathLike[str] | Iterable[str | PathLike[str]] = (),
        timeout: float = TIMEOUT,
        **settings: Unpack[GivenSettings],
    ) -> Self:
        """Make a new store.

        Parameters
        ----------
        path : path
            A folder that is absent or empty.
        api_key : str or None, default=None
            Key of the server at `base_url`. The store does not keep it: give it to `open` too, or put it into the
            environment variable OPENAI_API_KEY or the one that the server's `api_key_env` names.
        receipts : path or None, default=None
            Where receipts of removals are to lie; None for a folder within the store's. Kept outside, they let `open`
            notice a copy of the store from before a removal.
        signing_key, public_keys, timeout
            See `open`.
        **settings
            How the store works, fixed from then on: `n_shots`, `strategy`, `seed`, `epsilon`, `gamma`, `max_iter`,
            `projection`, `template`, `options`, `embedder`, `llm`, `base_url`, `chat`, `server`, `on_control_tokens`.
            See `Settings`, and `GivenSettings` for the forms that each may be given in.

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
        keys = Keys(signing_key, public_keys)
        return cls(create(path, settings, keys, api_key=api_key, receipts=receipts, timeout=timeout))

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
        handle = open_store(
            path,
            Keys(signing_key, public_keys),
            embedder=embedder,
            llm=llm,
            api_key=api_key,
            server=server,
            receipts=receipts,
            timeout=timeout,
        )
        try:
            _warn_of(recover(handle), handle.store.folder)
            use_models(handle, embedder, llm)
        except BaseException:
            handle.store.close()
            raise
        return cls(handle)

    def __copy__(self) -> Self:
        handle = self._handle
        return type(self).open(handle.store.folder, **arguments_of(handle, *handle.models.loaded))

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        # The models are shared: they are large, and nothing of the store is in them.
        return copy.copy(self)

    def __reduce__(self) -> Recipe:
        return _open, (type(self), *recipe_of(self._handle))

    # ---- writing ----
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
        checks.choice("on_duplicate", on_duplicate, get_args(OnDuplicate))
        reading = read_examples(
            source, format=format, fields=fields, skip_bad=skip_bad, delimiter=delimiter, quotechar=quotechar
        )
        with self._handle.lock:
            reading = without_refused_tokens(self._handle, reading, source, on_control_tokens, skip_bad=skip_bad)
            report = ingest(
                self._handle, reading, on_forgotten=on_forgotten, on_duplicate=on_duplicate, progress=progress
            )
        return replace(report, seconds=time.perf_counter() - start)

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
        with self._handle.lock:
            report = would_forget(self._handle, request) if dry_run else forget(self._handle, request)
        return replace(report, seconds=time.perf_counter() - start)

    def check_may_forget(self) -> None:
        """Check that `forget` would not be refused for want of a key, or since receipts are not what they should be.

        Raises
        ------
        ReceiptError
        """
        with self._handle.lock, self._handle.store.reading() as reads:
            self._handle.receipts.check_may_remove(reads)

    # ---- reading ----
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
        with self._handle.lock:
            return demonstrations_for(self._handle, query)

    def prompt(self, query: str) -> Prompt:
        """Return the prompt for a query: its `text`, or its `messages` for a chat.

        Raises
        ------
        ParameterError
            The query is blank, or holds a control token that is refused.
        EmbedderError, MissingPackageError, StoreError
            As for `demonstrations`.
        """
        with self._handle.lock:
            return prompt_for(self._handle, query)

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
        with self._handle.lock:
            return answer(self._handle, query, max_tokens)

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
        with self._handle.lock:
            return choice(self._handle, query, options)

    def status(self) -> Status:
        """Return what the store holds.

        Raises
        ------
        StoreError
            The store cannot be read: it was closed, moved or damaged.
        """
        with self._handle.lock:
            return status_of(self._handle)

    def examples(self) -> list[Example]:
        """Return all examples by ascending id.

        Raises
        ------
        StoreError
            The store cannot be read: it was closed, moved or damaged.
        """
        with self._handle.lock:
            return all_examples(self._handle)

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
        with self._handle.lock:
            return export(self._handle, path)

    @property
    def id_type(self) -> type[int] | type[str] | None:
        """Whether ids are integers or text; None for a store without examples."""
        with self._handle.lock, self._handle.reading() as reads:
            return reads.id_type()

    @property
    def settings(self) -> Settings:
        """What the store was created with."""
        return self._handle.settings

    def refresh(self) -> None:
        """Let go of what other processes have forgotten, as every call does that reads the store."""
        with self._handle.lock, self._handle.reading():
            pass

    # ---- proof ----
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
            base64, hex; float64, 32 and 16, int16); of a text the vector too. See docs/guarantees.md.
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
        # verify 1: check the arguments
        wanted = checks.texts_and_vectors("absent", absent)
        noted = [as_receipt_ref("known", each) for each in checks.several("known", known)]
        with self._handle.lock:
            return verify_store(self._handle, wanted, noted)

    def receipts(self) -> list[Receipt]:
        """Return the receipts that are published, the first one first. See `verify` for whether they fit together.

        Raises
        ------
        ReceiptError
            One cannot be read, or is not what was written; or the folder cannot be read.
        """
        with self._handle.lock:
            folder = self._handle.receipts.folder
            return [folder.read(number) for number in folder.numbers()]

    @property
    def newest_receipt(self) -> ReceiptRef:
        """Number and hash of the newest receipt, to be written down elsewhere; ``(0, "")`` if there is none."""
        with self._handle.lock, self._handle.reading() as reads:
            return reads.metadata.head.ref

    # ---- the handle ----
    def close(self) -> None:
        """Let go of the store and of what the language model keeps of prompts."""
        self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(kind: type[Erase], path: Path, parameters_: Mapping[str, Any]) -> Erase:
    """Open a store whose handle was pickled."""
    return kind.open(path, **parameters_)


def _warn_of(recovered: Recovered, folder: Path) -> None:
    """Warn the caller of `open` of what was found."""
    if recovered.unfinished is not None:
        warnings.warn(str(recovered.unfinished), ScrubWarning, stacklevel=3)
    removed = recovered.n_removed
    if removed is not None:
        warnings.warn(
            f"{folder} was a copy from before a removal; {counted(removed, 'example')} that its receipts record "
            f"{'was' if removed == 1 else 'were'} removed again",
            OldCopyWarning,
            stacklevel=3,
        )
