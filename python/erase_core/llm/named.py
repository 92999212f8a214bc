"""Finds the option that an answer names. The whole answer must be the option; case, quotes and the like are ignored."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence

__all__ = ["named", "named_in_json"]

# Pairs of characters around an answer. Some are written by name, since they look like others.
QUOTES = {
    **{sign: sign for sign in "\"'`*_"},
    "\N{LEFT DOUBLE QUOTATION MARK}": "\N{RIGHT DOUBLE QUOTATION MARK}",
    "\N{LEFT SINGLE QUOTATION MARK}": "\N{RIGHT SINGLE QUOTATION MARK}",
    "\N{DOUBLE LOW-9 QUOTATION MARK}": "\N{LEFT DOUBLE QUOTATION MARK}",
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}": "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}",
    "\N{LEFT CORNER BRACKET}": "\N{RIGHT CORNER BRACKET}",
    "(": ")",
    "[": "]",
}
STOPS = ".。．"  # noqa: RUF001
# Announcements of an answer, including the words of the prompt. They must begin a sentence.
NOUNS = "answer|output|label|response|result|category|class|classification|choice|option|prediction|sentiment"
ANNOUNCEMENT = rf"(?:(?:so|thus|therefore|hence),? )?(?:(?:the|my) )?(?:final |correct )?(?:{NOUNS})(?: is:?\s|:)"
ANNOUNCED = re.compile(rf"(?:.*[.!?\n]\s*|\s*)[#\s]*{ANNOUNCEMENT}\s*(\S.*)", re.IGNORECASE | re.DOTALL)
# Emphasis of some words, as in "**Answer:** yes" and "**B)** Berlin"; not a power, as in 2**3**4.
EMPHASIS = re.compile(r"(?<![\w*])(\*\*|__)(?=\S)([^*_\n]+)(?<=\S)\1(?![\w*])")
SAYS_ANSWER = re.compile(r"\banswer(?: is\b|:)", re.IGNORECASE)
BOXED = re.compile(r"\$*\\boxed\{(?:\\text\{([^{}]*)\}|([^{}]*))\}\$*")
FENCED = re.compile(r"```[a-z]*\n(.*?)\n?```|<answer>(.*?)</answer>", re.DOTALL)
# Tokens that end a turn, if the server leaves them in the text.
ENDS = re.compile(r"(?:\s*(?:</s>|<\|(?:im_end|eot_id|end|endoftext|eot|return)\|>|<end_of_turn>|<eos>))+\Z")
LABEL = re.compile(
    r"(?:(?:option|choice) )?(?:\(([A-Z])\)|([A-Z])([).:]))(?:\s+(\S.*))?|(?:option|choice) ([A-Z])",
    re.IGNORECASE | re.DOTALL,
)
# Another letter, as in "A) or B)" and "A: B"; not the article "A", nor a letter within a word.
BESIDE = re.compile(
    r"(?<![\w'\N{RIGHT SINGLE QUOTATION MARK}])(?!A [a-z])([A-Z])(?![\w'\N{RIGHT SINGLE QUOTATION MARK}])"
)
RIGHT = re.compile(r"is (?:the )?(?:correct|right|best)(?: (?:answer|option|choice|one))?[.!]?", re.IGNORECASE)
# Text after a letter that does not name the option: the rest of a sentence about it, of a name ("C. S. Lewis"), and
# words of doubt, denial and address, as in "A) is wrong", "A. I cannot say" and "A: but only if ...".
ABOUT_IT = re.compile(
    r"(?:is|are|was|were|has|have|does|can|could|may|might|would|should|must|seems|looks|appears|to|through|and|[A-Z]\.)"
    r"(?!\w)"
)
DOUBT = re.compile(
    r"\b(?:not|no|nor|none|neither|never|cannot|\w+n['\N{RIGHT SINGLE QUOTATION MARK}]t|wrong|incorrect|false|except|"
    r"but|rather|instead|actually|wait|or|however|although|sorry|unsure|unclear|maybe|perhaps|probably|answer|me|I)\b|\?",
    re.IGNORECASE,
)


def named(text: str, options: Sequence[str], query: str = "") -> str | None:
    """Return the option that a text names; None if it does not name exactly one.

    The text is compared in this order: unchanged; without quotes around it, a final stop or an announcement ("The
    answer is:"); without regard to case, width and spaces; and, if all options are single letters, by the letter that
    it begins with ("B) Berlin"). The text after that letter must be the text that the query has after the letter. If
    the query does not list the letters, it must not deny or doubt the letter. If a step cannot distinguish two options,
    it finds none.

    Parameters
    ----------
    text : str
        An answer.
    options : sequence of str
        The options, all different.
    query : str, default=""
        The question, which may list the meanings of the letters.
    """
    whole = text.strip()
    if whole in options:
        return whole
    whole = ENDS.sub("", whole)
    said = [whole, _bared(whole)]
    plain = _bared(EMPHASIS.sub(r"\2", said[1]))
    said += [plain] if plain != said[1] else []
    announced = ANNOUNCED.fullmatch(plain)
    # Two announcements may contradict each other.
    if announced and len(SAYS_ANSWER.findall(whole)) <= 1:
        said += [announced[1], _bared(announced[1])]
    for form in (str.strip, _bared, _folded):
        for each in said:
            if found := _only(each, options, form):
                return found
    return _labelled(said, options, query)


def named_in_json(text: str, options: Sequence[str]) -> str | None:
    """Return the option in a JSON text, which may be fenced: a string, or an object with only that string."""
    try:
        value = json.loads(fenced[1] if (fenced := FENCED.fullmatch(text.strip())) and fenced[1] else text)
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
        if around := FENCED.fullmatch(text) or BOXED.fullmatch(text):
            text = around[around.lastindex or 0]
        elif len(text) > 2 and QUOTES.get(text[0]) == text[-1]:
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
    folded = unicodedata.normalize("NFC", "".join(same)).casefold().replace("\N{MINUS SIGN}", "-")
    folded = re.sub(r"^[-•*]\s+(?=[^\W\d_])", "", _bared(folded))
    folded = re.sub(r"(?<=[^\W\d_])!$", "", folded)
    return " ".join(re.sub(r"(?<=[^\W\d_])[-_](?=[^\W\d_])", " ", folded).split())


def _labelled(said: Sequence[str], options: Sequence[str], query: str) -> str | None:
    """Return the letter that a text begins with, if all options are letters and the text does not contradict it."""
    letters = {option.upper(): option for option in options}
    if len(letters) < len(options) or not all(re.fullmatch("[A-Z]", letter) for letter in letters):
        return None
    listed = _listed(letters, query)
    for each in said:
        match = LABEL.fullmatch(each)
        if not match:
            continue
        label, rest = (match[1] or match[2] or match[5]).upper(), match[4] or ""
        if label in letters and (not rest or _fits(label, rest, match[3] or ")", letters, listed)):
            return letters[label]
    return None


def _listed(letters: Collection[str], query: str) -> dict[str, str]:
    """Return the text of each letter in a query; empty if the query does not list all letters."""
    found = re.findall(r"(?:^|(?<=[\s(]))([A-Za-z])[).:]\s+(\S.*?)(?=\s+\(?[A-Za-z][).:]\s|\s*$)", query, re.MULTILINE)
    listed = {letter.upper(): _folded(text) for letter, text in found}
    return listed if listed.keys() >= set(letters) else {}


def _fits(label: str, rest: str, mark: str, letters: Collection[str], listed: Mapping[str, str]) -> bool:
    """Whether the text after a letter does not contradict it."""
    if RIGHT.fullmatch(rest):
        return True
    if listed:
        # Take the longest listed text that it begins with, since one text may be the beginning of another.
        said = _folded(rest)
        begun = [each for each in listed if re.match(rf"{re.escape(listed[each])}(?!\w)", said)]
        if not begun or listed[label] != max((listed[each] for each in begun), key=len):
            return False
        rest = said[len(listed[label]) :]
    elif (label == "A" and mark == ":") or ABOUT_IT.match(rest):  # "A:" may stand for "Answer:"
        return False
    others = set(BESIDE.findall(rest)) & (set(letters) - {label})
    return not others and DOUBT.search(rest) is None
