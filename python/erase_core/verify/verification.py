"""Whether a store is what it should be: its model, its rows, its receipts, its files. It changes no example.

The model is compared with reference.py's, which shares no code with the core that maintains it.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from erase_core import checks, commitments
from erase_core._core import Model
from erase_core.erasure.removal import Removals
from erase_core.errors import DataError, IdKindError, ModelFileError, StoreError
from erase_core.examples.example import counted
from erase_core.receipts.chain import ChainVerification, verify_chain
from erase_core.receipts.receipt import Receipt
from erase_core.reports import Verification
from erase_core.selection import select_demonstrations
from erase_core.settings import Settings
from erase_core.store.model_cache import Clustering
from erase_core.store.store import Store
from erase_core.verify import reference
from erase_core.verify.scan import Finding, search

__all__ = ["verify"]

DIGEST_BYTES = 32


class Moment(NamedTuple):
    """All that is compared, as of one moment."""

    model: Model | None
    ids: list[int | str]
    vectors: NDArray[np.float32]
    settings: Settings
    params: reference.Params
    told: str
    snapshot: str
    scrubbed: bool
    chain: ChainVerification
    problems: list[str]


def verify(
    store: Store,
    clustering: Clustering,
    removals: Removals,
    absent: Sequence[Mapping[str, bytes]] = (),
    known: Sequence[tuple[int, str]] = (),
) -> Verification:
    """Verify a store. See `Erase.verify`.

    Parameters
    ----------
    store, clustering, removals
    absent : sequence of mappings
        What must not be in the files, each in several forms; see `scan`.
    known : sequence of (int, str)
        Number and hash of receipts that must be there.
    """
    start = time.perf_counter()
    # Before the store is read: who removes something meanwhile writes it to the store first.
    newest = removals.newest()
    with store.reading():
        moment = _moment(store, clustering, removals, newest, known)
    problems = [*_of_model(moment), *moment.problems]
    moment.vectors.fill(0)
    problems += map(str, _search(store, removals.receipts.path, absent))
    return Verification(
        ok=not problems,
        problems=problems,
        n_examples=len(moment.ids),
        n_receipts=moment.chain.n_receipts,
        public_keys=moment.chain.public_keys,
        keys_are_named=bool(removals.public_keys),
        digest="" if moment.model is None else moment.model.digest(),
        snapshot_digest=moment.snapshot,
        scrubbed=moment.scrubbed,
        n_absent=len(absent),
        detects_old_copies=removals.receipts_are_outside,
        seconds=time.perf_counter() - start,
    )


def _search(store: Store, receipts: Path, absent: Sequence[Mapping[str, bytes]]) -> list[Finding]:
    if not absent:
        return []
    try:
        files = sorted({file for folder in (store.folder, receipts) for file in folder.rglob("*") if file.is_file()})
        return search(files, absent, store.values())
    except OSError as error:
        raise StoreError(f"{error.filename}: {error.strerror or error}, so that it cannot be searched") from error


def _moment(
    store: Store, clustering: Clustering, removals: Removals, newest: int, noted: Sequence[tuple[int, str]]
) -> Moment:
    snapshot, model = clustering.snapshot_digest(), clustering.current()
    clustering.outdated |= snapshot != ("" if model is None else model.digest())
    ids, vectors = store.vectors()
    chain, of_receipts = _of_receipts(store, removals, newest, noted)
    return Moment(
        model,
        ids,
        vectors,
        store.facts.settings,
        _params(store),
        store.facts.digest,
        snapshot,
        store.facts.is_scrubbed,
        chain,
        [*_of_rows(store), *of_receipts],
    )


def _of_model(moment: Moment) -> Iterator[str]:
    model = moment.model
    if ("" if model is None else model.digest()) != moment.told:
        yield "the model is not the one whose digest the store tells"
    if (model is None) != (not moment.ids):
        yield "there is a model without examples, or there are examples without a model"
    if not moment.scrubbed:
        yield (
            "the files may still hold what was forgotten: a removal is under way, or was interrupted; if this stays, "
            "open the store again"
        )
    if model is None:
        return
    content = model.to_bytes()
    try:
        expected = reference.fit_bytes(moment.vectors, cast("list[int]", moment.ids), moment.params)
    except (DataError, IdKindError) as error:
        yield f"the examples present give no model: {error}"
        return
    if content[:-DIGEST_BYTES] != expected:
        yield "the model is not the one that the examples present give"
    try:
        read_anew = Model.from_bytes(content, None, None)
    except ModelFileError as error:
        yield f"the model is not sound: {error}"
    else:
        if select_demonstrations(moment.settings, model) != select_demonstrations(moment.settings, read_anew):
            yield "the demonstrations are not those of the model"


def _params(store: Store) -> reference.Params:
    """Return the parameters as the store tells them, not as the model that is judged has them."""
    settings, axes = store.facts.settings, store.facts.axes
    return reference.Params(
        n_clusters=settings.n_shots,
        epsilon=checks.ratio("epsilon", settings.epsilon, 0, checks.MAX_EPSILON),
        gamma=checks.ratio("gamma", settings.gamma, None, 1),
        max_iter=settings.max_iter,
        seed=settings.seed,
        max_norm=1.0,
        projection=settings.projection if axes is None else axes,
    )


def _of_rows(store: Store) -> Iterator[str]:
    """Yield what is wrong with the rows of the table, and with the list of what was forgotten."""
    if not store.is_sound():
        yield "SQLite finds the file damaged"
    try:
        hashes = store.hashes()
    except StoreError as error:
        yield str(error)
        return
    if commitments.plus(commitments.EMPTY, hashes) != store.facts.commitment:
        yield "the examples are not those that the store is committed to: some came, went or changed behind its back"
    forgotten = store.all_forgotten()
    if commitments.plus(commitments.EMPTY, forgotten) != store.facts.forgotten_commitment:
        yield "the list of what was forgotten is not the one that the store is committed to"
    back = store.known_by((), forgotten) if forgotten else []
    if back:
        are = "is" if len(back) == 1 else "are"
        examples = f"{counted(len(back), 'example')} {are} there that {are}"
        yield f"{examples} on the list of what was forgotten: {back[:5]!r:.200}"


def _of_receipts(
    store: Store, removals: Removals, newest: int, noted: Sequence[tuple[int, str]]
) -> tuple[ChainVerification, list[str]]:
    """Return what became of the receipts, and what is wrong with them, with the store, or between both."""
    head, pending = store.facts.head, dict(store.pending())
    chain, receipts = verify_chain(
        removals.receipts, (head.number, head.hash), noted, removals.public_keys, pending=pending, upto=head.number
    )
    return chain, [*map(str, chain.problems), *_of_both(store, newest, pending, receipts)]


def _of_both(store: Store, newest: int, pending: Collection[int], receipts: Sequence[Receipt]) -> Iterator[str]:
    """Yield where the store and its receipts do not say the same."""
    head = store.facts.head
    if newest > head.number:
        yield f"receipt {newest} is newer than the store, which is a copy from before a removal; open it again"
    if pending and (store.facts.is_scrubbed or max(pending) > head.number):
        yield f"receipt {max(pending)} is to be published, of a removal that the store knows nothing of"
    removed = {bytes.fromhex(row): receipt.number for receipt in receipts for row in receipt.rows}
    for id_ in store.known_by(removed):
        yield f"example {id_!r} is there, though a receipt tells of its removal"
    newest_found = next((receipt for receipt in receipts if receipt.number == head.number), None)
    if newest_found and newest_found.public_key != head.public_key:
        yield "the store tells another key of its newest receipt than that has"
    if newest_found and store.facts.head_is_current:
        told = (base64.b64decode(newest_found.commitment_after), newest_found.model_after)
        if told != (store.facts.commitment, store.facts.model_commitment):
            yield "examples and model are not those that the newest receipt is committed to"
