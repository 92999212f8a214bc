"""A request to `forget`: which examples it names, and what happens with those that are missing.

For when subjects look the same, see examples/spelling.py; for the removal, removal.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

from erase_core import checks
from erase_core.commitments import Tokens
from erase_core.errors import ParameterError, UnknownSubjectError
from erase_core.examples.example import counted, unstorable
from erase_core.receipts.receipt import Receipt
from erase_core.reports import ForgetReport, PromptChanges
from erase_core.store.clustering import Update
from erase_core.store.reads import Reads
from erase_core.store.sealing import can_be_an_id

__all__ = ["Match", "Matched", "OnMissing", "Request"]

OnMissing = Literal["refuse", "skip"]
Match = Literal["exact", "normalised"]


class Matched(NamedTuple):
    """The examples that a request matches.

    Parameters
    ----------
    ids : list of int or str
    subjects : list of str or None
        The subjects whose examples these are, as spelled in the store; None if the request names ids.
    n_missing : int
        How many of the requested ids or subjects are not in the store.
    n_similar : int
        How many other subjects in the store look like a requested one.
    """

    ids: list[int | str]
    subjects: list[str] | None
    n_missing: int = 0
    n_similar: int = 0

    def report(
        self,
        update: Update | None,
        n_examples: int,
        prompts: PromptChanges,
        receipt: Receipt | None = None,
        *,
        dry_run: bool = False,
    ) -> ForgetReport:
        """Return the report of the removal. An `update` of None means that there was nothing to remove."""
        return ForgetReport(
            ids=self.ids,
            n_examples=n_examples,
            path=None if update is None else update.path,
            prompts=prompts,
            model_seconds=0.0 if update is None else update.seconds,
            seconds=0.0,
            receipt=receipt,
            dry_run=dry_run,
            n_missing=self.n_missing,
            n_similar=self.n_similar,
        )


class Request:
    """A request to forget.

    Parameters
    ----------
    ids : int, str, iterable of either, or None
    subject : str, iterable of str, or None
        Either `subject` or `ids` must be given.
    on_missing : {"refuse", "skip"}
    match : {"exact", "normalised"}
        How subjects are compared.

    Attributes
    ----------
    skips_missing : bool
        Whether missing ids and subjects are skipped, so there may be nothing to remove.
    named : list of int or str
        The ids or subjects, each once.
    names_subjects : bool
        Whether they are subjects.

    Raises
    ------
    ParameterError, IdKindError
        Neither or both are given, or a value is empty or invalid.
    """

    def __init__(
        self,
        ids: int | str | Iterable[int | str] | None,
        subject: str | Iterable[str] | None,
        on_missing: OnMissing,
        match: Match,
    ) -> None:
        if (ids is None) == (subject is None):
            raise ParameterError(
                f"forget needs either ids or a subject, got {'neither' if ids is None else 'both'}. Give one of them."
            )
        checks.choice("on_missing", on_missing, get_args(OnMissing))
        checks.choice("match", match, get_args(Match))
        if match != "exact" and subject is None:
            raise ParameterError(f"match is only for subjects, got {match!r} with ids. Leave it out.")
        self.skips_missing, self._match = on_missing == "skip", match
        self._ids = None if ids is None else checks.distinct_ids(ids)
        self._subjects = None if subject is None else checks.distinct_texts("subject", subject)
        blank = next((subject for subject in self._subjects or () if not subject.strip()), None)
        if blank is not None:  # which no example can be about
            raise ParameterError(f"subject must be text that is not blank, got {blank!r}")
        if not (self._ids or self._subjects):
            raise ParameterError(f"{'subject' if ids is None else 'ids'} must name at least one example, got none")
        self.named: list[int | str] = [*(self._ids or ()), *(self._subjects or ())]
        self.names_subjects = ids is None

    def tokens(self, tokens: Tokens) -> list[bytes | None]:
        """Return the token by which a receipt records each that is named; None for what no store can contain."""
        if self.names_subjects:
            return [None if unstorable(each) else tokens.of_subject(each) for each in self._subjects or ()]
        return [tokens.of_id(each) if can_be_an_id(each) else None for each in self._ids or ()]

    def resolve(self, reads: Reads) -> Matched:
        """Return the examples of the store that the request matches.

        Raises
        ------
        UnknownIdError, UnknownSubjectError
            An id or subject is not in the store, and is not to be skipped.
        """
        if self._ids is not None:
            present = reads.present(self._ids) if self.skips_missing else self._ids
            if not self.skips_missing:
                reads.check_present(present)
            return Matched(present, None, n_missing=len(self._ids) - len(present))
        return self._about(reads, self._subjects or [])

    def finds(self, reads: Reads, subject: str) -> bool:
        """Whether the store has examples about a subject that is named."""
        return bool(self._same(subject, reads.subjects_like(subject)))

    def _same(self, subject: str, alike: list[str]) -> list[str]:
        """Return which of the subjects that look like one are meant."""
        return alike if self._match == "normalised" else [each for each in alike if each == subject]

    def _about(self, reads: Reads, subjects: Sequence[str]) -> Matched:
        """Return the examples about subjects."""
        found: dict[str, list[int | str]] = {}
        similar: set[str] = set()
        missing = []
        for subject in subjects:
            alike = reads.subjects_like(subject)
            same = self._same(subject, alike)
            found |= {each: reads.ids_about(each) for each in same if each not in found}
            similar |= set(alike)
            if not same:
                missing.append(subject)
        similar -= set(found)
        if missing and not self.skips_missing:
            raise UnknownSubjectError(_unknown(reads, missing, len(similar)))
        ids = [id_ for several in found.values() for id_ in several]
        return Matched(ids, list(found), n_missing=len(missing), n_similar=len(similar))


def _unknown(reads: Reads, missing: list[str], n_similar: int) -> str:
    gone = reads.n_forgotten_subjects(missing)
    if len(missing) == 1:
        text = f"no example is about the subject {missing[0]!r}"
        already = ", which was forgotten already" if gone else ""
    else:
        more = ", ..." if len(missing) > 5 else ""
        text = f"no example is about {len(missing)} of the subjects: {', '.join(map(repr, missing[:5]))}{more}"
        already = f" ({gone} of them forgotten already)" if gone else ""
    hint = ""
    if n_similar:
        verb = "looks" if n_similar == 1 else "look"
        hint = (
            f". {counted(n_similar, 'subject')} of the store {verb} the same except for case, spaces, accents or "
            'invisible characters. Include them by match="normalised" (--match normalised).'
        )
    return f"{text}{already}; nothing was forgotten{hint}"
