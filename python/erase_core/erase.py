"""The facade `Erase`: every call and its documentation. See calls/ for what each call does."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, Unpack, get_args

import numpy as np
from numpy.typing import NDArray

from erase_core import checks
from erase_core.calls.forgetting import run_dry_forget, run_forget
from erase_core.calls.ingesting import run_ingest, without_refused_tokens
from erase_core.calls.open_store import OpenStore
from erase_core.calls.opening import GivenKeys, arguments_of, create_new, open_existing, recipe_of
from erase_core.calls.overview import all_examples, all_ids, described, export_examples, has_id, status_of
from erase_core.calls.prompting import answers, choices, demonstrations, prompt_with_route, prompts, route
from erase_core.calls.queries import Queries
from erase_core.calls.recovering import recover, warn_about
from erase_core.calls.rekeying import rekey_store
from erase_core.calls.verifying import verify_store
from erase_core.calls.warming import warm
from erase_core.embedding.sentence import Embedder
from erase_core.erasure.admission import OnDuplicate, OnForgotten
from erase_core.erasure.request import Match, OnMissing, Request
from erase_core.errors import EraseError
from erase_core.examples.control_tokens import OnControlTokens
from erase_core.examples.example import Example
from erase_core.examples.reading import read_examples
from erase_core.llm import LLM, Answer, Choice, ServerOptions
from erase_core.llm.prompt import Prompt
from erase_core.notebook import html
from erase_core.pickling import Recipe
from erase_core.receipts.receipt import Receipt, ReceiptRef, as_receipt_ref
from erase_core.receipts.signing import Signer
from erase_core.reports import ForgetReport, IngestReport, Route, Status, Verification, WarmReport
from erase_core.settings import GivenSettings, Settings
from erase_core.store.reads import Reads
from erase_core.store.user_key import KeySource

__all__ = ["Erase"]

# Seconds to wait for other processes.
TIMEOUT = 5.0


class Erase:
    """A store of examples that adapts a language model through its prompt, and forgets examples exactly.

    `create` and `open` return one. One process at a time writes to a store, and any number read it. A reader sees what
    others have written at its next call. Any thread may call the methods. A call that reads or writes the store raises
    `StoreError` if the store was closed, moved or damaged.

    A copy of an `Erase` is another handle on the same store, with the same receipts folder, keys and models. A pickle
    opens the store by its path where it is loaded. Neither copies the store. For an example, see ``help(erase_core)``.

    It is also a collection of the ids of its examples: ``len(erase)`` and ``id in erase`` take one query, and
    ``list(erase)`` has all ids, ascending. It is true even if it has no examples.
    """

    def __init__(self, opened: OpenStore) -> None:
        """Wrap an open store. Call `create` or `open` instead."""
        if not isinstance(opened, OpenStore):
            raise TypeError("Erase: open a store with Erase.open(path), or create one with Erase.create(path).")
        self._opened = opened

    @classmethod
    def create(
        cls,
        path: str | PathLike[str],
        *,
        api_key: str | None = None,
        receipts: str | PathLike[str] | None = None,
        signing_key: str | PathLike[str] | Signer | None = None,
        public_keys: str | PathLike[str] | Iterable[str | PathLike[str]] = (),
        key: KeySource | None = None,
        timeout: float = TIMEOUT,
        **settings: Unpack[GivenSettings],
    ) -> Self:
        """Create a store.

        Parameters
        ----------
        path : path
            A folder that is empty or does not exist.
        api_key : str or None, default=None
            Key of the server at `base_url`. It is not stored, so give it to `open` too, or set the environment variable
            OPENAI_API_KEY, or the one that the server's `api_key_env` names.
        receipts : path or None, default=None
            Folder for the receipts of removals. None: inside the store's folder. If the receipts are outside, `open`
            can detect a copy of the store from before a removal.
        key : bytes, path, "env:NAME", callable or None, default=None
            A key of your own with which the keys of the examples are wrapped: at least 32 random bytes, a file with
            them, an environment variable, or a function that returns them. It is not stored: give it to `open` too.
            Without it nothing in the store can be read, so `rekey` makes every older copy of the key file worthless.
        signing_key, public_keys, timeout
            See `open`.
        **settings
            Settings of the store, which never change: `n_shots`, `strategy`, `n_prompts`, `seed`, `epsilon`, `gamma`,
            `max_iter`, `panel`, `projection`, `template`, `options`, `embedder`, `llm`, `base_url`, `chat`, `context`,
            `calibrate`, `server`, `on_control_tokens`. See `GivenSettings` for their types and defaults, and `Settings`
            for what each means.

        Raises
        ------
        StoreError
            The folder is not empty or cannot be written, or the receipts folder is in use by another store.
        EmbedderError
            The embedding model does not exist, or cannot be loaded to find its dimension.
        ParameterError
            A setting is out of range, or a key is invalid.
        MissingPackageError
            A package that the embedding model needs is not installed.
        PlatformError
            Stores do not work on this operating system.
        """
        keys = GivenKeys(signing_key, public_keys, key)
        return cls(create_new(path, settings, keys, api_key=api_key, receipts=receipts, timeout=timeout))

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
        key: KeySource | None = None,
        timeout: float = TIMEOUT,
    ) -> Self:
        """Open a store. Models are loaded when they are first needed.

        A removal that was interrupted, or blocked by another process, is finished. If the store is a copy from before
        a removal that its receipts record, the removal is done again, with a warning.

        Parameters
        ----------
        path : path
        embedder, llm : str, path, an object or None, default=None
            Models to use instead of the store's. The embedding model must be the one that the store was built with.
        api_key : str or None, default=None
            Key of the store's model server. None: the key from the environment. Empty: no key. It is not stored.
        server : ServerOptions, mapping or None, default=None
            Options of that server, all or some by name, that replace the store's for this handle.
        receipts : path or None, default=None
            Folder of the receipts, if they were moved.
        signing_key : path, Signer or None, default=None
            Key to sign receipts with: a file with an Ed25519 private key in PEM form, or a `Signer` if the file has a
            password. It is not stored.
        public_keys : str, path or iterable of them, default=()
            Keys, in hex or as PEM files. `verify` reports each receipt that none of them has signed. `forget` requires
            that one of them has signed the newest receipt, and that `signing_key` belongs to one of them. `open`
            publishes receipts and repeats removals only if one of them has signed the receipt. See docs/deploying.md,
            also for what is checked without public keys.
        key : bytes, path, "env:NAME", callable or None, default=None
            The key that the store was created with, or that `rekey` set.
        timeout : float, default=5.0
            Seconds to wait for other processes.

        Raises
        ------
        StoreError, StoreVersionError
            The folder is not a store, or the store is damaged, or another version wrote it.
        KeyFileError
            The key file is missing, damaged or of another store, or `key` is missing or wrong.
        ReceiptError
            Receipts are missing or modified, or belong to another store.
        EmbedderError
            `embedder` is not the model that the store was built with.
        ParameterError
            A key is invalid.
        PlatformError
            Stores do not work on this operating system.

        Warns
        -----
        OldCopyWarning
            The store was a copy from before a removal.
        ScrubWarning
            A removal could not be finished: keys of removed data may still be there, or a receipt is not published.
        """
        opened = open_existing(
            path,
            GivenKeys(signing_key, public_keys, key),
            embedder=embedder,
            llm=llm,
            api_key=api_key,
            server=server,
            receipts=receipts,
            timeout=timeout,
        )
        try:
            warn_about(recover(opened), opened.store.folder)
        except BaseException:
            opened.store.close()
            raise
        return cls(opened)

    def __copy__(self) -> Self:
        opened = self._opened
        return type(self).open(opened.store.folder, **arguments_of(opened, *opened.backends.share()))

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        # The models are shared, because they are large and independent of the store.
        return copy.copy(self)

    def __reduce__(self) -> Recipe:
        return _open, (type(self), *recipe_of(self._opened))

    # ---- collection of ids ----
    def __len__(self) -> int:
        """Return the number of examples."""
        with self._opened.lock:
            return self._opened.read(len)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, id_: object) -> bool:
        """Whether an example has an id. What `forget` would not take as an id, no example has: 7 is not "7"."""
        with self._opened.lock:
            return has_id(self._opened, id_)

    def __iter__(self) -> Iterator[int | str]:
        """Return an iterator over the ids at this moment, ascending. For the examples, see `examples`."""
        with self._opened.lock:
            return iter(all_ids(self._opened))

    def __repr__(self) -> str:
        return described(self._opened)

    def _repr_html_(self) -> str:
        """Return the status for notebooks; the text of `repr` if the store cannot be read."""
        try:
            return self.status()._repr_html_()
        except EraseError:
            return html(repr(self))

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
        engine: Any = None,
        progress: bool = False,
    ) -> IngestReport:
        """Add examples: all of them, or none if there is an error.

        Parameters
        ----------
        source, format, fields, skip_bad, delimiter, quotechar
            See `read_examples`. Examples without ids get integers after the largest id.
        on_forgotten : {"refuse", "skip", "allow"}, default="refuse"
            What to do with examples that were forgotten earlier, or whose subject was: raise an error, leave them out,
            or add them again on purpose. An example with an id is recognised by its id, one without by its content.
            After "allow", the id, the content and the subject of such an example are no longer refused.
        on_control_tokens : {"keep", "refuse"} or None, default=None
            What to do with examples that have a control token in a text that prompts show: keep it as ordinary text, or
            treat the example as a bad row. None: as in the store's settings; see `Settings`.
        on_duplicate : {"refuse", "skip"}, default="refuse"
            What to do with examples that the store contains already, with the same id and content (input, output,
            rationale and subject). "skip" leaves them out, so a source that has grown can be ingested again. The same
            id with another content is always an error.
        engine : distributed.Client, str or None, default=None
            Where to embed: on the workers of a dask client, of ``"dask://host:port"``, ``"ray"`` or
            ``"ray://host:port"``. Their vectors have the bits that this process would give, which is checked on each
            worker with texts of the package. Examples then leave this process: see docs/limits.md. None: here.
        progress : bool, default=False
            Show the progress on a terminal.

        Raises
        ------
        SourceError, ExampleError
            The source cannot be read, or a row is not a valid example or has a control token that is refused.
        EmbedderError, MissingPackageError
            The embedding model cannot be loaded, returns invalid vectors, or gives other bits on a worker. Or the
            engine's package is not installed.
        WorkerLostError, NotPicklableError
            The engine cannot be reached or has no workers left, or the embedding model cannot be sent to them.
        LLMError
            Control tokens are refused, but the language model's tokenizer, which may have some, cannot be loaded.
        DuplicateIdError, IdKindError
            An id is in the store already, or has another type than the store's ids.
        ForgottenError
            Some examples were forgotten earlier.
        StoreLockedError, StoreError
            Another process is writing, or the store cannot be written.
        UncertainError
            The disk failed at the end of the write. Open the store again to see whether the write counts.
        """
        start = time.perf_counter()
        checks.choice("on_forgotten", on_forgotten, get_args(OnForgotten))
        checks.choice("on_duplicate", on_duplicate, get_args(OnDuplicate))
        reading = read_examples(
            source, format=format, fields=fields, skip_bad=skip_bad, delimiter=delimiter, quotechar=quotechar
        )
        with self._opened.lock:
            reading = without_refused_tokens(self._opened, reading, source, on_control_tokens, skip_bad=skip_bad)
            report = run_ingest(
                self._opened,
                reading,
                on_forgotten=on_forgotten,
                on_duplicate=on_duplicate,
                engine=engine,
                progress=progress,
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
        """Forget examples as if they had never been there: text, vector, and their part in the clustering.

        Their rows are deleted and their keys destroyed. So older copies of the store's SQLite file cannot show them,
        either.

        Parameters
        ----------
        ids : int, str or iterable of either
            Ids of examples. A repeated id counts once. Examples that cannot be opened, because they are damaged or
            their keys are missing, can be forgotten, too: all of them in one call.
        subject : str or iterable of str
            Forget all examples about this subject, or about several. Give either `ids` or `subject`.
        on_missing : {"refuse", "skip"}, default="refuse"
            What to do if an id or a subject is not in the store: raise an error and forget nothing, or forget the
            others and count it in the report. With "skip" a request can be repeated: if nothing is left to forget,
            nothing changes and there is no receipt. An earlier unfinished removal is finished in any case.
        match : {"exact", "normalised"}, default="exact"
            How subjects are compared. "exact": character by character. "normalised": ignoring case, the kind and amount
            of white space, invisible characters, and whether an accent is a character of its own. All spellings in the
            store that match are forgotten, and refused from then on. Other spellings are not.
        dry_run : bool, default=False
            Only report what would change.

        Raises
        ------
        UnknownIdError, UnknownSubjectError
            An id or subject is not in the store; nothing was forgotten. The message says how many subjects look alike.
        ParameterError, IdKindError
            Both or neither of `ids` and `subject` are given, or a value is invalid.
        ReceiptError
            The store is an old copy, receipts are missing or invalid, or a key is missing; nothing was forgotten.
        StoreLockedError, StoreError
            Another process is writing, or the store cannot be written; nothing was forgotten.
        UncertainError
            The disk failed at the end of the write. Open the store again to see whether the removal counts.
        ScrubError
            The removal is done, but keys of the examples may still be there, or the receipt is not published; the next
            `open` finishes the removal. Or the language model could not overwrite what it keeps of prompts. The
            error's `report` is what would have been returned.
        """
        start = time.perf_counter()
        # forget 1: check the request
        request = Request(ids, subject, on_missing, match)
        checks.flag("dry_run", dry_run)
        with self._opened.lock:
            report = run_dry_forget(self._opened, request) if dry_run else run_forget(self._opened, request)
        return replace(report, seconds=time.perf_counter() - start)

    def rekey(self, key: KeySource | None) -> None:
        """Wrap the keys of the examples with another key of yours, and write a new key file.

        Every older copy of the key file, on whatever disk, opens nothing without the older key. So destroy that key.
        Copies from before the store had a key of yours open without one. This handle is closed. Open the store again
        with the new key; other handles must do so too.

        Parameters
        ----------
        key : bytes, path, "env:NAME", callable or None
            The new key. None: the key file can then be read without one.

        Raises
        ------
        ParameterError
            The key cannot be read, or is too short.
        StoreLockedError, StoreError
            Another process is writing, or the key file cannot be written; the key was not changed.
        ScrubError
            The new key is set, but the older key file is not overwritten; the next `open` does so.
        UncertainError
            The disk failed at the end. Open the store with the new key or with the old one.
        """
        with self._opened.lock:
            rekey_store(self._opened, key)

    def check_may_forget(self) -> None:
        """Check that `forget` would not be refused because a key is missing or because of the receipts.

        Raises
        ------
        ReceiptError
            The store is an old copy, receipts are missing or invalid, or a key is missing or not one of those named.
        """
        with self._opened.lock, self._opened.store.reading() as reads:
            self._opened.receipts.check_may_remove(reads)

    # ---- reading ----
    def demonstrations(self, query: str | None = None) -> list[Example]:
        """Return the examples that the prompt of a query shows, in order.

        Parameters
        ----------
        query : str or None, default=None
            Needed if the selection depends on it: with ``strategy="knn"``, the default, and with ``"routed"``. Ignored
            with the others.

        Raises
        ------
        ParameterError
            A query is needed, and is missing, blank, or has a control token that is refused.
        EmbedderError, MissingPackageError
            A query is needed, and the embedding model cannot be loaded.
        LLMError
            A query is needed and control tokens are refused, but the language model's tokenizer, which may have some,
            cannot be loaded.
        """
        with self._opened.lock:
            return demonstrations(self._opened, Queries.one(query))[0]

    def demonstrations_many(self, queries: Iterable[str]) -> list[list[Example]]:
        """Return the examples that the prompt of each query shows: what `demonstrations` returns for each.

        All are of one state of the store, and the queries are embedded in one call.

        Parameters
        ----------
        queries : iterable of str
            Any number. All are checked before anything else is done. An error names the place of a query that is
            wrong: ``queries[3]`` is the fourth.

        Raises
        ------
        ParameterError, EmbedderError, MissingPackageError, LLMError
            As for `demonstrations`. Or `queries` is a single text, or a set, which has no order.
        """
        with self._opened.lock:
            return demonstrations(self._opened, Queries.many(queries))

    def route(self, query: str) -> Route:
        """Return which of the store's prompts a query gets (``strategy="routed"``).

        It is the prompt of the cluster whose centre is nearest to the query, ties to the lower index.

        Raises
        ------
        ParameterError
            The store has another strategy, or the query is blank or has a control token that is refused.
        EmbedderError, MissingPackageError, LLMError
            As for `demonstrations`.
        """
        with self._opened.lock:
            return route(self._opened, Queries.one(query))

    def prompt_with_route(self, query: str) -> tuple[Prompt, Route]:
        """Return what `prompt` and `route` return for a query, of one state of the store. The query is embedded once.

        Raises
        ------
        ParameterError, EmbedderError, MissingPackageError, LLMError
            As for `route`.
        """
        with self._opened.lock:
            return prompt_with_route(self._opened, Queries.one(query))

    def prompt(self, query: str) -> Prompt:
        """Return the prompt for a query: its `text`, or its `messages` for a chat.

        It has all demonstrations, also those for which `ask` finds no room. A model that reads them as windows reads
        the same words, but each demonstration by itself.

        Raises
        ------
        ParameterError
            The query is blank, or has a control token that is refused.
        EmbedderError, MissingPackageError
            As for `demonstrations`.
        LLMError
            Control tokens are refused, but the language model's tokenizer cannot be loaded.
        """
        with self._opened.lock:
            return prompts(self._opened, Queries.one(query))[0]

    def prompt_many(self, queries: Iterable[str]) -> list[Prompt]:
        """Return the prompt of each query: what `prompt` returns for each.

        Parameters
        ----------
        queries : iterable of str
            See `demonstrations_many`.

        Raises
        ------
        ParameterError, EmbedderError, MissingPackageError, LLMError
            As for `prompt`. Or `queries` is a single text, or a set, which has no order.
        """
        with self._opened.lock:
            return prompts(self._opened, Queries.many(queries))

    def ask(self, query: str, *, max_tokens: int = 64) -> Answer:
        """Return the language model's answer to a query.

        Demonstrations that do not fit into the context are left out: the last ones first or, with ``strategy="knn"``,
        the farthest ones first. Windows are beside one another, so each that fits by itself is shown.

        Parameters
        ----------
        query : str
        max_tokens : int, default=64
            Most tokens of the answer, from 1 to 2**20.

        Raises
        ------
        ParameterError
            The query is blank or has a control token that is refused, or `max_tokens` is out of range.
        PromptTooLongError
            The query does not fit even without demonstrations.
        LLMError, ServerError, MissingPackageError
            The model cannot be loaded or reached, or returns an unusable answer.
        EmbedderError
            As for `demonstrations`.

        Warns
        -----
        StopWarning
            Demonstrations have answers that contain the template's stop text, where the model's own answer is cut.
        """
        with self._opened.lock:
            return answers(self._opened, Queries.one(query), max_tokens)[0]

    def ask_many(
        self, queries: Iterable[str], *, max_tokens: int = 64, parallel: int = 1, progress: bool = False
    ) -> list[Answer]:
        """Return the language model's answer to each query: what `ask` returns for each, but for the times.

        All prompts are made from one state of the store before the first is answered. No other thread can use this
        handle meanwhile. If the model fails for one query, the answers to the others are lost.

        Parameters
        ----------
        queries : iterable of str
            See `demonstrations_many`.
        max_tokens : int, default=64
            Most tokens of each answer, from 1 to 2**20.
        parallel : int, default=1
            Number of requests at a time to a model server, from 1 to 1024. A language model of your own, given as an
            object, is called from so many threads. With a `TransformersLLM`, which answers one prompt at a time, it has
            no effect.
        progress : bool, default=False
            Show the progress on a terminal.

        Raises
        ------
        ParameterError
            As for `ask`, or `parallel` is out of range, or `queries` is a single text, or a set, which has no order.
        PromptTooLongError, LLMError, ServerError, MissingPackageError, EmbedderError
            As for `ask`. The error names the place of the query. An error of another class, which a model of your own
            raises, names it in a note.

        Warns
        -----
        StopWarning
            As for `ask`, once for all queries.
        """
        with self._opened.lock:
            return answers(self._opened, Queries.many(queries), max_tokens, parallel=parallel, progress=progress)

    def choose(self, query: str, options: Sequence[str] | None = None) -> Choice:
        """Return the option that the language model prefers as an answer to a query.

        Parameters
        ----------
        query : str
        options : sequence of str or None, default=None
            None: the store's options.

        Raises
        ------
        ParameterError
            There are no options, one is blank or given twice, or query or options are refused as for `ask`.
        PromptTooLongError, LLMError, ServerError, MissingPackageError, EmbedderError
            As for `ask`.
        """
        with self._opened.lock:
            return choices(self._opened, Queries.one(query), options)[0]

    def choose_many(
        self,
        queries: Iterable[str],
        options: Sequence[str] | None = None,
        *,
        parallel: int = 1,
        progress: bool = False,
    ) -> list[Choice]:
        """Return the option that the language model prefers for each query: what `choose` returns, but for the times.

        Parameters
        ----------
        queries, parallel, progress
            See `ask_many`.
        options : sequence of str or None, default=None
            The options of every query. None: the store's options.

        Raises
        ------
        ParameterError, PromptTooLongError, LLMError, ServerError, MissingPackageError, EmbedderError
            As for `choose` and `ask_many`.
        """
        with self._opened.lock:
            return choices(self._opened, Queries.many(queries), options, parallel=parallel, progress=progress)

    def warm(self, *, progress: bool = False) -> WarmReport:
        """Compute before it is asked for what the language model can keep of demonstrations.

        If each query has demonstrations of its own (``strategy="knn"``) and the model reads them as windows, the window
        of every example is written to a file of the store, encrypted under a key that is derived from the example's.
        Later queries, in any process, read windows that are not in memory from there. Windows that are there are left
        as they are, so a call that was interrupted goes on where it was. Call it again after `ingest`, and after a
        change of the language model or of the libraries that run it.

        If queries share prompts (the other strategies), each prompt is run, and kept in the memory of this process as
        far as the model's budget allows (``TransformersLLM(memory=...)``).

        There is nothing to compute for a model that is not a `TransformersLLM`. Windows take much space: see
        docs/deploying.md. Other threads can use this handle between one prompt, or a few windows, and the next. Other
        processes can write to the store.

        Parameters
        ----------
        progress : bool, default=False
            Show the progress on a terminal.

        Raises
        ------
        LLMError
            The model cannot be loaded, or the store insists on windows and the model cannot read them, or they cannot
            be kept in files. Or its tokenizer cannot tokenise a control token in an example as text.
        StoreLockedError
            Another process computes windows.
        StoreError
            A file cannot be written.
        PromptTooLongError, ServerError, MissingPackageError
            As for `ask`.
        """
        return warm(self._opened, progress=progress)

    def status(self) -> Status:
        """Return a summary of the store."""
        with self._opened.lock:
            return status_of(self._opened)

    def examples(self) -> list[Example]:
        """Return all examples, by ascending id."""
        with self._opened.lock:
            return all_examples(self._opened)

    def export(self, path: str | PathLike[str] | BinaryIO) -> int:
        """Write all examples to a new file as JSON lines, which `ingest` reads, and return their number.

        Receipts and the list of what was forgotten are not exported.

        Parameters
        ----------
        path : path or binary file
            A new file outside the store's folder, or a file object that is open for writing bytes.

        Raises
        ------
        ParameterError
            `path` is not a path.
        StoreError
            The file exists, is inside the store's folder, or cannot be written.
        """
        with self._opened.lock:
            return export_examples(self._opened, path)

    @property
    def id_type(self) -> type[int] | type[str] | None:
        """Type of the ids; None for a store without examples."""
        with self._opened.lock:
            return self._opened.read(Reads.id_type)

    @property
    def settings(self) -> Settings:
        """The settings with which the store was created."""
        return self._opened.settings

    @property
    def embedder(self) -> Embedder:
        """The embedding model, which is loaded if it was not.

        Raises
        ------
        EmbedderError, MissingPackageError
            It cannot be loaded, or is not the one that the store was built with.
        """
        with self._opened.lock:
            self.refresh()
            return self._opened.backends.embedder

    @property
    def llm(self) -> LLM:
        """The language model, which is loaded if it was not. What it keeps of prompts, `forget` drops.

        Raises
        ------
        LLMError, MissingPackageError
            It cannot be loaded.
        """
        with self._opened.lock:
            self.refresh()
            return self._opened.backends.llm

    def refresh(self) -> None:
        """Drop from memory what other processes have forgotten. Every call that reads the store does so too."""
        with self._opened.lock:
            self._opened.read(lambda reads: None)

    # ---- proof ----
    def verify(
        self,
        absent: Iterable[str | NDArray[np.floating]] = (),
        *,
        known: Iterable[tuple[int, str]] = (),
        progress: bool = False,
    ) -> Verification:
        """Verify the store: its model, rows, receipts and files.

        The model is compared with a fit by a second implementation, which shares no code with the first, and the
        demonstrations with those of a model reloaded from the same bytes. With ``strategy="routed"`` all prompts and
        the routes of all examples are compared with both, and with ``strategy="knn"`` the nearest examples of 16
        examples. Each row is compared with its hash, and all rows with the store's commitment. The receipts must fit
        one another and the store and, if `open` was given public keys, be signed by these.

        Parameters
        ----------
        absent : iterable of str and of ndarray of shape (dim,)
            Texts and vectors that no file of the store may contain. Each is searched for in several encodings (UTF-8
            and UTF-16, JSON, base64, hex; float64, 32 and 16, int16), a text by its vector too. See docs/guarantees.md.
        known : iterable of (int, str), default=()
            Number and hash of receipts that were noted elsewhere (`newest_receipt`) and must still be present.
        progress : bool, default=False
            Show the progress on a terminal.

        Raises
        ------
        ParameterError
            A text is too short to search for, a vector has another shape than (dim,), or a value of `known` is not the
            number and hash of a receipt.
        EmbedderError, MissingPackageError
            Texts are given, and the embedding model cannot be loaded.
        StoreError
            The store's content cannot be read, or has the wrong type.
        """
        # verify 1: check the arguments
        wanted = checks.texts_and_vectors("absent", absent)
        noted = [as_receipt_ref("known", each) for each in checks.several("known", known)]
        with self._opened.lock:
            return verify_store(self._opened, wanted, noted, progress=progress)

    def receipts(self) -> list[Receipt]:
        """Return the published receipts, oldest first. `verify` checks whether they fit together.

        Raises
        ------
        ReceiptError
            A receipt is malformed or modified, or the folder cannot be read.
        """
        with self._opened.lock, self._opened.store.reading():
            folder = self._opened.receipts.folder
            return [folder.read(number) for number in folder.numbers()]

    @property
    def newest_receipt(self) -> ReceiptRef:
        """Number and hash of the newest receipt, to note elsewhere; ``(0, "")`` if there are no receipts."""
        with self._opened.lock:
            return self._opened.read(lambda reads: reads.state.head.ref)

    # ---- closing ----
    def close(self) -> None:
        """Close the store, and overwrite what the language model has cached of prompts.

        A language model that was given as an object, or that a copy of this handle has too, keeps prompts of other
        handles if it can distinguish them, as `TransformersLLM` does.
        """
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(kind: type[Erase], path: Path, parameters_: Mapping[str, Any]) -> Erase:
    """Open the store of a pickled handle."""
    return kind.open(path, **parameters_)
