"""Which stored subjects are meant by one that is asked for: the same text, or one that looks the same.

People write a name in many ways that cannot be told apart on a screen: accents as one character or two, capitals,
spaces that are doubled or of another width, characters that are not shown at all. Pure functions of texts; which
examples a subject has is read by store.py.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

__all__ = ["Found", "Match", "find", "normalised"]

Match = Literal["exact", "normalised"]

# Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt): zero-width characters, joiners, marks of
# direction, soft hyphens, variation selectors, tags. Controls are not shown either, but for those that are white space.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]"
)
# A pattern without dots, which is white space to the eye but not to Unicode.
BLANK = "\u2800"


class Found(NamedTuple):
    """What was found of the subjects that were asked for.

    Parameters
    ----------
    ids : list of int or str
        Ids of all their examples, each once.
    spellings : list of str
        The subjects as the store has them.
    missing : list of str
        Those asked for that no example has.
    similar : list of str
        Further subjects of the store that look like one that was asked for.
    """

    ids: list[int | str]
    spellings: list[str]
    missing: list[str]
    similar: list[str]


def normalised(subject: str) -> str:
    """Return what all texts share that look like this one.

    Without characters that are not shown; white space as one space, none at the ends; without case and with composed
    accents (canonical caseless matching, section 3.13 of the Unicode Standard). Nothing else is equated: digits of
    another width, or letters of another alphabet, are others.
    """
    if not subject.isascii():
        subject = unicodedata.normalize("NFD", subject.replace(BLANK, " "))
    subject = " ".join(INVISIBLE.sub("", subject).split()).casefold()
    return subject if subject.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFD", subject))


def find(stored: Mapping[str, Sequence[int | str]], wanted: Sequence[str], match: Match) -> Found:
    """Find subjects among those of a store.

    Parameters
    ----------
    stored : mapping of str to sequence of int or str
        The ids of each subject's examples.
    wanted : sequence of str
    match : {"exact", "normalised"}
    """
    alike: dict[str, list[str]] = {normalised(subject): [] for subject in wanted}
    for subject in stored:
        form = normalised(subject)
        if form in alike:
            alike[form].append(subject)
    spellings: dict[str, None] = {}
    missing = []
    for subject in wanted:
        same = alike[normalised(subject)] if match == "normalised" else [subject] * (subject in stored)
        spellings |= dict.fromkeys(same)
        if not same:
            missing.append(subject)
    ids = [id_ for subject in spellings for id_ in stored[subject]]
    similar = [subject for several in alike.values() for subject in several if subject not in spellings]
    return Found(ids, list(spellings), missing, similar)
