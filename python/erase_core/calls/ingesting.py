"""A call of `ingest`: checks and embeds examples, and adds them to the store and the clustering in one transaction."""

from __future__ import annotations

import time
from itertools import compress
from typing import Any, get_args

import numpy as np

from erase_core import checks
from erase_core.backends import checked_vectors
from erase_core.calls.open_store import OpenStore
from erase_core.embedding.sentence import Embedder
from erase_core.erasure.admission import Admission, OnDuplicate, OnForgotten, notes_of_duplicates
from erase_core.erasure.truncation import count_tokens, limit_of
from erase_core.examples.control_tokens import OnControlTokens, without_control_tokens
from erase_core.examples.example import AnyExample, Reading
from erase_core.progress import bar
from erase_core.reports import IngestReport, PromptChanges
from erase_core.selection import prompts_after_adding
from erase_core.store.reads import Reads

__all__ = ["admitted_now", "run_ingest", "without_refused_tokens"]


def without_refused_tokens(
    opened: OpenStore, reading: Reading, source: object, choice: OnControlTokens | None, *, skip_bad: bool
) -> Reading:
    """Treat examples with control tokens as bad rows if the choice is "refuse". None: the choice of the store."""
    choice = opened.settings.on_control_tokens if choice is None else choice
    checks.choice("on_control_tokens", choice, get_args(OnControlTokens))
    if choice == "keep":
        return reading
    return without_control_tokens(reading, source, opened.backends.control_tokens, skip_bad=skip_bad)


def admitted_now(
    opened: OpenStore, reading: Reading, admission: Admission, *, skips_duplicates: bool
) -> tuple[list[AnyExample], int]:
    """Return the examples that may be added to the store as it is, and the store's generation.

    Raises
    ------
    ForgottenError, DuplicateIdError, IdKindError
    """

    def admitted(reads: Reads) -> tuple[list[AnyExample], int]:
        coming = list(compress(reading.examples, admission.admits(reads, reading.examples)))
        reads.check_new([e.id for e in coming if e.id is not None], same_are_skipped=skips_duplicates)
        return coming, reads.state.generation

    return opened.read(admitted)


def _on(engine: Any, embedder: Embedder) -> Embedder:
    """Return an embedder that runs on an engine; the embedder itself if the engine is None."""
    if engine is None:
        return embedder
    from erase_core.distributed.embedding import EngineEmbedder

    return EngineEmbedder(embedder, engine)


def run_ingest(
    opened: OpenStore,
    reading: Reading,
    *,
    on_forgotten: OnForgotten,
    on_duplicate: OnDuplicate,
    engine: Any = None,
    progress: bool,
) -> IngestReport:
    """Add the examples of a source: all that are admitted, or none if there is an error. See `Erase.ingest`.

    Parameters
    ----------
    opened : OpenStore
    reading : Reading
        The rows of the source.
    on_forgotten, on_duplicate, engine, progress

    Returns
    -------
    IngestReport
        Its `seconds` do not include reading the source.
    """
    start = time.perf_counter()
    admission = Admission(on_forgotten, on_duplicate)
    skips = on_duplicate == "skip"
    coming, checked = admitted_now(opened, reading, admission, skips_duplicates=skips)
    embedder = opened.backends.embedder
    before = time.perf_counter()
    inputs = [example.input for example in coming]
    vectors = checked_vectors(_on(engine, embedder), inputs, progress)
    limit, counts = limit_of(embedder), count_tokens(embedder, inputs)
    embedding_seconds = time.perf_counter() - before
    kept = vectors
    try:
        with opened.clustering.writing() as tx:
            # Others may have written meanwhile.
            is_same = tx.state.generation == checked
            admitted = np.ones(len(coming), dtype=np.bool_) if is_same else admission.admits(tx, coming)
            model = opened.clustering.current(tx)
            shown = prompts = opened.prompts(tx)
            examples = admission.numbered(tx, list(compress(coming, admitted)), model)
            counts = counts[admitted]
            # Not copied if all are admitted, because they may be many.
            kept = vectors if admitted.all() else vectors[admitted]
            ids = [example.id for example in examples]
            if not is_same:
                tx.check_new(ids, same_are_skipped=skips)
            tx.readmit(admission.tokens)
            cut = set() if limit is None else set(np.flatnonzero(counts >= limit).tolist())
            with bar("Storing", len(examples), shown=progress) as advance:
                slots = tx.insert(examples, kept, cut, advance)
            if ids:
                model = opened.clustering.add(tx, slots, ids, kept)
                prompts = prompts_after_adding(opened.settings, model, shown, ids)
            alike = [[example.id for example in group] for group in tx.twins(slots[place] for place in cut)]
            n_examples = len(tx)
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
        prompts=PromptChanges(shown, prompts),
    )
