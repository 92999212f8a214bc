"""Which examples may come in, and under which ids: nothing that was forgotten, unless someone wants just that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count, islice
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from erase_core.commitments import Tokens
from erase_core.errors import DataError, ForgottenError, IdKindError
from erase_core.examples.example import Example, counted
from erase_core.store.store import MAX_ID, Store

__all__ = ["Admission", "OnDuplicate", "OnForgotten", "rows_of"]

Number = TypeVar("Number", bound=np.generic)
OnForgotten = Literal["refuse", "skip", "allow"]
OnDuplicate = Literal["refuse", "skip"]


class Admission:
    """One ingest's dealing with what was forgotten, and with what is there already.

    Parameters
    ----------
    store : Store
    on_forgotten : {"refuse", "skip", "allow"}
    on_duplicate : {"refuse", "skip"}

    Attributes
    ----------
    tokens : set of bytes
        By which examples were known that are taken in all the same.
    n_duplicates : int
        How many examples were left out because the store has them already.
    """

    def __init__(self, store: Store, on_forgotten: OnForgotten, on_duplicate: OnDuplicate) -> None:
        self._store, self._on_forgotten, self._skips_duplicates = store, on_forgotten, on_duplicate == "skip"
        self.tokens: set[bytes] = set()
        self.n_duplicates = 0

    def of(self, examples: Sequence[Example]) -> list[Example]:
        """Return the examples that may come in.

        Raises
        ------
        ForgottenError
        """
        if self._skips_duplicates:
            # What is there has not been forgotten, so that the order of both looks does not matter.
            there = self._store.duplicates(examples)
            self.n_duplicates += len(there)
            examples = [example for example in examples if example.id not in there]
        tokens = self._store.facts.tokens
        known = [_tokens(tokens, example) for example in examples]
        gone = self._store.forgotten(token for each in known for token in each)
        if self._on_forgotten == "allow":
            # An example that is there again is no longer forgotten, whatever it is known by.
            self.tokens |= gone | self._store.forgotten(tokens.of_content(example) for example in examples)
            return list(examples)
        admitted = [example for example, each in zip(examples, known, strict=True) if not gone.intersection(each)]
        refused = len(examples) - len(admitted)
        if refused and self._on_forgotten == "refuse":
            raise ForgottenError(
                f"{refused} of {counted(len(examples), 'example')} {'was' if refused == 1 else 'were'} forgotten, or "
                f"{'is' if refused == 1 else 'are'} about a subject that was; nothing was "
                'ingested; leave them out with on_forgotten="skip" (--forgotten skip), or take them in again with '
                '"allow"'
            )
        return admitted

    def numbered(self, examples: Sequence[Example]) -> list[Example]:
        """Return examples with ids: those they bring, or integers after the largest, without those that were forgotten.

        Raises
        ------
        IdKindError
            The store's ids are text, and examples bring none.
        DataError
            There are not so many integers.
        """
        if not examples or examples[0].id is not None:
            return list(examples)
        largest = self._store.largest_id
        if isinstance(largest, str):
            raise IdKindError("the store's ids are text, so every example needs an `id`")
        ids: list[int] = []
        candidates = count(0 if largest is None else largest + 1)
        while len(ids) < len(examples):
            ids += self._not_forgotten(list(islice(candidates, len(examples) - len(ids))))
        if ids[-1] > MAX_ID:
            raise DataError(
                f"{counted(len(examples), 'example')} cannot be numbered on from the largest id, {largest}; ids end at "
                "2**63 - 1, so give every example an `id`"
            )
        return [replace(example, id=id_) for id_, example in zip(ids, examples, strict=True)]

    def _not_forgotten(self, ids: Sequence[int]) -> list[int]:
        tokens = {id_: self._store.facts.tokens.of_id(id_) for id_ in ids}
        gone = self._store.forgotten(tokens.values())
        return [id_ for id_, token in tokens.items() if token not in gone]


def rows_of(examples: Sequence[Example], some: Sequence[Example], vectors: NDArray[Number]) -> NDArray[Number]:
    """Return the rows of some of the examples, which stand in the same order."""
    if len(some) == len(examples):
        return vectors
    wanted = {id(example) for example in some}
    return vectors[[id(example) in wanted for example in examples]]


def _tokens(tokens: Tokens, example: Example) -> list[bytes]:
    own = tokens.of_content(example) if example.id is None else tokens.of_id(example.id)
    return [own] if example.subject is None else [own, tokens.of_subject(example.subject)]
