"""Finds the option that an answer names. The whole answer must be the option; case, quotes and the like are ignored."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence

__all__ = ["named", "named_in_json"]

# Pairs of characters around an answer. Some are written by name, since they look like others.
QUOTES = {
    **{sign: sign for sign in "\"'`*_"},
    "\N{LEFT DOUBLE QUOTATION MARK}": "\N{RIGHT DOUBLE QUOTATION MARK}",
    "\N{LEFT SINGLE QUOTATION MARK}": "\N{RIGHT SINGLE QUOTATION MARK}",
    "\N{DOUBLE LOW-9 QUOTATION MARK}": "\N{LEFT DOUBLE QUOTATION MARK}",
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}": "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}",
    "\N{LEFT CORNER BRACKET}": "\N{RIGHT CORNER BRACKET}",
}
STOPS = ".。．"  # noqa: RUF001
# Announcements of an answer, including the words of the prompt. They must begin a sentence.
ANNOUNCED = re.compile(
    r"(?:.*[.!?\n]\s*|\s*)(?:(?:so|thus|therefore|hence),? )?(?:the )?(?:final |correct )?answer"
    r"(?: is:?|:)\s+(\S.*)",
    re.IGNORECASE | re.DOTALL,
)
LABEL = re.compile(
    r"(?:(?:option|choice) )?(?:\(([A-Z])\)|([A-Z])[).:])(?:\s+(\S.*))?|(?:option|choice) ([A-Z])",
    re.IGNORECASE | re.DOTALL,
)
# Another letter, as in "A) or B)" and "A: B".
LISTED = re.compile(r"^([A-Z])\W*$|\(([A-Z])\)|\b([A-Z])[).:](?:\s|$)|(?:\b(?:or|and|nor)|[,/&])\s*\(?([A-Z])\b")


def named(text: str, options: Sequence[str]) -> str | None:
    """Return the option that a text names; None if it does not name exactly one.

    The text is compared in this order: unchanged; without quotes around it, a final stop or an announcement ("The
    answer is:"); without regard to case, width and spaces; and, if all options are single letters, by the letter that
    it begins with ("B) Berlin"). If a step cannot distinguish two options, it finds none.

    Parameters
    ----------
    text : str
        An answer.
    options : sequence of str
        The options, all different.
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
    """Return the option in a JSON text: a string, or an object with a single string."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    return value if isinstance(value, str) and value in options else None


def _only(said: str, options: Sequence[str], form: Callable[[str], str]) -> str | None:
    """Return the option with the same normal form as a text, if there is exactly one."""
    wanted = form(said)
    found = [option for option in options if form(option) == wanted]
    return found[0] if wanted and len(found) == 1 else None


def _bared(text: str) -> str:
    """Return a text without quotes and emphasis around it, and without a final stop."""
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
    """Return a text in lower case and normal width, with single spaces. A hyphen between letters becomes a space.

    A sign before or between digits is kept: -5 is not 5. Superscripts are kept, too; NFKC would turn them into digits.
    """
    wide = ("<wide>", "<narrow>")
    same = [unicodedata.normalize("NFKC", s) if unicodedata.decomposition(s).startswith(wide) else s for s in text]
    folded = unicodedata.normalize("NFC", "".join(same)).casefold()
    folded = re.sub(r"^[-•]\s+(?=[^\W\d_])", "", _bared(folded))
    folded = re.sub(r"(?<=[^\W\d_])!$", "", folded)
    return " ".join(re.sub(r"(?<=[^\W\d_])[-_](?=[^\W\d_])", " ", folded).split())


def _labelled(said: Sequence[str], options: Sequence[str]) -> str | None:
    """Return the letter that a text begins with, if all options are letters and the text names no other option."""
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
