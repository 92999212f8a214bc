"""Notes on columns that are not read but look like a subject, an id or a rationale.

Without a subject, an example cannot be forgotten by subject; without its id, not by its id. So a caller should know
about such columns.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping

__all__ = ["notes_of_unread"]

PERSONS = (
    "subject|customer|client|consumer|buyer|seller|user|person|individual|patient|member|subscriber|account|contact|"
    "employee|worker|staff|student|pupil|teacher|candidate|applicant|tenant|guest|visitor|participant|respondent|owner|"
    "author|creator|writer|sender|recipient|requester|requestor|reporter|caller|party|lead"
)
IDENTIFIERS = (
    "id|ids|key|no|nr|num|number|name|fullname|email|mail|phone|uuid|guid|ref|reference|code|hash|identifier|login"
)
STANDALONE = (
    "email|mail|emailaddress|fullname|firstname|lastname|surname|username|userid|login|phone|phonenumber|ssn|iban"
)
# The column in which pandas writes an index without a name.
INDEX = re.compile(r"__index_level_\d+__")
SUBJECT = re.compile(rf"(data|end|from|to|the|is|my)?({PERSONS})s?({IDENTIFIERS})*|{STANDALONE}")
MOST = 5
_ONE = ("column {} looks like the {} but is", "it")
_SEVERAL = ("columns {} look like the {} but are", "one")


def notes_of_unread(labels: Iterable[object], columns: Mapping[str, str]) -> list[str]:
    """Return a note for each field that is not read if an unread column looks like it.

    Parameters
    ----------
    labels : iterable
        The columns of the source.
    columns : mapping of str to str
        The column of each field that is read.
    """
    names = [label for label in labels if isinstance(label, str)]
    unread = [name for name in names if name not in columns.values()]
    notes = []
    for field in ("subject", "id", "rationale"):
        if columns.get(field) in names:
            continue
        alike = [name for name in unread if _looks_like(field, name)][:MOST]
        if alike:
            listed = ", ".join(map(repr, alike))
            what, it = _ONE if len(alike) == 1 else _SEVERAL
            notes.append(
                f"{what.format(listed, field)} not read; name {it} with fields={{{field!r}: {alike[0]!r}}} "
                f"(--field {shlex.quote(f'{field}={alike[0]}')})"
            )
    return notes


def _looks_like(field: str, name: str) -> bool:
    plain = re.sub(r"[\W_]+", "", name).casefold()
    if field == "id" and INDEX.fullmatch(name):
        return True
    return plain == field or (field == "subject" and SUBJECT.fullmatch(plain) is not None)
