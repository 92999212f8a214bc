"""Finds turns of phrase that have to be read twice: in documents, and in comments, docstrings and messages of Python.

`python tests/support/plain_english.py FILES` prints each with its place and what to write instead; `make lint` runs it.
Code is left out: in Markdown its blocks and spans, in Python everything but comments and string literals. A text that
is meant as it stands, such as an example of a bad one, has no exception: write it in another way.
"""

from __future__ import annotations

import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["TURNS", "Finding", "Turn", "findings"]


class Turn(NamedTuple):
    """A turn that is not to be written.

    Parameters
    ----------
    pattern : str
        A regular expression, in which a space stands for any white space.
    example : str
    instead : str
        What to write.
    """

    pattern: str
    example: str
    instead: str


class Finding(NamedTuple):
    """A turn in a file."""

    file: Path
    line: int
    text: str
    instead: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text!r}. Write {self.instead}."


# A word that also has a good use, such as "tell" in "tell apart", is here only in its bad ones.
TURNS = (
    Turn(r"\b(?<!there\s)(?:is|are) (?-i:none)\b(?! of)", "The key is none.", "'is invalid' or 'is missing'"),
    Turn(r"\bthat (?:is|are) no \w+", "A row that is no example.", "'is not a ...' or 'an invalid ...'"),
    Turn(r"\btells\b", "The store tells another key.", "'records', 'contains' or 'reports'"),
    Turn(r"\btold (?:by|of|so|that)\b", "It was told so.", "'recorded' or 'reported'"),
    Turn(r"\btell of\b", "What the receipts tell of.", "'record' or 'list'"),
    Turn(r"\b(?:goes|go|going|went) on with\b", "The next open goes on with it.", "'finishes'"),
    Turn(r"\b(?:lets?|letting) go of\b", "A process lets go of it.", "'releases' or 'drops'"),
    Turn(r"\b(?:see|sees|seen|saw) to\b", "A test sees to the zeros.", "'ensure' or 'check'"),
    Turn(r"\b(?:is|are) \S+'s business\b", "That is store.py's business.", "'see ...'"),
    Turn(r"\bthe business of\b", "It is the business of others.", "'see ...'"),
    Turn(r"\bwhat stands in\b", "Read what stands in it.", "'the contents of'"),
    Turn(r"\bis not there\b", "The folder is not there.", "'not found' or 'missing'"),
    Turn(r"\bnobody can tell\b", "Then nobody can tell.", "'cannot be detected'"),
    Turn(r"\bone's own\b", "Objects of one's own.", "'your own'"),
    Turn(r"\bsays nothing of\b", "It says nothing of copies.", "'says nothing about'"),
    Turn(r"\b(?:written|made|fitted|read|built) anew\b", "The file is written anew.", "'rewritten' or 'again'"),
    Turn(r"\bmust be several\b", "known must be several.", "'must be an iterable'"),
    Turn(r"\bout of its range\b", "It is out of its range.", "'out of range'"),
    Turn(r"\bbehind (?:our|its|their) backs?\b", "It changed behind its back.", "'by another program'"),
    Turn(r"\bwithout a word\b", "It is cut without a word.", "'silently'"),
    Turn(r"\bwho is in the way\b", "It shows who is in the way.", "'which process blocks it'"),
    Turn(r"\bbrought to (?:its|an) end\b", "Brought to its end.", "'finished'"),
    Turn(r"\b(?-i:Of) (?:their|its|each) \w+\.", "Of their rows.", "a sentence with a verb"),
)
PATTERN = re.compile(
    "|".join(f"(?P<turn{place}>{turn.pattern})" for place, turn in enumerate(TURNS)).replace(" ", r"\s+"), re.IGNORECASE
)


def findings(file: Path) -> Iterator[Finding]:
    """Yield the turns in a file, from top to bottom. One that a line break divides is found in its first line."""
    lines = file.read_text(encoding="utf-8").splitlines()
    prose = _of_python(file) if file.suffix == ".py" else _of_markdown(lines)
    for pieces in prose:
        text = "\n".join(piece for _, piece in pieces)
        for match in PATTERN.finditer(text):
            line = pieces[text.count("\n", 0, match.start())][0]
            turn = TURNS[int(str(match.lastgroup).removeprefix("turn"))]
            yield Finding(file, line, " ".join(match[0].split()), turn.instead)


Prose = list[tuple[int, str]]
"""Lines of text that belong together, each with its number."""


def _of_markdown(lines: list[str]) -> Iterator[Prose]:
    text: Prose = []
    is_fenced, is_code = False, False
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
            continue
        # An indented block begins behind a blank line; in a list it is indented further.
        is_code = line.startswith("    ") and (is_code or not lines[number - 2].strip())
        if not (is_fenced or is_code):
            text.append((number, re.sub(r"`[^`]*`", "`code`", line)))
    yield text


def _of_python(file: Path) -> Iterator[Prose]:
    """Yield each run of comments, and each run of literals that Python joins."""
    kind: int | None = None
    text: Prose = []
    with tokenize.open(file) as stream:
        for token in tokenize.generate_tokens(stream.readline):
            if token.type in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
                continue
            if token.type != kind:
                yield text
                kind, text = token.type, []
            if token.type == tokenize.COMMENT:
                text.append((token.start[0], token.string.lstrip("# ")))
            elif token.type == tokenize.STRING:
                text += _of_literal(token)
    yield text


def _of_literal(token: tokenize.TokenInfo) -> Prose:
    prefix_and_quotes = re.match(r"\w*(?:\"{3}|'{3}|\"|')", token.string)
    begin = len(prefix_and_quotes[0]) if prefix_and_quotes else 0
    lines = token.string[begin:].rstrip("\"'").splitlines() or [""]
    return [(token.start[0] + place, line) for place, line in enumerate(lines)]


def main(names: list[str]) -> int:
    """Print the findings in files, and in the Python files of folders; return the exit code."""
    paths = [Path(name) for name in names]
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    found = [finding for file in files for finding in findings(file)]
    for finding in found:
        print(finding)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
