"""When two subjects look the same.

A name can be written in many ways that look alike: with accents as one character or two, with capitals, with double or
wide spaces, or with invisible characters.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["normalised"]

# Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt): zero-width characters, joiners, marks of
# direction, soft hyphens, variation selectors, tags. Then the control characters that are not white space.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]"
)
# Braille pattern blank. It looks like white space, but Unicode does not count it as such.
BLANK = "\u2800"


def normalised(subject: str) -> str:
    """Return the form that a subject shares with all subjects that look like it.

    Invisible characters are dropped, white space becomes one space and is dropped at the ends, case is folded, and
    accents are composed (canonical caseless matching, section 3.13 of the Unicode Standard). Nothing else is equated:
    digits of another width and letters of another alphabet stay different.
    """
    if not subject.isascii():
        subject = unicodedata.normalize("NFD", subject.replace(BLANK, " "))
    subject = " ".join(INVISIBLE.sub("", subject).split()).casefold()
    return subject if subject.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFD", subject))
