"""What is wrong with a store, by a picture of it: pure functions, which read nothing.

The model is compared with reference.py's, which shares no code with the core that maintains it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import cast

from erase_core import commitments
from erase_core._core import Model
from erase_core.errors import DataError, IdKindError, ModelFileError, StoreError
from erase_core.examples.example import counted
from erase_core.receipts.problem import Problem
from erase_core.selection import select_demonstrations
from erase_core.verify import reference
from erase_core.verify.picture import Picture, ReceiptsPicture, RowsPicture

__all__ = ["judge"]

CHECKSUM_BYTES = 32
# In place of the number of a receipt.
STORE = None


def judge(picture: Picture) -> Iterator[Problem]:
    """Yield what is wrong: with the model, with the rows, with the receipts, and between these."""
    yield from _of_state(picture)
    if picture.model is not None:
        yield from _of_model(picture, picture.model)
    if not picture.is_sound:
        yield Problem(STORE, "files", "SQLite finds the file damaged")
    if isinstance(picture.rows, StoreError):
        yield Problem(STORE, "examples", str(picture.rows))
    else:
        yield from _of_rows(picture.rows)
    yield from picture.receipts.chain.problems
    yield from _of_receipts(picture.receipts, is_scrubbed=picture.is_scrubbed)


def _of_state(picture: Picture) -> Iterator[Problem]:
    model = picture.model
    if ("" if model is None else model.digest()) != picture.digest:
        yield Problem(STORE, "model", "the model is not the one whose digest the store tells")
    if (model is None) != (not picture.ids):
        yield Problem(STORE, "model", "there is a model without examples, or there are examples without a model")
    if not picture.is_scrubbed:
        yield Problem(
            STORE,
            "files",
            "the files may still hold what was forgotten: a removal is under way, or was interrupted; if this stays, "
            "open the store again",
        )


def _of_model(picture: Picture, model: Model) -> Iterator[Problem]:
    content = model.to_bytes()
    try:
        expected = reference.fit(picture.vectors, cast("list[int]", picture.ids), picture.params)
    except (DataError, IdKindError) as error:
        yield Problem(STORE, "model", f"the examples present give no model: {error}")
        return
    if content[:-CHECKSUM_BYTES] != expected.content or model.digest() != expected.digest:
        yield Problem(STORE, "model", "the model is not the one that the examples present give")
    if model.labels().tolist() != expected.labels.tolist():
        yield Problem(STORE, "model", "the examples are not in the clusters that they belong to")
    try:
        read_anew = Model.from_bytes(content, None, None)
    except ModelFileError as error:
        yield Problem(STORE, "model", f"the model is not sound: {error}")
    else:
        if select_demonstrations(picture.settings, model) != select_demonstrations(picture.settings, read_anew):
            yield Problem(STORE, "model", "the demonstrations are not those of the model")


# verify 5
def _of_rows(rows: RowsPicture) -> Iterator[Problem]:
    """Yield what is wrong with the rows of the table, and with the list of what was forgotten."""
    if commitments.plus(commitments.EMPTY, rows.hashes) != rows.commitment:
        yield Problem(
            STORE,
            "examples",
            "the examples are not those that the store is committed to: some came, went or changed behind its back",
        )
    if commitments.plus(commitments.EMPTY, rows.forgotten) != rows.forgotten_commitment:
        yield Problem(
            STORE, "forgotten", "the list of what was forgotten is not the one that the store is committed to"
        )
    if rows.back:
        are = "is" if len(rows.back) == 1 else "are"
        examples = f"{counted(len(rows.back), 'example')} {are} there that {are}"
        yield Problem(STORE, "forgotten", f"{examples} on the list of what was forgotten: {rows.back[:5]!r:.200}")


# verify 6
def _of_receipts(receipts: ReceiptsPicture, *, is_scrubbed: bool) -> Iterator[Problem]:
    """Yield where the store and its receipts do not say the same."""
    head, found = receipts.head, receipts.found
    if receipts.newest > head.number:
        yield Problem(
            STORE,
            "receipts",
            f"receipt {receipts.newest} is newer than the store, which is a copy from before a removal; open it again",
        )
    last = max(receipts.pending, default=0)
    if receipts.pending and (is_scrubbed or last > head.number):
        yield Problem(
            None, "receipts", f"receipt {last} is to be published, of a removal that the store knows nothing of"
        )
    for id_ in receipts.still_there:
        yield Problem(STORE, "examples", f"example {id_!r} is there, though a receipt tells of its removal")
    if found and found.public_key != head.public_key:
        yield Problem(STORE, "receipts", "the store tells another key of its newest receipt than that has")
    if found and receipts.committed is not None:
        told = (base64.b64decode(found.commitment_after), found.model_after)
        if told != receipts.committed:
            yield Problem(STORE, "receipts", "examples and model are not those that the newest receipt is committed to")
