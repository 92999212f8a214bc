"""A call of `forget`, from the request to the report: a dry run, nothing to do, or a removal that is finished.

The removal itself and the order of its writes are in erasure/removal.py.
"""

from __future__ import annotations

import time
from dataclasses import replace

from erase_core.calls.handle import Handle
from erase_core.erasure.request import Going, Request
from erase_core.errors import ScrubError
from erase_core.reports import ForgetReport
from erase_core.selection import select_demonstrations
from erase_core.store.model_cache import ModelTransaction

__all__ = ["forget", "is_scrubbed", "would_forget"]


def would_forget(handle: Handle, request: Request) -> ForgetReport:
    """Return the report of what a removal would do."""
    with handle.reading() as reads:
        going = request.going(reads)
        before = handle.shown(reads)
        if not going.ids:
            return going.report(None, len(reads), before, before, dry_run=True)
        update, model = handle.clustering.trial(reads, going.ids)
        after = select_demonstrations(handle.settings, model)
        return going.report(update, len(reads) - len(going.ids), before, after, dry_run=True)


def forget(handle: Handle, request: Request) -> ForgetReport:
    """Remove examples, and see that nothing of them is left. See `Erase.forget`.

    Raises
    ------
    ScrubError
        With the report of the removal, which is done.
    """
    start = time.perf_counter()
    # forget 2: the lock for removals
    with handle.removals.alone():
        # Where nothing is there, nothing is written.
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
    """Whether no file of the store holds what was removed, as far as the store knows."""
    with handle.store.reading() as reads:
        return reads.metadata.is_scrubbed


def _nothing_to_forget(handle: Handle, request: Request) -> ForgetReport | None:
    """Return the report of a removal of nothing; None if there is something to remove."""
    with handle.reading() as reads:
        going = request.going(reads)
        if going.ids:
            return None
        shown = handle.shown(reads)
        return going.report(None, len(reads), shown, shown)


def _removed(handle: Handle, tx: ModelTransaction, going: Going) -> ForgetReport:
    """Remove examples, and return what that did."""
    before = handle.shown(tx)
    if not going.ids:  # another process was faster, on a file system without locks
        return going.report(None, len(tx), before, before)
    update, model, receipt = handle.removals.remove(tx, going.ids, going.subjects)
    return going.report(update, len(tx), before, select_demonstrations(handle.settings, model), receipt)


def _finish(handle: Handle, report: ForgetReport) -> None:
    """See that nothing of what was removed is left: in files first, then in what the language model keeps."""
    try:
        # forget 9 to 11: files and receipts
        handle.removals.finish()
    except ScrubError as error:
        error.report = report
        raise
    finally:
        # forget 12: the language model
        handle.models.forget()
