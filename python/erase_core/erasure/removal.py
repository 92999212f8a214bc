"""A removal and its receipt.

The order is: commit the transaction (rows, model, commitments, tokens, pending receipt), destroy the keys, publish the
receipt. That both are done is seen from the files, and the next removal drops the note of it. For interrupted removals,
see recovery.py; for the checks before a removal, receipt_checks.py.
"""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from erase_core._core import Model, __version__
from erase_core.erasure.receipt_checks import StoreReceipts
from erase_core.errors import ReceiptError, ScrubError, StoreError, StoreLockedError, os_reason
from erase_core.examples.example import Example, counted
from erase_core.fs import locks
from erase_core.fs.status import is_file
from erase_core.receipts.receipt import NO_PREDECESSOR, Receipt, Scope
from erase_core.store.clustering import Clustering, ModelTransaction, Update
from erase_core.store.key_file import FILE as KEY_FILE
from erase_core.store.reads import Reads
from erase_core.store.records import Row, Unfinished
from erase_core.store.sealing import CIPHER
from erase_core.store.state import Head
from erase_core.store.store import Store

__all__ = ["Removals", "head_of"]


class Recorded(NamedTuple):
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
    ) -> tuple[Update, Model | None, Receipt]:
        """Remove examples in a transaction, and store the receipt as pending.

        Parameters
        ----------
        tx : ModelTransaction
        ids : sequence of int or str
        subjects : sequence of str or None
            The subjects whose examples these are, if the request named subjects.

        Returns
        -------
        update : Update
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
        before = _recorded(tx)
        rows = tx.rows_of(ids)
        # A damaged example can be forgotten, too. Its content is unknown.
        examples = [example for row in rows if (example := tx.opened(row))]
        self._check_named(examples, ids, subjects)
        tokens = {row.id_token for row in rows} | {tx.tokens.of_subject(subject) for subject in subjects or ()}
        tokens |= {tx.tokens.of_content(example) for example in examples}
        if self._clustering.is_current(tx):
            # forget 5: the model
            update, model = self._clustering.remove(tx, [row.slot for row in rows], ids)
            # forget 6: the examples
            tx.delete(rows, tokens)
        else:
            update, model = self._remove_unreadable(tx, rows, tokens)
        scope: Scope = "ids" if subjects is None else "subject"
        # forget 7: the receipt, pending
        receipt = self._receipt(tx, before, _recorded(tx), scope, [row.hash for row in rows], tokens, update)
        # If another program damaged the store, the receipt may be malformed. Such a receipt must not be published.
        Receipt.from_bytes(receipt.to_bytes())
        tx.set_finished(each.generation for each in tx.unfinished() if self._is_finished(tx, each))
        tx.is_to_finish(receipt.number, receipt.packed())
        tx.state.head, tx.state.head_is_current = head_of(receipt), True
        return update, model, receipt

    def _check_named(
        self, examples: Iterable[Example], ids: Sequence[int | str], subjects: Sequence[str] | None
    ) -> None:
        """Check that the examples found are those that were named: someone may have exchanged tokens of rows.

        Raises
        ------
        StoreError
        """
        named = set(ids)
        if any(each.id not in named or (subjects is not None and each.subject not in subjects) for each in examples):
            raise StoreError(
                f"{self._store.folder} is damaged: examples are found under ids or subjects of others; nothing was "
                "forgotten. Restore a backup, or forget the examples by all their ids in one call."
            )

    def _remove_unreadable(
        self, tx: ModelTransaction, rows: Sequence[Row], tokens: set[bytes]
    ) -> tuple[Update, Model | None]:
        """Remove rows of which some do not open, and fit the others.

        Raises
        ------
        StoreError
            Others do not open either.
        """
        tx.delete(rows, tokens)
        left = tx.n_unreadable()
        if left:
            raise StoreError(
                f"{self._store.folder}: {counted(left, 'example')} not named here cannot be opened, so "
                "the model of the others is not known; nothing was forgotten. Restore a backup, or name "
                "all that cannot be opened in one call."
            )
        return self._clustering.refit(tx)

    def _receipt(
        self,
        reads: Reads,
        before: Recorded,
        after: Recorded,
        scope: Scope,
        rows: Sequence[bytes],
        tokens: Iterable[bytes],
        update: Update,
    ) -> Receipt:
        head, constants = reads.state.head, reads.constants
        settings = constants.settings
        names = ["n_shots", "seed", "epsilon", "gamma", "max_iter", "panel", "projection"]
        names += [] if settings.n_prompts is None else ["n_prompts"]
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
            destroyed={"cipher": CIPHER, "file": KEY_FILE, "keys": str(len(rows))},
            previous=head.hash or NO_PREDECESSOR,
        ).signed(self._receipts.signer)

    def finish(self) -> None:
        """Destroy the keys of what was removed, then publish the receipts.

        Raises
        ------
        ScrubError
            Keys may still be there, or a receipt was not published. The next `open` finishes the removal.
        """
        with self._store.reading() as reads:
            unfinished, pending = reads.unfinished(), reads.pending()
            # In a damaged store, the note could name the slot of an example that is still there.
            slots = reads.without_rows({slot for each in unfinished for slot in each.slots})
            generation = max((_generation_of(reads, each) for each in unfinished), default=0)
        # forget 9: the keys
        self._store.destroy(slots, generation)
        # forget 10: the receipts
        self._publish(pending)
        # Without their keys, windows cannot be opened. So it is no error if a file stays: `verify` counts it, and the
        # next `open` deletes it.
        self._store.windows.delete(slots)

    def are_finished(self) -> bool:
        """Whether the keys of all removed examples are destroyed, and all receipts published."""
        with self._store.reading() as reads:
            return all(self._is_finished(reads, each) for each in reads.unfinished())

    def n_left_windows(self) -> int:
        """Return how many files of windows are left of removed examples. Nobody can open them."""
        return len(self._store.left_windows())

    def _is_finished(self, reads: Reads, removal: Unfinished) -> bool:
        is_published = removal.number is None or is_file(self._receipts.folder.file(removal.number))
        keys = self._store.keys
        is_replaced = keys.generation >= _generation_of(reads, removal) and keys.has_one_secret
        return is_published and is_replaced and keys.are_destroyed(removal.slots)

    def _publish(self, pending: Sequence[tuple[int, bytes]]) -> None:
        try:
            for number, content in pending:
                Receipt.from_bytes(content)  # a malformed receipt is not published
                self._receipts.folder.publish(number, content, new_folder=not self._receipts.are_outside)
        except (OSError, ReceiptError) as error:
            path = self._receipts.folder.path
            text = os_reason(error) if isinstance(error, OSError) else error
            raise ScrubError(
                f"{path}: the removal is done and the keys are destroyed, but its receipt cannot be written ({text}). "
                "Solve this, then open the store again, which publishes the receipt."
            ) from error


def _generation_of(reads: Reads, removal: Unfinished) -> int:
    """Return the generation whose secret remains after a removal. In a damaged store, the note may name a later one."""
    return min(removal.generation, reads.state.model_generation)


def _recorded(reads: Reads) -> Recorded:
    commitment = base64.b64encode(reads.state.commitment).decode()
    return Recorded(len(reads), commitment, reads.state.model)


def head_of(receipt: Receipt) -> Head:
    """Return what the store keeps of its newest receipt."""
    return Head(receipt.number, receipt.hash, receipt.public_key)
