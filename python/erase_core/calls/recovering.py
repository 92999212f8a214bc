"""What is done when a store is opened: earlier removals are finished, and done again in a copy from before them."""

from __future__ import annotations

from typing import NamedTuple

from erase_core.calls.forgetting import is_scrubbed
from erase_core.calls.handle import Handle
from erase_core.erasure.recovery import Recovery
from erase_core.errors import ScrubError

__all__ = ["Recovered", "recover"]


class Recovered(NamedTuple):
    """What was found and done.

    Parameters
    ----------
    n_removed : int or None
        How many examples were removed again; None if the store is not a copy from before a removal.
    unfinished : ScrubError or None
        Why an earlier removal could not be finished.
    """

    n_removed: int | None
    unfinished: ScrubError | None


def recover(handle: Handle) -> Recovered:
    """Finish what a crash, a full disk or a reader held up, and do again what an old copy does not know.

    Raises
    ------
    ReceiptError
        The receipts are not there, or not the store's, or some are missing or were changed.
    """
    with handle.store.reading() as reads:
        handle.receipts.check_pending(reads)
    recovery = Recovery(handle.store, handle.clustering, handle.receipts, handle.removals)
    n_removed = recovery.catch_up()
    scrubbed = is_scrubbed(handle)
    if not scrubbed or handle.clustering.has_leftovers():
        with handle.reading() as reads:  # which makes the snapshot good
            handle.clustering.current(reads)
    unfinished = None
    if not scrubbed:
        try:
            recovery.finish_what_others_left()
        except ScrubError as error:
            unfinished = error
    return Recovered(n_removed, unfinished)
