"""What `forget` is asked for: which examples are meant, and what becomes of those that are not there.

How subjects are compared is left to subjects.py, the removal to removals.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from erase_core import checks
from erase_core._core import UpdateReport
from erase_core.erasure.subjects import Match, find
from erase_core.errors import ParameterError, UnknownSubjectError
from erase_core.examples.example import counted
from erase_core.receipts.receipt import Receipt
from erase_core.reports import ForgetReport
from erase_core.store.reads import Reads

__all__ = ["Going", "OnMissing", "Request"]

OnMissing = Literal["refuse", "skip"]


class Going(NamedTuple):
    """The examples that are to be removed.

    Parameters
    ----------
    ids : list of int or str
    subjects : list of str or None
        The subjects that they are all about, as the store has them; None if ids were asked for.
    n_missing : int
        How many ids or subjects that were asked for are not there.
    n_similar : int
        How many other subjects look like those asked for.
    """

    ids: list[int | str]
    subjects: list[str] | None
    n_missing: int = 0
    n_similar: int = 0

    def report(
        self,
        update: UpdateReport | None,
        n_examples: int,
        before: list[int | str],
        after: list[int | str],
        receipt: Receipt | None = None,
        *,
        dry_run: bool = False,
    ) -> ForgetReport:
        """Return the report of their removal; without an update, that nothing was to be removed."""
        return ForgetReport(
            ids=self.ids,
            n_examples=n_examples,
            path=None if update is None else update.path,
            before=before,
            after=after,
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
        Either this or `ids` is given.
    on_missing : {"refuse", "skip"}
    match : {"exact", "normalised"}
        How subjects are compared.

    Raises
    ------
    ParameterError, IdKindError
        Neither or both are given, or nothing is named.
    """

    def __init__(
        self,
        ids: int | str | Iterable[int | str] | None,
        subject: str | Iterable[str] | None,
        on_missing: OnMissing,
        match: Match,
    ) -> None:
        if (ids is None) == (subject is None):
            raise ParameterError("give either ids or a subject")
        checks.choice("on_missing", on_missing, get_args(OnMissing))
        checks.choice("match", match, get_args(Match))
        if match != "exact" and subject is None:
            raise ParameterError(f"match is for subjects, got {match!r} with ids; leave it out")
        self._skip, self._match = on_missing == "skip", match
        self._ids = None if ids is None else checks.distinct_ids(ids)
        self._subjects = None if subject is None else checks.distinct_texts("subject", subject)
        if not (self._ids or self._subjects):
            raise ParameterError(f"{'subject' if ids is None else 'ids'} must name at least one example, got none")

    @property
    def skips(self) -> bool:
        """Whether what is not there is left out, so that there may be nothing to remove."""
        return self._skip

    def going(self, reads: Reads) -> Going:
        """Return what is to be removed.

        Raises
        ------
        UnknownIdError, UnknownSubjectError
            Something is not there, and is not to be skipped.
        """
        if self._ids is not None:
            known = reads.known(self._ids) if self._skip else self._ids
            if not self._skip:
                reads.check_known(known)
            return Going(known, None, n_missing=len(self._ids) - len(known))
        found = find(reads.ids_by_subject(), self._subjects or [], self._match)
        if found.missing and not self._skip:
            raise UnknownSubjectError(_unknown(reads, found.missing, len(found.similar)))
        return Going(found.ids, found.spellings, n_missing=len(found.missing), n_similar=len(found.similar))


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
            f"; {counted(n_similar, 'subject')} of the store {verb} alike but for case, spaces, accents or characters "
            'that are not shown: take them with match="normalised" (--match normalised)'
        )
    return f"{text}{already}{hint}; nothing was forgotten"
