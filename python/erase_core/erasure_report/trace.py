"""What a store knows of a request after a removal: the receipts that record it, and examples that are still there.

Receipts contain no ids and no texts, only keyed hashes. With the store's token key, the receipts of a request are found
from the ids or subjects that it names (docs/receipts.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from erase_core.calls.open_store import OpenStore
from erase_core.erasure.request import Request
from erase_core.errors import StoreError
from erase_core.examples.example import Example
from erase_core.receipts.receipt import Receipt
from erase_core.store.key_file import KeyGoneError
from erase_core.store.reads import Reads

__all__ = ["Trace", "Traces", "examples_and_vectors", "trace"]


class Traces(NamedTuple):
    """Texts and vectors of examples, kept in memory to search for them after the examples were forgotten.

    Parameters
    ----------
    texts : list of str
        Inputs, outputs, rationales, subjects, and ids that are text.
    vectors : list of ndarray of float32, of shape (dim,)
    """

    texts: list[str]
    vectors: list[NDArray[np.float32]]


class Trace(NamedTuple):
    """What a store knows of a request.

    Parameters
    ----------
    receipts : list of Receipt
        The receipts that record a removal of something that the request names, oldest first.
    n_recorded : int
        How many of the named ids or subjects a receipt records.
    n_unknown : int
        How many are neither in a receipt nor in the store.
    n_present : int
        Examples in the store that the request matches.
    n_similar : int
        How many other subjects in the store look like a requested one.
    n_mentions : int
        How many other examples contain a named id or subject as part of a text, in any case. Ids that are integers are
        not looked for, nor texts that are too short.
    is_newest : bool
        Whether the only receipt is the newest one, and nothing was written to the store since.
    staying : list of str
        All texts of the examples in the store. They are not kept.
    """

    receipts: list[Receipt]
    n_recorded: int
    n_unknown: int
    n_present: int
    n_similar: int
    n_mentions: int
    is_newest: bool
    staying: list[str]


def trace(opened: OpenStore, reads: Reads, request: Request, names: Sequence[str]) -> Trace:
    """Return what a store knows of a request.

    Parameters
    ----------
    opened : OpenStore
    reads : Reads
    request : Request
        It must skip what is missing.
    names : sequence of str
        The named ids or subjects that are looked for in the texts of other examples.
    """
    tokens = [None if token is None else token.hex() for token in request.tokens(reads.tokens)]
    collected = opened.receipts.folder.collect(dict(reads.pending()), upto=reads.state.head.number)
    in_place = [receipt for each in collected if (receipt := each.in_place)]
    receipts = [receipt for receipt in in_place if not set(tokens).isdisjoint(receipt.tokens)]
    recorded = {token for receipt in receipts for token in receipt.tokens}
    matched = request.resolve(reads)
    present = _named_by_present(request, reads, matched.ids)
    n_unknown = sum(
        token not in recorded and name not in present for name, token in zip(request.named, tokens, strict=True)
    )
    ids, others = set(matched.ids), reads.all_examples()
    mentions = [example for example in others if example.id not in ids and _mentions(example, names)]
    return Trace(
        receipts=receipts,
        n_recorded=sum(token in recorded for token in tokens),
        n_unknown=n_unknown,
        n_present=len(matched.ids),
        n_similar=matched.n_similar,
        n_mentions=len(mentions),
        is_newest=[each.number for each in receipts] == [reads.state.head.number] and reads.state.head_is_current,
        staying=[text for example in others for text in _texts(example)],
    )


def examples_and_vectors(reads: Reads, ids: Sequence[int | str]) -> Traces:
    """Return texts and vectors of examples. Those that cannot be opened are left out."""
    traces = Traces([], [])
    for row in reads.rows_of(ids):
        example = reads.opened(row)
        if example is not None:
            traces.texts.extend(_texts(example))
        with suppress(KeyGoneError, StoreError):
            traces.vectors.extend(reads.vectors([range(row.slot, row.slot + 1)])[2])
    return traces


def _named_by_present(request: Request, reads: Reads, ids: Sequence[int | str]) -> set[int | str]:
    """Return which of the named ids or subjects are in the store."""
    if not request.names_subjects:
        return set(ids)
    return {each for each in request.named if isinstance(each, str) and request.finds(reads, each)}


def _mentions(example: Example, names: Sequence[str]) -> bool:
    return any(name.casefold() in text.casefold() for text in _texts(example) for name in names)


def _texts(example: Example) -> list[str]:
    fields = (example.id, example.input, example.output, example.rationale, example.subject)
    return [field for field in fields if isinstance(field, str)]
