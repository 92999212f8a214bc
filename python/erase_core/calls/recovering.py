"""What `Erase.open` recovers: it finishes interrupted removals, and does removals again that an old copy lacks."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from erase_core.calls.open_store import OpenStore
from erase_core.erasure.recovery import Recovery
from erase_core.errors import OldCopyWarning, ScrubError, ScrubWarning, warn_user
from erase_core.examples.example import counted

__all__ = ["Recovered", "recover", "warn_about"]


class Recovered(NamedTuple):
    """What `recover` did.

    Parameters
    ----------
    n_removed : int or None
        Number of examples removed again; None if the store is not a copy from before a removal.
    n_lost : int
        Number of keys that were destroyed because no example had them.
    unfinished : ScrubError or None
        Why an earlier removal could not be finished.
    """

    n_removed: int | None
    n_lost: int
    unfinished: ScrubError | None


def recover(opened: OpenStore) -> Recovered:
    """Finish removals that a crash or a full disk interrupted, and do again those that an old copy lacks.

    Raises
    ------
    ReceiptError
        Receipts are missing or modified, or belong to another store.
    """
    with opened.store.reading() as reads:
        opened.receipts.check_pending(reads)
    recovery = Recovery(opened.store, opened.clustering, opened.receipts, opened.removals)
    n_removed = recovery.catch_up()
    n_lost, unfinished = 0, None
    try:
        n_lost = recovery.finish_what_others_left()
    except ScrubError as error:
        unfinished = error
    return Recovered(n_removed, n_lost, unfinished)


def warn_about(recovered: Recovered, folder: Path) -> None:
    """Warn the caller of `Erase.open` about a removal that is not finished, and about an old copy."""
    if recovered.unfinished is not None:
        warn_user(str(recovered.unfinished), ScrubWarning)
    removed = recovered.n_removed
    if removed is not None:
        n_lost = recovered.n_lost
        came = f"; {counted(n_lost, 'example')} that {'was' if n_lost == 1 else 'were'} ingested since "
        lost = f"{came}{'is' if n_lost == 1 else 'are'} lost" if n_lost else ""
        warn_user(
            f"{folder} was a copy from before a removal; {counted(removed, 'example')} that the receipts list "
            f"{'was' if removed == 1 else 'were'} removed again{lost}",
            OldCopyWarning,
        )
