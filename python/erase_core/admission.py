"""Which examples may come in: not those that were forgotten, unless someone wants just that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from erase_core.commitments import Tokens
from erase_core.errors import ForgottenError
from erase_core.examples import Example
from erase_core.store import Store

__all__ = ["Admission", "Forgotten", "rows_of"]

Forgotten = Literal["refuse", "skip", "allow"]


class Admission:
    """One ingest's dealing with what was forgotten.

    Parameters
    ----------
    store : Store
    forgotten : {"refuse", "skip", "allow"}

    Attributes
    ----------
    tokens : set of bytes
        By which examples were known that are taken in all the same.
    """

    def __init__(self, store: Store, forgotten: Forgotten) -> None:
        self._store, self._forgotten = store, forgotten
        self.tokens: set[bytes] = set()

    def of(self, examples: Sequence[Example]) -> list[Example]:
        """Return the examples that may come in.

        Raises
        ------
        ForgottenError
        """
        tokens = self._store.facts.tokens
        known = [_tokens(tokens, example) for example in examples]
        gone = self._store.forgotten(token for each in known for token in each)
        if self._forgotten == "allow":
            # An example that is there again is no longer forgotten, whatever it is known by.
            self.tokens |= gone | self._store.forgotten(tokens.of_content(example) for example in examples)
            return list(examples)
        admitted = [example for example, each in zip(examples, known, strict=True) if not gone.intersection(each)]
        refused = len(examples) - len(admitted)
        if refused and self._forgotten == "refuse":
            raise ForgottenError(
                f"{refused} of {len(examples)} examples were forgotten, or are about a subject that was; nothing was "
                'ingested; leave them out with forgotten="skip" (--forgotten skip), or take them in again with "allow"'
            )
        return admitted


def rows_of(examples: Sequence[Example], some: Sequence[Example], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows of some of the examples, which stand in the same order."""
    if len(some) == len(examples):
        return vectors
    wanted = {id(example) for example in some}
    return vectors[[id(example) in wanted for example in examples]]


def _tokens(tokens: Tokens, example: Example) -> list[bytes]:
    own = tokens.of_content(example) if example.id is None else tokens.of_id(example.id)
    return [own] if example.subject is None else [own, tokens.of_subject(example.subject)]
