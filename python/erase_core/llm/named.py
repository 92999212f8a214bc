"""Which option an answer names: the one that it is, but for case, quotes and the like; never one that it contains."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence

__all__ = ["named", "named_in_json"]

# Pairs of signs around an answer; those of quotes and brackets by their names, since some look like others.
QUOTES = {
    **{sign: sign for sign in "\"'`*_"},
    "\N{LEFT DOUBLE QUOTATION MARK}": "\N{RIGHT DOUBLE QUOTATION MARK}",
    "\N{LEFT SINGLE QUOTATION MARK}": "\N{RIGHT SINGLE QUOTATION MARK}",
    "\N{DOUBLE LOW-9 QUOTATION MARK}": "\N{LEFT DOUBLE QUOTATION MARK}",
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}": "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}",
    "\N{LEFT CORNER BRACKET}": "\N{RIGHT CORNER BRACKET}",
}
STOPS = ".。．"  # noqa: RUF001
# How an answer is announced, by the prompt's own words among others; at the beginning of a sentence only.
ANNOUNCED = re.compile(
    r"(?:.*[.!?\n]\s*|\s*)(?:(?:so|thus|therefore|hence),? )?(?:the )?(?:final |correct )?answer"
    r"(?: is:?|:)\s+(\S.*)",
    re.IGNORECASE | re.DOTALL,
)
LABEL = re.compile(
    r"(?:(?:option|choice) )?(?:\(([A-Z])\)|([A-Z])[).:])(?:\s+(\S.*))?|(?:option|choice) ([A-Z])",
    re.IGNORECASE | re.DOTALL,
)
# A letter besides, as in "A) or B)" and "A: B".
LISTED = re.compile(r"^([A-Z])\W*$|\(([A-Z])\)|\b([A-Z])[).:](?:\s|$)|(?:\b(?:or|and|nor)|[,/&])\s*\(?([A-Z])\b")


def named(text: str, options: Sequence[str]) -> str | None:
    """Return the option that a text is; None if it is not an option.

    The text is compared as it is first, then without quotes around it, a final stop or an announcement ("The answer
    is:"), then without regard to case, width and spaces, and at last, where all options are single letters, as the
    letter that a text begins with ("B) Berlin"). Where two options are equal but for what is disregarded, only the
    answer as it is counts.

    Parameters
    ----------
    text : str
        An answer.
    options : sequence of str
        Unique.
    """
    whole = text.strip()
    if whole in options:
        return whole
    said = [whole, _bared(whole)]
    announced = ANNOUNCED.fullmatch(said[1])
    if announced:
        said += [announced[1], _bared(announced[1])]
    for form in (str.strip, _bared, _folded):
        for each in said:
            if found := _only(each, options, form):
                return found
    return _labelled(said, options)


def named_in_json(text: str, options: Sequence[str]) -> str | None:
    """Return the option that a JSON text is: a string, or an object with nothing but that string."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    return value if isinstance(value, str) and value in options else None


def _only(said: str, options: Sequence[str], form: Callable[[str], str]) -> str | None:
    """Return the option that has the same form as a text, if there is exactly one."""
    wanted = form(said)
    found = [option for option in options if form(option) == wanted]
    return found[0] if wanted and len(found) == 1 else None


def _bared(text: str) -> str:
    """Return a text without quotes and emphasis around it, and without one final stop."""
    stops = 1
    while True:
        text = text.strip()
        if len(text) > 2 and QUOTES.get(text[0]) == text[-1]:
            text = text[1:-1]
        elif stops and len(text) > 1 and text[-1] in STOPS and text[-2] not in STOPS:
            text, stops = text[:-1], 0
        else:
            return text


def _folded(text: str) -> str:
    """Return a text in one case and one width, with single spaces; between letters a hyphen is a space.

    Signs between or before digits are kept: -5 is not 5. So are superscripts, which NFKC would make digits.
    """
    wide = ("<wide>", "<narrow>")
    same = [unicodedata.normalize("NFKC", s) if unicodedata.decomposition(s).startswith(wide) else s for s in text]
    folded = unicodedata.normalize("NFC", "".join(same)).casefold()
    folded = re.sub(r"^[-•]\s+(?=[^\W\d_])", "", _bared(folded))
    folded = re.sub(r"(?<=[^\W\d_])!$", "", folded)
    return " ".join(re.sub(r"(?<=[^\W\d_])[-_](?=[^\W\d_])", " ", folded).split())


def _labelled(said: Sequence[str], options: Sequence[str]) -> str | None:
    """Return the letter that a text begins with, where all options are letters and it lists no other of them."""
    letters = {option.upper(): option for option in options}
    if len(letters) < len(options) or not all(re.fullmatch("[A-Z]", letter) for letter in letters):
        return None
    for each in said:
        match = LABEL.fullmatch(each)
        label = (match[1] or match[2] or match[4]).upper() if match else ""
        others = {next(filter(None, found)) for found in LISTED.findall(match[3] or "")} if match else set()
        if label in letters and not (others & letters.keys()) - {label}:
            return letters[label]
    return None
