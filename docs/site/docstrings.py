"""Parameters that share a description in a docstring, each with the type and the default of its own.

In `a, b, c` followed by an indented text, without types, Griffe gives all of them what the signature says of `a`.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["OneByOne", "one_by_one"]

SECTION = re.compile(r"(?<=^Parameters\n----------\n)(?:.*\n)*?(?=.*\n---+\n|\Z)", re.MULTILINE)
SHARED = re.compile(r"^(\**\w+(?:, \**\w+)+)\n((?:[ \t]+.*\n?|\n)+)", re.MULTILINE)


class OneByOne(griffe.Extension):  # type: ignore[misc]
    """Writes the docstrings of functions one parameter at a time, before they are parsed."""

    def on_function(self, *, func: Any, **_: Any) -> None:
        """Rewrite the docstring of a function."""
        if func.docstring:
            func.docstring.value = one_by_one(func.docstring.value)


def one_by_one(docstring: str) -> str:
    """Return a docstring whose parameters share no description."""
    return SECTION.sub(lambda section: SHARED.sub(_apart, section[0]), docstring)


def _apart(shared: re.Match[str]) -> str:
    text = shared[2].rstrip()
    return "".join(f"{name}\n{text}\n" for name in shared[1].split(", ")) + shared[2][len(text) :].removeprefix("\n")
