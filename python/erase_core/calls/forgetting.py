"""A call of `forget`, from the request to the report: a dry run, a removal, or nothing to remove.

For the removal itself and the order of its writes, see erasure/removal.py.
"""

from __future__ import annotations

import time
from dataclasses import replace

from erase_core.calls.handle import Handle
from erase_core.erasure.request import Going, Request
from erase_core.errors import LLMError, ScrubError
from erase_core.reports import ForgetReport
from erase_core.selection import select_demonstrations
from erase_core.store.model_cache import ModelTransaction

__all__ = ["forget", "is_scrubbed", "would_forget"]


def would_forget(handle: Handle, request: Request) -> ForgetReport:
    """Return the report of what `forget` would do, without changing anything."""
    with handle.reading() as reads:
        going = request.going(reads)
        before = handle.shown(reads)
        if not going.ids:
            return going.report(None, len(reads), before, before, dry_run=True)
        update, model = handle.clustering.trial(reads, going.ids)
        after = select_demonstrations(handle.settings, model)
        return going.report(update, len(reads) - len(going.ids), before, after, dry_run=True)


def forget(handle: Handle, request: Request) -> ForgetReport:
    """Remove examples from the store, its files and the models' caches. See `Erase.forget`.

    Raises
    ------
    ScrubError
        The removal is done, but files may still hold the examples. The error has the report.
    """
    start = time.perf_counter()
    # forget 2: the lock for removals
    with handle.removals.alone():
        # If there is nothing to remove, nothing is written.
        report = _nothing_to_forget(handle, request) if request.skips else None
        if report is None:
            # forget 3: the transaction, to its commit (8)
            with handle.clustering.writing() as tx:
                report = _removed(handle, tx, request.going(tx))
        report = replace(report, seconds=time.perf_counter() - start)
        if report.ids or not is_scrubbed(handle):
            _finish(handle, report)
    return report


def is_scrubbed(handle: Handle) -> bool:
    """Whether the store records that its files have been rewritten since the last removal."""
    with handle.store.reading() as reads:
        return reads.metadata.is_scrubbed


def _nothing_to_forget(handle: Handle, request: Request) -> ForgetReport | None:
    """Return the report if there is nothing to remove; otherwise None."""
    with handle.reading() as reads:
        going = request.going(reads)
        if going.ids:
            return None
        shown = handle.shown(reads)
        return going.report(None, len(reads), shown, shown)


def _removed(handle: Handle, tx: ModelTransaction, going: Going) -> ForgetReport:
    """Remove examples in a transaction, and return the report."""
    before = handle.shown(tx)
    if not going.ids:  # another process has removed them, on a file system without locks
        return going.report(None, len(tx), before, before)
    update, model, receipt = handle.removals.remove(tx, going.ids, going.subjects)
    return going.report(update, len(tx), before, select_demonstrations(handle.settings, model), receipt)


def _finish(handle: Handle, report: ForgetReport) -> None:
    """Remove what is left of the examples: first from the files, then from the language model's cache."""
    unfinished: ScrubError | None = None
    try:
        # forget 9 to 11: files and receipts
        handle.removals.finish()
    except ScrubError as error:
        unfinished = error
    # forget 12: the language model
    try:
        handle.models.forget()
    except LLMError as error:
        unfinished = unfinished or ScrubError(f"the removal is done, but {error}")
    if unfinished is not None:
        unfinished.report = report
        raise unfinished
