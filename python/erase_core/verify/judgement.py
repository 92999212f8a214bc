"""Judges a picture of a store: pure functions that yield its problems, and read nothing.

The model is compared with the result of reference.py, which shares no code with the core.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import cast

from erase_core import commitments
from erase_core._core import Model
from erase_core.errors import DataError, IdKindError, ModelFileError, StoreError
from erase_core.examples.example import counted
from erase_core.receipts.chain import ChainVerification
from erase_core.receipts.problem import Problem
from erase_core.selection import possible_prompts
from erase_core.store.state import State
from erase_core.verify import reference
from erase_core.verify.picture import Picture, ReceiptsPicture, RowsPicture
from erase_core.verify.reference import Fitted

__all__ = ["judge"]

CHECKSUM_BYTES = 32
# Examples whose vectors are queries, where every query has demonstrations of its own.
N_QUERIES = 16
# The number of a problem that is not one of a receipt.
STORE = None


def judge(picture: Picture, chain: ChainVerification) -> Iterator[Problem]:
    """Yield the problems of the model, of the rows and of the receipts, and contradictions between them.

    Parameters
    ----------
    picture : Picture
    chain : ChainVerification
        The verification of the picture's receipts.
    """
    yield from _of_state(picture)
    if picture.model is not None:
        yield from _of_model(picture, picture.model)
    if not picture.is_sound:
        yield Problem(STORE, "files", "SQLite reports that the file is damaged")
    if isinstance(picture.rows, StoreError):
        yield Problem(STORE, "examples", str(picture.rows))
    else:
        yield from _of_rows(picture.rows, picture.state)
    yield from chain.problems
    yield from _of_receipts(picture.receipts)


# verify 4
def _of_state(picture: Picture) -> Iterator[Problem]:
    model, state = picture.model, picture.state
    if not picture.is_model:
        yield Problem(STORE, "model", "the model is not the one that the store was left with")
    if (model is None) != (not picture.ids):
        yield Problem(STORE, "model", "there is a model without examples, or there are examples without a model")
    if len(picture.ids) != state.n_examples:
        yield Problem(
            STORE, "examples", f"there are {len(picture.ids)} examples, but the store counts {state.n_examples}"
        )
    if picture.n_unused:
        yield Problem(
            STORE,
            "keys",
            f"the key file has {picture.n_unused} keys that no example has: an old key file was put back, or a process "
            "was killed. Open the store again, which destroys them.",
        )
    if picture.n_left_windows:
        yield Problem(
            STORE,
            "files",
            f"{counted(picture.n_left_windows, 'window file')} left of removed examples, whose keys are destroyed, so "
            "nothing can be read there. If this persists, open the store again, which deletes what is left.",
        )
    if not picture.is_finished:
        yield Problem(
            STORE,
            "files",
            "keys of removed examples may still be there, or a receipt is not published: a removal is in progress or "
            "was interrupted. If this persists, open the store again.",
        )


# verify 4
def _of_model(picture: Picture, model: Model) -> Iterator[Problem]:
    content = model.to_bytes()
    try:
        expected = reference.fit(picture.vectors, cast("list[int]", picture.ids), picture.params)
    except (DataError, IdKindError) as error:
        yield Problem(STORE, "model", f"the examples cannot be fitted: {error}")
        return
    if content[:-CHECKSUM_BYTES] != expected.content or model.digest() != expected.digest:
        yield Problem(STORE, "model", "the model differs from a fit of the examples by the second implementation")
    if model.labels().tolist() != expected.labels.tolist():
        yield Problem(STORE, "model", "the clusters of the examples differ from those of the second implementation")
    try:
        reloaded = Model.from_bytes(content, None, None)
    except ModelFileError as error:
        yield Problem(STORE, "model", f"the model is invalid: {error}")
    else:
        yield from _of_prompts(picture, model, reloaded, expected)


# verify 4
def _of_prompts(picture: Picture, model: Model, reloaded: Model, expected: Fitted) -> Iterator[Problem]:
    """Yield the differences between the prompts and routes of a model, of one reloaded from its bytes, and expected."""
    settings = picture.settings
    prompts = possible_prompts(settings, model)
    if prompts != possible_prompts(settings, reloaded):
        yield Problem(STORE, "model", "the demonstrations differ from those of a reloaded model")
    if not prompts and any(_neighbours_differ(picture, (model, reloaded), expected)):
        yield Problem(STORE, "model", "the nearest examples of a query differ from those of the second implementation")
    if settings.n_prompts is None:
        return
    if prompts != expected.nearest(settings.n_shots):
        yield Problem(STORE, "model", "the prompts of the routes differ from those of the second implementation")
    # An example's own vector is a query, too.
    routes = expected.routes(picture.vectors)
    if any(each.predict(picture.vectors).tolist() != routes for each in (model, reloaded)):
        yield Problem(STORE, "model", "routes differ from those of the second implementation")


def _neighbours_differ(picture: Picture, models: Iterable[Model], expected: Fitted) -> Iterator[bool]:
    """Whether models have other neighbours of some of the examples, whose vectors are queries, than expected."""
    n, count = len(picture.ids), picture.settings.n_shots
    for place in range(0, n, -(-n // N_QUERIES)):
        wanted = expected.neighbours(place, count)
        for model in models:
            yield model.neighbours(picture.vectors[place : place + 1], count)[1] != wanted


# verify 5
def _of_rows(rows: RowsPicture, state: State) -> Iterator[Problem]:
    """Yield the problems of the rows of the table, and of the list of what was forgotten."""
    if commitments.plus(commitments.EMPTY, rows.hashes) != rows.commitment:
        yield Problem(
            STORE,
            "examples",
            "the examples do not match the store's commitment: another program added, removed or changed some",
        )
    if rows.n_subjects != state.n_subjects:
        text = f"there are {rows.n_subjects} subjects, but the store counts {state.n_subjects}"
        yield Problem(STORE, "examples", text)
    if commitments.plus(commitments.EMPTY, rows.forgotten) != rows.forgotten_commitment:
        yield Problem(STORE, "forgotten", "the list of what was forgotten does not match the store's commitment")
    if rows.back:
        are = "is" if len(rows.back) == 1 else "are"
        examples = f"{counted(len(rows.back), 'example')} in the store {are}"
        yield Problem(STORE, "forgotten", f"{examples} on the list of what was forgotten: {rows.back[:5]!r:.200}")


# verify 6
def _of_receipts(receipts: ReceiptsPicture) -> Iterator[Problem]:
    """Yield the contradictions between the store and its receipts."""
    head, found = receipts.head, receipts.found
    if receipts.newest > head.number:
        yield Problem(
            STORE,
            "receipts",
            f"receipt {receipts.newest} is newer than the store, which is a copy from before a removal. Open it again.",
        )
    last = max(receipts.pending, default=0)
    if last > head.number:
        yield Problem(None, "receipts", f"receipt {last} is to be published, but the store does not know its removal")
    for id_ in receipts.still_there:
        yield Problem(STORE, "examples", f"example {id_!r} is in the store, but a receipt records its removal")
    if found and found.public_key != head.public_key:
        yield Problem(STORE, "receipts", "the store records another key for the newest receipt than the receipt has")
    if found and receipts.committed is not None:
        stated = (base64.b64decode(found.commitment_after), found.model_after)
        if stated != receipts.committed:
            yield Problem(STORE, "receipts", "examples and model do not match the commitments in the newest receipt")
