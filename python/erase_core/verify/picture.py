"""All that `verify` looks at, read as of one moment. Nothing is judged here; see judgement.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from erase_core import checks
from erase_core._core import Model
from erase_core.erasure.receipt_checks import StoreReceipts
from erase_core.errors import StoreError
from erase_core.receipts.chain import ChainVerification, verify_chain
from erase_core.receipts.receipt import Receipt, ReceiptRef
from erase_core.settings import Settings
from erase_core.store.metadata import Head
from erase_core.store.model_cache import Clustering
from erase_core.store.reads import Reads
from erase_core.verify import reference

__all__ = ["Picture", "ReceiptsPicture", "RowsPicture", "take"]


class RowsPicture(NamedTuple):
    """The rows of the tables, each seen to be sound, and what the store is committed to.

    Parameters
    ----------
    hashes : list of bytes
        Of the examples.
    commitment : bytes
    forgotten : set of bytes
        The list of what was forgotten: tokens.
    forgotten_commitment : bytes
    back : list of int or str
        Ids of examples that are there and on that list.
    """

    hashes: list[bytes]
    commitment: bytes
    forgotten: set[bytes]
    forgotten_commitment: bytes
    back: list[int | str]


class ReceiptsPicture(NamedTuple):
    """The receipts, and what the store knows of them.

    Parameters
    ----------
    head : Head
        The newest one that the store knows.
    newest : int
        Number of the newest one that is published.
    pending : frozenset of int
        Numbers of those that are to be published.
    chain : ChainVerification
        How those up to `head` fit together.
    found : Receipt or None
        The newest one that the store knows, as it was found.
    still_there : list of int or str
        Ids of examples that are there, though a receipt says that they were removed.
    committed : (bytes, str) or None
        The store's commitments to its examples and to its model; None if it was written to since the newest receipt.
    """

    head: Head
    newest: int
    pending: frozenset[int]
    chain: ChainVerification
    found: Receipt | None
    still_there: list[int | str]
    committed: tuple[bytes, str] | None


class Picture(NamedTuple):
    """A store as of one moment.

    Parameters
    ----------
    model : Model or None
    ids, vectors
        Of all examples, by ascending id.
    settings : Settings
    params : reference.Params
        The parameters as the store has them, not as the model that is judged has them.
    digest : str
        Of the model, as the store has it.
    snapshot : str
        Digest of the snapshot; empty if there is none.
    is_scrubbed : bool
        Whether what was removed is gone from the files.
    is_sound : bool
        Whether SQLite finds its own structures whole.
    rows : RowsPicture or StoreError
        The error where a row is damaged.
    receipts : ReceiptsPicture
    """

    model: Model | None
    ids: list[int | str]
    vectors: NDArray[np.float32]
    settings: Settings
    params: reference.Params
    digest: str
    snapshot: str
    is_scrubbed: bool
    is_sound: bool
    rows: RowsPicture | StoreError
    receipts: ReceiptsPicture


def take(
    reads: Reads, clustering: Clustering, receipts: StoreReceipts, newest: int, known: Sequence[ReceiptRef]
) -> Picture:
    """Return the picture of a store.

    Parameters
    ----------
    reads : Reads
    clustering : Clustering
    receipts : StoreReceipts
    newest : int
        Number of the newest receipt that was published before the store is read.
    known : sequence of ReceiptRef
        Receipts that must be there.
    """
    snapshot, model = clustering.snapshot_digest(), clustering.current(reads)
    clustering.outdated |= snapshot != ("" if model is None else model.digest())
    ids, vectors = reads.vectors()
    of_receipts = _receipts(reads, receipts, newest, known)
    return Picture(
        model,
        ids,
        vectors,
        reads.constants.settings,
        _params(reads),
        reads.metadata.digest,
        snapshot,
        reads.metadata.is_scrubbed,
        reads.is_sound(),
        _rows(reads),
        of_receipts,
    )


def _params(reads: Reads) -> reference.Params:
    settings, axes = reads.constants.settings, reads.constants.axes
    return reference.Params(
        n_clusters=settings.n_shots,
        epsilon=checks.ratio("epsilon", settings.epsilon, 0, checks.MAX_EPSILON),
        gamma=checks.ratio("gamma", settings.gamma, None, 1),
        max_iter=settings.max_iter,
        panel=checks.panel(settings.panel, settings.n_shots),
        seed=settings.seed,
        max_norm=1.0,
        projection=settings.projection if axes is None else axes,
    )


def _rows(reads: Reads) -> RowsPicture | StoreError:
    try:
        hashes = reads.hashes()
    except StoreError as error:
        return error
    commitment, forgotten = reads.metadata.commitment, reads.all_forgotten()
    forgotten_commitment = reads.metadata.forgotten_commitment
    back = reads.known_by((), forgotten) if forgotten else []
    return RowsPicture(hashes, commitment, forgotten, forgotten_commitment, back)


def _receipts(reads: Reads, receipts: StoreReceipts, newest: int, known: Sequence[ReceiptRef]) -> ReceiptsPicture:
    head, pending = reads.metadata.head, dict(reads.pending())
    chain, sound = verify_chain(
        receipts.folder, head.ref, known, receipts.public_keys, pending=pending, upto=head.number
    )
    still_there = reads.known_by({bytes.fromhex(row) for receipt in sound for row in receipt.rows})
    found = next((receipt for receipt in sound if receipt.number == head.number), None)
    committed = None
    if found and reads.metadata.head_is_current:
        committed = reads.metadata.commitment, reads.metadata.model_commitment
    return ReceiptsPicture(head, newest, frozenset(pending), chain, found, still_there, committed)
