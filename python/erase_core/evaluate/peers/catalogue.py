"""All peers, and how users name them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from erase_core.errors import MissingPackageError, ParameterError
from erase_core.evaluate.peers.peer import Entry, Exactness, Kind

__all__ = ["GROUPS", "MODULES", "all_peers", "check_packages", "lines_of", "peers_named"]

# Each has a list PEERS. The order is that of all tables.
MODULES = ("prompts", "classifiers", "retraining", "sisa", "s3t", "approximate", "ranker", "sauce", "miras")
GROUPS = ("all", *get_args(Exactness), *get_args(Kind))
# What peers are made of, by the name of the package that is imported.
NEEDED = ("torch", "transformers", "sentence_transformers", "peft", "matplotlib", "scipy")


def check_packages() -> None:
    """Check that the packages of the evaluation are installed.

    Raises
    ------
    MissingPackageError
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"an evaluation needs {', '.join(missing)}. Run `pip install 'erase-core[llm,evaluate]'`."
        )


def _modules() -> Iterator[Any]:
    for name in MODULES:
        yield importlib.import_module(f"erase_core.evaluate.peers.{name}")


def all_peers() -> list[Entry]:
    """Return every peer, in the order of the tables."""
    return [entry for module in _modules() for entry in module.PEERS]


def peers_named(names: Sequence[str]) -> list[Entry]:
    """Return the peers of some names or groups, each once, in the order of the tables.

    A peer that starts from another's fitted state brings it along.

    Parameters
    ----------
    names : sequence of str
        Names of peers, or of groups: ``"all"``, ``"exact"`` and the other kinds of exactness, ``"prompt"`` and the
        other kinds of peers.

    Raises
    ------
    ParameterError
        A name is unknown, or there is none. The message has the list.
    """
    every = all_peers()
    known = {entry.name for entry in every}
    unknown = [name for name in names if name not in known and name not in GROUPS]
    if unknown or not names:
        said = f"no peer {unknown[0]!r}" if unknown else "no peer is named"
        raise ParameterError(
            f"{said}. There are {', '.join(entry.name for entry in every)}; and the groups {', '.join(GROUPS)}."
        )
    wanted = {e.name for e in every if {"all", e.name, e.exactness, e.kind}.intersection(names)}
    wanted |= {e.after for e in every if e.name in wanted and e.after is not None}
    return [entry for entry in every if entry.name in wanted]


def lines_of(entry: Entry) -> int:
    """Return the lines of code of the module that has a peer: several peers of one module share them."""
    module = next(m for m in _modules() if any(each.name == entry.name for each in m.PEERS))
    parts = [sys.modules[name] for name in sorted(sys.modules) if name.startswith(f"{module.__name__}.")]
    module = next((m for m in parts if any(each.name == entry.name for each in getattr(m, "PEERS", ()))), module)
    return lines_of_code(Path(str(module.__file__)))


def lines_of_code(file: Path) -> int:
    """Return the number of lines of a file that are neither blank nor a comment nor part of a docstring."""
    import ast

    text = file.read_text(encoding="utf-8")
    lines = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.stmt, ast.expr))
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    kept = text.splitlines()
    return sum(1 for line in lines if kept[line - 1].strip() and not kept[line - 1].lstrip().startswith("#"))
