"""What a removal consists of, so that it is done, proven, and stays done.

In this order: the transaction (rows, model, commitments, the receipt and what is remembered of it); the files written
anew; the receipt published; that noted. Whoever opens the store after a crash goes on where it ended. A store that is
older than its receipts is a copy from before a removal: what they tell of is removed from it again.
"""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from erase_core._core import Model, UpdateReport, __version__
from erase_core.errors import ReceiptError, ScrubError, StoreLockedError
from erase_core.fs import locks
from erase_core.receipts.chain import ReceiptFolder
from erase_core.receipts.receipt import NO_PREDECESSOR, Receipt
from erase_core.receipts.signing import Signer, is_signed_by
from erase_core.store.metadata import Head
from erase_core.store.model_cache import FILE as SNAPSHOT
from erase_core.store.model_cache import Clustering
from erase_core.store.schema import FILE
from erase_core.store.store import Store

__all__ = ["Removals"]

FOLDER = "receipts"
# Written anew, cut off, or overwritten and replaced, before the receipt is published.
REWRITTEN = (FILE, f"{FILE}-wal", SNAPSHOT)


class State(NamedTuple):
    """What a receipt says of the store before and after: number of examples, commitments to them and to the model."""

    n: int
    commitment: str
    model: str


class Removals:
    """Removals from a store, and their receipts.

    Parameters
    ----------
    store : Store
    clustering : Clustering
    folder : Path or None, default=None
        Where the receipts lie; None for where the store says.
    signer : Signer or None, default=None
    public_keys : frozenset of str, default=()
        If there are any, one of them must have signed each receipt.
    """

    def __init__(
        self,
        store: Store,
        clustering: Clustering,
        folder: Path | None = None,
        signer: Signer | None = None,
        public_keys: frozenset[str] = frozenset(),
    ) -> None:
        self._store, self._clustering, self.signer, self.public_keys = store, clustering, signer, public_keys
        self.moved = folder
        path = folder or store.facts.receipts or store.folder / FOLDER
        self.receipts_are_outside = not path.resolve().is_relative_to(store.folder.resolve())
        self.receipts = ReceiptFolder(path)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from removing within, and from finishing what is removed here.

        Raises
        ------
        StoreLockedError
        """
        folder = self._store.folder
        with locks.exclusive(folder, self._store.timeout) as is_alone:
            if not is_alone:
                raise StoreLockedError(
                    f"{folder}: {locks.describe_holder(folder, locks.FOLDER)} is writing to the store; try again when "
                    "it has ended"
                )
            yield

    def remove(
        self, ids: Sequence[int | str], subjects: Sequence[str] | None
    ) -> tuple[UpdateReport, Model | None, Receipt]:
        """Remove examples: those of ids, which are all of some subjects if these are named.

        To be called within `writing`, after `check`.

        Returns
        -------
        update : UpdateReport
        model : Model or None
            None if no example is left.
        receipt : Receipt
            To be published by `finish`.

        Raises
        ------
        ReceiptError
            The store is damaged, so that its receipt would be none.
        """
        before = self._state()
        update, model = self._clustering.remove(ids)
        hashes, tokens = self._store.delete(ids, subjects or ())
        scope: Literal["ids", "subject"] = "ids" if subjects is None else "subject"
        receipt = self._receipt(before, self._state(), scope, hashes, tokens, update)
        # A store that was damaged behind our back must not publish what nobody can read.
        Receipt.from_bytes(receipt.to_bytes())
        self._store.append_receipt(_head(receipt), receipt.to_bytes())
        return update, model, receipt

    def _state(self) -> State:
        facts = self._store.facts
        return State(len(self._store), base64.b64encode(facts.commitment).decode(), facts.model_commitment)

    def _receipt(
        self,
        before: State,
        after: State,
        scope: Literal["ids", "subject"],
        rows: Iterable[bytes],
        tokens: Iterable[bytes],
        update: UpdateReport,
    ) -> Receipt:
        head, facts = self._store.facts.head, self._store.facts
        settings = facts.settings
        names = ("n_shots", "seed", "epsilon", "gamma", "max_iter", "projection")
        return Receipt(
            number=head.number + 1,
            store=facts.name,
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
                "embedder": facts.embedder,
                **{name: repr(getattr(settings, name)) for name in names},
            },
            software={"erase_core": __version__, "sqlite": sqlite3.sqlite_version},
            rewritten=REWRITTEN,
            previous=head.hash or NO_PREDECESSOR,
        ).signed(self.signer)

    def finish(self) -> None:
        """See that nothing of what was removed is left in the files, then publish the receipts.

        Raises
        ------
        ScrubError
            Files may still hold what was removed, or receipts could not be published; the next `open` goes on with it.
        """
        newest, pending = self._store.scrub()
        with self._store.settling(newest, pending):
            self._publish(pending)

    def finish_what_others_left(self) -> None:
        """Finish removals whose process was killed or held up; not those that another process is about to finish.

        Raises
        ------
        ScrubError
        """
        with locks.exclusive(self._store.folder, 0) as is_alone:
            if is_alone and not self._store.facts.is_scrubbed:
                self.finish()

    def _publish(self, pending: Sequence[tuple[int, bytes]]) -> None:
        try:
            for number, content in pending:
                Receipt.from_bytes(content)  # what nobody can read is not published
                self.receipts.publish(number, content, new_folder=not self.receipts_are_outside)
        except (OSError, ReceiptError) as error:
            text = (error.strerror if isinstance(error, OSError) else None) or error
            raise ScrubError(
                f"{self.receipts.path}: the removal is done and gone from the store's files, but its receipt cannot be "
                f"written ({text}); see to that, and open the store again, which goes on with it"
            ) from error

    def catch_up(self) -> int | None:
        """Remove again what receipts tell of that the store does not know: it is a copy from before.

        Returns
        -------
        int or None
            How many examples; None if the store is no older than its receipts.

        Raises
        ------
        ReceiptError
            The receipts are not there, or not the store's, or some are missing or changed.
        """
        if not self.receipts.path.is_dir():
            if not (self.receipts_are_outside or self.receipts.path.exists()):
                return None
            raise ReceiptError(
                f"{self._store.folder}: the folder of its receipts, {self.receipts.path}, is not there, so that nobody "
                "can tell whether this is a copy from before a removal; bring it back, or name it (--receipts)"
            )
        with self._store.reading():
            self._check_there(self._store.facts.head)
        if not self._is_outdated():
            return None
        with self._clustering.writing():
            missed = self._missed()
            if not missed:  # another process has been faster
                return None
            tokens = {bytes.fromhex(token) for receipt in missed for token in receipt.tokens}
            # By token those that came in again while the receipts were not there.
            ids = self._store.known_by({bytes.fromhex(row) for receipt in missed for row in receipt.rows}, tokens)
            if ids:
                self._clustering.remove(ids)
                self._store.delete(ids)
            # Of what came in and was removed after the copy was made, too.
            self._store.remember(tokens)
            self._store.set_head(_head(missed[-1]))
            self._store.facts.set(head_is_current=0)
        return len(ids)

    def newest(self) -> int:
        """Return the number of the newest receipt that is published; 0 if there is none."""
        return max(self.receipts.numbers(), default=0)

    def _is_outdated(self) -> bool:
        """Whether there are receipts that the store does not know; see that those that both know are the same."""
        # In this order: who removes something just now writes it to the store first.
        newest = self.newest()
        with self._store.reading():
            head = self._store.facts.head
        if head.number and self.receipts.file(head.number).is_file():
            known = self.receipts.read(head.number)
            if (known.store, known.hash) != (self._store.facts.name, head.hash):
                raise ReceiptError(
                    f"{self.receipts.file(head.number)} is not the store's receipt {head.number}: these are another "
                    "store's receipts, or the store is a copy from before a removal that was used without them"
                )
        return newest > head.number

    def check(self) -> None:
        """Check that something may be removed. To be called within `reading` or `writing`.

        Raises
        ------
        ReceiptError
            The store is older than its receipts, or its receipts are signed and there is no key.
        """
        head = self._store.facts.head
        self._check_newest(head)
        if self.signer is None and (head.public_key or self.public_keys):
            signed = "the receipts of this store are signed" if head.public_key else "public keys are named"
            raise ReceiptError(
                f"{self._store.folder}: {signed}; give the key to sign with (signing_key, --signing-key); nothing was "
                "forgotten"
            )
        if self.signer and self.public_keys and self.signer.public_key not in self.public_keys:
            raise ReceiptError(
                f"{self._store.folder}: the key given to sign with is not one whose public key was given; nothing was "
                "forgotten"
            )
        self.check_pending()
        if self.public_keys and head.number and not self._store.pending():
            newest = self.receipts.read(head.number)
            if newest.hash != head.hash:
                raise ReceiptError(f"{self.receipts.file(head.number)} is not the store's; nothing was forgotten")
            self._check_signed(newest)

    def check_pending(self) -> None:
        """Check that what is to be published is signed by a key that counts, if keys are named.

        Raises
        ------
        ReceiptError
        """
        for _, content in self._store.pending() if self.public_keys else ():
            self._check_signed(Receipt.from_bytes(content))

    def _check_signed(self, receipt: Receipt) -> None:
        if not _is_signed(receipt, self.public_keys):
            raise ReceiptError(
                f"{self._store.folder}: receipt {receipt.number} was made without a key that counts (public_keys, "
                "--public-key); nothing was forgotten, and nothing published"
            )

    def _check_newest(self, head: Head) -> None:
        self._check_there(head)
        if self.receipts.file(head.number + 1).exists():
            raise ReceiptError(
                f"{self._store.folder} is older than its receipts in {self.receipts.path}: a copy from before a "
                "removal; open it again, which removes what they tell of; nothing was forgotten"
            )

    def _check_there(self, head: Head) -> None:
        """Check that a folder outside is the store's: it has its mark, and the newest receipt that was published."""
        if not self.receipts_are_outside:
            return
        published = head.number - len(self._store.pending())
        theirs = self.receipts.owner != self._store.facts.name
        if theirs or (published > 0 and not self.receipts.file(published).exists()):
            what = "is not the folder of this store's receipts" if theirs else f"has not the receipt {published}"
            raise ReceiptError(
                f"{self.receipts.path} {what}: it is another folder, or its disk is not there; bring the receipts "
                "back, or name their folder (--receipts); if they are lost for good, name one within the store, "
                f"{self._store.folder / FOLDER}; nothing was changed"
            )

    def _missed(self) -> list[Receipt]:
        """Return the receipts that the store does not know, each seen to follow from the one before."""
        head = self._store.facts.head
        previous, missed = head.hash or NO_PREDECESSOR, []
        for number in range(head.number + 1, self.newest() + 1):
            if not self.receipts.file(number).exists():
                raise ReceiptError(f"{self.receipts.file(number)} is missing, though there are later receipts")
            receipt = self.receipts.read(number)
            told = (receipt.number, receipt.store, receipt.previous, receipt.is_balanced)
            if told != (number, self._store.facts.name, previous, True):
                raise ReceiptError(
                    f"{self.receipts.file(number)} does not follow from the receipt that the store knows as its "
                    "newest: these are another store's receipts, or some were exchanged"
                )
            previous = receipt.hash
            missed.append(receipt)
        # Without named keys the newest signature is enough, which covers all before it: keys may have been rotated.
        keys = self.public_keys or {head.public_key, self.signer.public_key if self.signer else ""} - {""}
        for receipt in (missed if self.public_keys else missed[-1:]) if keys else ():
            if not _is_signed(receipt, keys):
                raise ReceiptError(
                    f"{self.receipts.file(receipt.number)} is not signed by a key that counts: one that was given "
                    "(public_keys, --public-key), or else that of the receipts that the store knows; nothing was "
                    "removed"
                )
        return missed


def _head(receipt: Receipt) -> Head:
    return Head(receipt.number, receipt.hash, receipt.public_key)


def _is_signed(receipt: Receipt, keys: Collection[str]) -> bool:
    return receipt.public_key in keys and is_signed_by(receipt.public_key, receipt.signature, receipt.message)
