"""Verifies a store: its model, its rows, its receipts and its files. No example is changed.

First one consistent picture of the store is read (picture.py). Then it is judged (judgement.py). Last, the files are
searched (search.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from erase_core.erasure.receipt_checks import StoreReceipts
from erase_core.erasure.removal import Removals
from erase_core.errors import StoreError, os_reason
from erase_core.receipts.chain import judge_chain
from erase_core.receipts.receipt import ReceiptRef
from erase_core.reports import Verification
from erase_core.store.clustering import Clustering
from erase_core.store.reads import Reads
from erase_core.verify.judgement import judge
from erase_core.verify.picture import Picture, take
from erase_core.verify.search import Finding, search

__all__ = ["verify"]


def verify(
    read: Callable[[Callable[[Reads], Any]], Any],
    folder: Path,
    clustering: Clustering,
    receipts: StoreReceipts,
    removals: Removals,
    absent: Sequence[Mapping[str, bytes]] = (),
    known: Sequence[ReceiptRef] = (),
    *,
    progress: bool = False,
) -> Verification:
    """Verify a store. See `Erase.verify`.

    Parameters
    ----------
    read : callable
        Calls a function that reads from one state of the store, and returns its result.
    folder : Path
        Folder of the store.
    clustering, receipts, removals
    absent : sequence of mappings
        Texts and vectors that must not be in the files, each as a mapping of its encodings; see `forms`.
    known : sequence of ReceiptRef
        Receipts that must be present.
    progress : bool, default=False
        Whether to show a progress bar on a terminal.
    """
    start = time.perf_counter()
    # verify 2: the newest receipt
    # It is looked up before the store is read: a removal writes its receipt to the store before it publishes it.
    newest = receipts.newest()

    # verify 3: everything as of one moment
    def taken(reads: Reads) -> Picture:
        return take(
            reads,
            clustering,
            receipts,
            newest,
            n_left_windows=removals.n_left_windows(),
            is_finished=removals.are_finished(),
            progress=progress,
        )

    picture: Picture = read(taken)
    # verify 6: the receipts form a chain; 4, 5 and the rest of 6 are in judgement.py
    chain = judge_chain(picture.receipts.collected, picture.receipts.head.ref, known, receipts.public_keys)
    problems = [str(problem) for problem in judge(picture, chain)]
    picture.vectors.fill(0)
    # verify 7: the files
    problems += map(str, _search(read, (folder, receipts.folder.path), absent))
    # verify 8: the report
    return Verification(
        ok=not problems,
        problems=problems,
        n_examples=len(picture.ids),
        n_receipts=chain.n_receipts,
        public_keys=chain.public_keys,
        keys_are_named=bool(receipts.public_keys),
        digest="" if picture.model is None else picture.model.digest(),
        scrubbed=picture.is_finished,
        n_absent=len(absent),
        detects_old_copies=receipts.are_outside,
        seconds=time.perf_counter() - start,
    )


def _search(
    read: Callable[[Callable[[Reads], Any]], Any], folders: Iterable[Path], absent: Sequence[Mapping[str, bytes]]
) -> list[Finding]:
    if not absent:
        return []
    try:
        files = sorted({file for folder in folders for file in folder.rglob("*") if file.is_file()})
        findings: list[Finding] = read(lambda reads: search(files, absent, reads.values()))
    except OSError as error:
        raise StoreError(f"{error.filename} cannot be searched: {os_reason(error)}") from error
    return findings
