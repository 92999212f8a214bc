"""What the documentation of the package itself claims: worked examples run, and the tree of errors is the real one."""

from __future__ import annotations

import builtins
import doctest
import importlib
import re

import erase_core
import pytest
from erase_core import errors
from small_models import needs_packaged

ENTRY = re.compile(r"^ *((?:\|   )*)[|`]-- (\w+)(?: \((\w+)\))?  +\S")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("erase_core", marks=needs_packaged),
        pytest.param("erase_core.erasure_report.contents", marks=needs_packaged),
        "erase_core.kmeans",
        "erase_core.llm.prompt",
        "erase_core.scan.folder",
    ],
)
def test_worked_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_tree_of_errors_is_complete_and_true() -> None:
    """Each class is drawn once, below its base class, with the builtin class that it also is."""
    drawn: dict[str, tuple[str, str | None]] = {}
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if line.strip() in ("EraseError", "UserWarning"):
            above = {0: line.strip()}
        elif match := ENTRY.match(line):
            depth = len(match[1]) // 4 + 1
            assert match[2] not in drawn
            drawn[match[2]] = above[depth - 1], match[3]
            above[depth] = match[2]
    assert drawn.keys() | {"EraseError"} == set(errors.__all__)
    for name, (base, builtin) in drawn.items():
        bases = [each.__name__ for each in getattr(errors, name).__bases__]
        assert bases == [base, *([builtin] if builtin else [])]
        assert builtin is None or hasattr(builtins, builtin)


def test_errors_are_importable_from_the_package() -> None:
    assert set(errors.__all__) <= set(erase_core.__all__)
