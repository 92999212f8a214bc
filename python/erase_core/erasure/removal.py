"""A removal and its receipt.

The order is: commit the transaction (rows, model, commitments, tokens, pending receipt), rewrite the files, publish the
receipt, record that. For interrupted removals, see recovery.py; for the checks before a removal, receipt_checks.py.
"""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from erase_core._core import Model, UpdateReport, __version__
from erase_core.erasure.receipt_checks import StoreReceipts
from erase_core.errors import ReceiptError, ScrubError, StoreLockedError, os_reason
from erase_core.fs import locks
from erase_core.receipts.receipt import NO_PREDECESSOR, Receipt, Scope
from erase_core.store.metadata import Head
from erase_core.store.model_cache import FILE as SNAPSHOT
from erase_core.store.model_cache import Clustering, ModelTransaction
from erase_core.store.reads import Reads
from erase_core.store.schema import FILE
from erase_core.store.store import Store

__all__ = ["Removals", "head_of"]

# Files that are rewritten, truncated, or overwritten and replaced before the receipt is published.
REWRITTEN = (FILE, f"{FILE}-wal", SNAPSHOT)


class State(NamedTuple):
    """What a receipt records of the store before and after: the number of examples, and the commitments."""

    n: int
    commitment: str
    model: str


class Removals:
    """Removals from a store, and their receipts.

    Parameters
    ----------
    store : Store
    clustering : Clustering
    receipts : StoreReceipts
    """

    def __init__(self, store: Store, clustering: Clustering, receipts: StoreReceipts) -> None:
        self._store, self._clustering, self._receipts = store, clustering, receipts

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Prevent others from removing anything during the block, and from finishing the removals of this handle.

        Raises
        ------
        StoreLockedError
        """
        folder = self._store.folder
        with locks.exclusive(folder, self._store.timeout) as acquired:
            if not acquired:
                raise StoreLockedError(
                    f"{folder}: {locks.describe_holder(folder, locks.FOLDER)} is writing to the store. Try again when "
                    "it has finished."
                )
            yield

    def remove(
        self, tx: ModelTransaction, ids: Sequence[int | str], subjects: Sequence[str] | None
    ) -> tuple[UpdateReport, Model | None, Receipt]:
        """Remove examples in a transaction, and store the receipt as pending.

        Parameters
        ----------
        tx : ModelTransaction
        ids : sequence of int or str
        subjects : sequence of str or None
            The subjects whose examples these are, if the request named subjects.

        Returns
        -------
        update : UpdateReport
        model : Model or None
            None if no example is left.
        receipt : Receipt
            `finish` publishes it.

        Raises
        ------
        ReceiptError
            See `StoreReceipts.check_may_remove`; or the store is damaged, so its receipt would be invalid.
        """
        # forget 4: the receipts
        self._receipts.check_may_remove(tx)
        before = _state(tx)
        # forget 5: the model
        update, model = self._clustering.remove(tx, ids)
        # forget 6: the examples
        hashes, tokens = tx.delete(ids, subjects or ())
        scope: Scope = "ids" if subjects is None else "subject"
        # forget 7: the receipt, pending
        receipt = self._receipt(tx, before, _state(tx), scope, hashes, tokens, update)
        # If another program damaged the store, the receipt may be malformed. Such a receipt must not be published.
        Receipt.from_bytes(receipt.to_bytes())
        tx.append_receipt(head_of(receipt), receipt.to_bytes())
        return update, model, receipt

    def _receipt(
        self,
        reads: Reads,
        before: State,
        after: State,
        scope: Scope,
        rows: Iterable[bytes],
        tokens: Iterable[bytes],
        update: UpdateReport,
    ) -> Receipt:
        head, constants = reads.metadata.head, reads.constants
        settings = constants.settings
        names = ("n_shots", "seed", "epsilon", "gamma", "max_iter", "panel", "projection")
        return Receipt(
            number=head.number + 1,
            store=constants.name,
            time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            scope=scope,
            rows=tuple(sorted(row.hex() for row in rows)),
            tokens=tuple(sorted(token.hex() for token in tokens)),
            n_before=before.n,
            n_after=after.n,
            commitment_before=before.commitment,
            commitment_after=after.commitment,
            model_before=before.model,
            model_after=after.model,
            path=update.path,
            parameters={
                "strategy": settings.strategy,
                "embedder": constants.embedder,
                **{name: repr(getattr(settings, name)) for name in names},
            },
            software={"erase_core": __version__, "sqlite": sqlite3.sqlite_version},
            rewritten=REWRITTEN,
            previous=head.hash or NO_PREDECESSOR,
        ).signed(self._receipts.signer)

    def finish(self) -> None:
        """Rewrite the files so that no removed data is left in them, then publish the receipts.

        Raises
        ------
        ScrubError
            Files may still hold removed data, or a receipt was not published. The next `open` finishes the removal.
        """
        # forget 9: the files
        newest, pending = self._store.scrub()
        # forget 11: the record in the store, after 10
        with self._store.settling(newest, pending):
            # forget 10: the receipts
            self._publish(pending)

    def _publish(self, pending: Sequence[tuple[int, bytes]]) -> None:
        try:
            for number, content in pending:
                Receipt.from_bytes(content)  # a malformed receipt is not published
                self._receipts.folder.publish(number, content, new_folder=not self._receipts.are_outside)
        except (OSError, ReceiptError) as error:
            path = self._receipts.folder.path
            text = os_reason(error) if isinstance(error, OSError) else error
            raise ScrubError(
                f"{path}: the removal is done and the files are rewritten, but its receipt cannot be written ({text}). "
                "Solve this, then open the store again, which publishes the receipt."
            ) from error


def _state(reads: Reads) -> State:
    commitment = base64.b64encode(reads.metadata.commitment).decode()
    return State(len(reads), commitment, reads.metadata.model_commitment)


def head_of(receipt: Receipt) -> Head:
    """Return what the store keeps of its newest receipt."""
    return Head(receipt.number, receipt.hash, receipt.public_key)
