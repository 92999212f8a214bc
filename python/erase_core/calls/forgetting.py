"""A call of `forget`, from the request to the report: a dry run, a removal, or nothing to remove.

For the removal itself and the order of its writes, see erasure/removal.py.
"""

from __future__ import annotations

import time
from dataclasses import replace

from erase_core.calls.open_store import OpenStore
from erase_core.erasure.request import Matched, Request
from erase_core.errors import LLMError, ScrubError
from erase_core.reports import ForgetReport, PromptChanges
from erase_core.selection import possible_prompts
from erase_core.store.clustering import ModelTransaction
from erase_core.store.reads import Reads

__all__ = ["run_dry_forget", "run_forget"]


def run_dry_forget(opened: OpenStore, request: Request) -> ForgetReport:
    """Return the report of what `forget` would do, without changing anything."""

    def run(reads: Reads) -> ForgetReport:
        matched = request.resolve(reads)
        before = opened.prompts(reads)
        if not matched.ids:
            return matched.report(None, len(reads), PromptChanges(before, before), dry_run=True)
        update, model = opened.clustering.trial(reads, matched.ids)
        prompts = PromptChanges(before, possible_prompts(opened.settings, model))
        return matched.report(update, len(reads) - len(matched.ids), prompts, dry_run=True)

    return opened.read(run)


def run_forget(opened: OpenStore, request: Request) -> ForgetReport:
    """Remove examples from the store, its files and the models' caches. See `Erase.forget`.

    Raises
    ------
    ScrubError
        The removal is done, but keys may still be there, or the receipt is not published. The error has the report.
    """
    start = time.perf_counter()
    # forget 2: the lock for removals
    with opened.removals.exclusive():
        # If there is nothing to remove, nothing is written.
        report = _nothing_to_forget(opened, request) if request.skips_missing else None
        if report is None:
            # forget 3: the transaction, to its commit (8)
            with opened.clustering.writing(may_lack_model=True) as tx:
                report = _removed(opened, tx, request.resolve(tx))
        report = replace(report, seconds=time.perf_counter() - start)
        if report.ids or not opened.removals.are_finished():
            _finish(opened, report)
    return report


def _nothing_to_forget(opened: OpenStore, request: Request) -> ForgetReport | None:
    """Return the report if there is nothing to remove; otherwise None."""

    def run(reads: Reads) -> ForgetReport | None:
        matched = request.resolve(reads)
        if matched.ids:
            return None
        prompts = opened.prompts(reads)
        return matched.report(None, len(reads), PromptChanges(prompts, prompts))

    return opened.read(run)


def _removed(opened: OpenStore, tx: ModelTransaction, matched: Matched) -> ForgetReport:
    """Remove examples in a transaction, and return the report."""
    # Without a model, it is not known what was shown.
    before = opened.prompts(tx) if opened.clustering.is_current(tx) else []
    if not matched.ids:  # another process has removed them, on a file system without locks
        return matched.report(None, len(tx), PromptChanges(before, before))
    update, model, receipt = opened.removals.remove(tx, matched.ids, matched.subjects)
    prompts = PromptChanges(before, possible_prompts(opened.settings, model))
    return matched.report(update, len(tx), prompts, receipt)


def _finish(opened: OpenStore, report: ForgetReport) -> None:
    """Remove what is left of the examples: first their keys, then what the language model has cached."""
    unfinished: ScrubError | None = None
    try:
        # forget 9 and 10: keys and receipts
        opened.removals.finish()
    except ScrubError as error:
        unfinished = error
    # forget 11: the language model
    try:
        opened.forget_gone(report.ids)
    except LLMError as error:
        unfinished = unfinished or ScrubError(f"the removal is done, but {error}")
    if unfinished is not None:
        unfinished.report = report
        raise unfinished
