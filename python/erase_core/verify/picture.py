"""Reads all data that `verify` needs, in one consistent state. For the judgement, see judgement.py."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from erase_core import checks
from erase_core._core import Model
from erase_core.erasure.receipt_checks import StoreReceipts
from erase_core.errors import StoreError
from erase_core.progress import bar
from erase_core.receipts.folder import FoundReceipt
from erase_core.receipts.receipt import Receipt
from erase_core.settings import Settings
from erase_core.store.clustering import Clustering
from erase_core.store.reads import Reads
from erase_core.store.state import Head, State
from erase_core.verify import reference

__all__ = ["Picture", "ReceiptsPicture", "RowsPicture", "take"]


class RowsPicture(NamedTuple):
    """The rows of the tables, each checked against its hash, and the store's commitments to them.

    Parameters
    ----------
    hashes : list of bytes
        The hashes of the examples.
    n_subjects : int
    commitment : bytes
        The commitment to them.
    forgotten : set of bytes
        The tokens on the list of what was forgotten.
    forgotten_commitment : bytes
        The commitment to this list.
    back : list of int or str
        Ids of examples in the store that are on this list.
    """

    hashes: list[bytes]
    n_subjects: int
    commitment: bytes
    forgotten: set[bytes]
    forgotten_commitment: bytes
    back: list[int | str]


class ReceiptsPicture(NamedTuple):
    """The receipts, and what the store knows about them.

    Parameters
    ----------
    head : Head
        The newest receipt that the store knows.
    newest : int
        Number of the newest published receipt.
    pending : frozenset of int
        Numbers of the receipts that are not published yet.
    collected : list of FoundReceipt
        The receipts up to `head`, published or not.
    found : Receipt or None
        The receipt with the number of `head`; None if it is missing or invalid.
    still_there : list of int or str
        Ids of examples in the store that a receipt lists as removed.
    committed : (bytes, str) or None
        The store's commitments to its examples and to its model. None if it was written to since the newest receipt, or
        that receipt was not found.
    """

    head: Head
    newest: int
    pending: frozenset[int]
    collected: list[FoundReceipt]
    found: Receipt | None
    still_there: list[int | str]
    committed: tuple[bytes, str] | None


class Picture(NamedTuple):
    """The state of a store at one moment.

    Parameters
    ----------
    model : Model or None
    ids : list of int or str
        The ids of all examples, ascending.
    vectors : ndarray of float32, of shape (n, dim)
        Their vectors, in the same order.
    settings : Settings
    params : reference.Params
        The parameters in the store's settings, not those of the model, which is to be judged.
    state : State
        What the store records of itself.
    is_model : bool
        Whether the model is the one that the store was left with.
    n_unused : int
        Number of keys that no example has, apart from those of removals that are not finished.
    n_left_windows : int
        Number of files of windows whose keys are destroyed.
    is_finished : bool
        Whether the keys of all removed examples are destroyed, and all receipts published.
    is_sound : bool
        Whether SQLite finds its trees, indexes and constraints intact.
    rows : RowsPicture or StoreError
        The error if a row is damaged.
    receipts : ReceiptsPicture
    """

    model: Model | None
    ids: list[int | str]
    vectors: NDArray[np.float32]
    settings: Settings
    params: reference.Params
    state: State
    is_model: bool
    n_unused: int
    n_left_windows: int
    is_finished: bool
    is_sound: bool
    rows: RowsPicture | StoreError
    receipts: ReceiptsPicture


def take(
    reads: Reads,
    clustering: Clustering,
    receipts: StoreReceipts,
    newest: int,
    *,
    n_left_windows: int,
    is_finished: bool,
    progress: bool,
) -> Picture:
    """Return the picture of a store.

    Parameters
    ----------
    reads : Reads
    clustering : Clustering
    receipts : StoreReceipts
    newest : int
        Number of the newest receipt that was published before the store is read.
    n_left_windows : int
        See `Removals.n_left_windows`.
    is_finished : bool
        See `Removals.are_finished`.
    progress : bool
        Whether to show a progress bar on a terminal.
    """
    # Read first: others may forget examples meanwhile.
    used, _ = reads.used_slots(), reads.model_secret
    model = clustering.current(reads)
    slots, ids, vectors = reads.vectors()
    order = sorted(range(len(ids)), key=lambda place: ids[place])
    sorted_vectors = vectors[order]
    vectors.fill(0)
    to_destroy = [slot for each in reads.unfinished() for slot in each.slots]
    unused = np.setdiff1d(used, [*slots, *to_destroy])
    # A slot from `next_slot` on may be of an ingest that is not committed yet.
    unused = unused[unused < reads.state.next_slot]
    return Picture(
        model,
        [ids[place] for place in order],
        sorted_vectors,
        reads.constants.settings,
        _params(reads),
        reads.state,
        reads.is_model("" if model is None else model.digest()),
        len(unused),
        n_left_windows,
        is_finished,
        reads.is_sound(),
        _rows(reads, progress=progress),
        _receipts(reads, receipts, newest),
    )


def _params(reads: Reads) -> reference.Params:
    settings, axes = reads.constants.settings, reads.constants.axes
    return reference.Params(
        n_clusters=settings.n_clusters,
        epsilon=checks.epsilon(settings.epsilon),
        gamma=checks.gamma(settings.gamma),
        max_iter=settings.max_iter,
        panel=checks.panel(settings.panel, settings.n_clusters),
        seed=settings.seed,
        max_norm=1.0,
        projection=settings.projection if axes is None else axes,
    )


def _rows(reads: Reads, *, progress: bool) -> RowsPicture | StoreError:
    try:
        with bar("Checking examples", len(reads), shown=progress) as advance:
            rows = []
            for _, example, row_hash, _ in reads.checked_rows():
                rows.append((row_hash, example.subject))
                advance(1)
    except StoreError as error:
        return error
    forgotten = reads.all_forgotten()
    back = reads.ids_of(reads.slots_matching((), forgotten)) if forgotten else []
    return RowsPicture(
        [row_hash for row_hash, _ in rows],
        len({subject for _, subject in rows} - {None}),
        reads.state.commitment,
        forgotten,
        reads.state.forgotten_commitment,
        back,
    )


def _receipts(reads: Reads, receipts: StoreReceipts, newest: int) -> ReceiptsPicture:
    head, pending = reads.state.head, dict(reads.pending())
    collected = receipts.folder.collect(pending, upto=head.number)
    in_place = [receipt for each in collected if (receipt := each.in_place)]
    removed = {bytes.fromhex(row) for receipt in in_place for row in receipt.rows}
    still_there = reads.ids_of(reads.slots_matching(removed))
    found = next((receipt for receipt in in_place if receipt.number == head.number), None)
    committed = None
    if found and reads.state.head_is_current:
        committed = reads.state.commitment, reads.state.model
    return ReceiptsPicture(head, newest, frozenset(pending), collected, found, still_there, committed)
