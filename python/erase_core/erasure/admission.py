"""Which examples may be added, and with which ids: none that was forgotten, unless the caller allows it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, count, islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from erase_core._core import Model
from erase_core.checks import MAX_ID
from erase_core.commitments import Tokens
from erase_core.errors import DataError, ForgottenError, IdKindError
from erase_core.examples.example import AnyExample, Example, NewExample, counted
from erase_core.store.reads import Reads

__all__ = ["Admission", "OnDuplicate", "OnForgotten", "notes_of_duplicates"]

OnForgotten = Literal["refuse", "skip", "allow"]
OnDuplicate = Literal["refuse", "skip"]


class Admission:
    """Decides, for one ingest, about examples that were forgotten or are in the store already.

    Parameters
    ----------
    on_forgotten : {"refuse", "skip", "allow"}
    on_duplicate : {"refuse", "skip"}

    Attributes
    ----------
    tokens : set of bytes
        Tokens of forgotten examples that are added again; they are no longer refused.
    n_duplicates : int
        Number of examples left out because the store contains them already.
    """

    def __init__(self, on_forgotten: OnForgotten, on_duplicate: OnDuplicate) -> None:
        self._on_forgotten, self._skips_duplicates = on_forgotten, on_duplicate == "skip"
        self.tokens: set[bytes] = set()
        self.n_duplicates = 0

    def admits(self, reads: Reads, examples: Sequence[AnyExample]) -> NDArray[np.bool_]:
        """Return which of the examples may be added.

        Returns
        -------
        ndarray of bool, of shape (n,)

        Raises
        ------
        ForgottenError
        """
        # No example in the store is a forgotten one, so the order of the two checks does not matter.
        there = reads.duplicates(examples) if self._skips_duplicates else set()
        self.n_duplicates += len(there)
        admitted = np.array([example.id not in there for example in examples], dtype=np.bool_)
        new = list(compress(examples, admitted))
        tokens = reads.tokens
        tokens_of_each = [_tokens(tokens, example) for example in new]
        gone = reads.forgotten(token for each in tokens_of_each for token in each)
        if self._on_forgotten == "allow":
            # An example that is added again is no longer forgotten: neither by its id nor by its content.
            self.tokens |= gone | reads.forgotten(tokens.of_content(example) for example in new)
            return admitted
        admitted[admitted] = [not gone.intersection(each) for each in tokens_of_each]
        refused = len(new) - int(admitted.sum())
        if refused and self._on_forgotten == "refuse":
            raise ForgottenError(
                f"{refused} of {counted(len(new), 'example')} {'was' if refused == 1 else 'were'} forgotten, or "
                f"{'is' if refused == 1 else 'are'} about a subject that was; nothing was ingested. Leave them out by "
                'on_forgotten="skip" (--forgotten skip), or add them again by "allow".'
            )
        return admitted

    def numbered(self, reads: Reads, examples: Sequence[AnyExample], model: Model | None) -> list[Example]:
        """Return the examples with ids: their own, or integers after the largest id, except forgotten ones.

        Parameters
        ----------
        reads : Reads
        examples : sequence of Example or NewExample
        model : Model or None
            The model of the examples that are in the store.

        Raises
        ------
        IdKindError
            The store's ids are text, and examples have no ids.
        DataError
            There are not enough integers left.
        """
        new = [example for example in examples if isinstance(example, NewExample)]
        if not new:
            return [example for example in examples if isinstance(example, Example)]
        if reads.id_type() is str:
            raise IdKindError("the store's ids are text, but some examples have no id. Give every example an `id`.")
        largest = None if model is None else model.largest_id()
        ids: list[int] = []
        candidates = count(0 if largest is None else largest + 1)
        while len(ids) < len(new):
            ids += _not_forgotten(reads, list(islice(candidates, len(new) - len(ids))))
        if ids[-1] > MAX_ID:
            raise DataError(
                f"{counted(len(new), 'example')} cannot be numbered after the largest id, {largest}: ids end at "
                "2**63 - 1. Give every example an `id`."
            )
        return [example.numbered(id_) for id_, example in zip(ids, new, strict=True)]


def notes_of_duplicates(examples: Sequence[AnyExample], on_duplicate: OnDuplicate) -> tuple[str, ...]:
    """Return a note if duplicates should be skipped, but cannot be found because the examples have no ids."""
    if on_duplicate == "refuse" or not examples or examples[0].id is not None:
        return ()
    return ("duplicates are found by id, but these examples have no ids, so all were added. Give each an `id`.",)


def _not_forgotten(reads: Reads, ids: Sequence[int]) -> list[int]:
    tokens = {id_: reads.tokens.of_id(id_) for id_ in ids}
    gone = reads.forgotten(tokens.values())
    return [id_ for id_, token in tokens.items() if token not in gone]


def _tokens(tokens: Tokens, example: AnyExample) -> list[bytes]:
    own = tokens.of_content(example) if example.id is None else tokens.of_id(example.id)
    return [own] if example.subject is None else [own, tokens.of_subject(example.subject)]
