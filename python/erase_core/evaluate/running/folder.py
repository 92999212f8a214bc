"""The folder of an evaluation: a file for each finished cell, and what they were measured with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from erase_core.errors import ParameterError
from erase_core.evaluate.running.plan import Cell, Record
from erase_core.fs.durable import write_over

__all__ = ["Folder"]


class Folder:
    """Cells that were measured, each written durably, so that a run can be stopped at any time.

    Parameters
    ----------
    path : Path
        Made by `begin`. `checkpoints` in it has weights that were trained on the examples: delete it with them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def cells(self) -> Path:
        """Where the files of cells are."""
        return self.path / "cells"

    @property
    def checkpoints(self) -> Path:
        """Where trained adapters are kept."""
        return self.path / "checkpoints"

    def begin(self, setting: Mapping[str, Any]) -> None:
        """Note what cells are measured with, or check that it is what the finished cells were measured with.

        Raises
        ------
        ParameterError
            It is not. Nothing was changed.
        """
        file = self.path / "setting.json"
        wanted = json.loads(json.dumps(setting))
        if not file.exists():
            self.cells.mkdir(parents=True, exist_ok=True)
            write_over(file, json.dumps(wanted, indent=1).encode())
            return
        found = self.setting()
        for name in sorted(found.keys() | wanted.keys()):
            if found.get(name) != wanted.get(name):
                raise ParameterError(
                    f"{self.path} has an evaluation with another {name}: {_short(found.get(name))} there, "
                    f"{_short(wanted.get(name))} here. Give another folder with --out, or delete this one."
                )

    def setting(self) -> dict[str, Any]:
        """Return what the cells were measured with.

        Raises
        ------
        ParameterError
            There is no evaluation.
        """
        file = self.path / "setting.json"
        if not file.exists():
            raise ParameterError(f"{self.path} has no evaluation. Run `erase evaluate` with this folder first.")
        return _object(file)

    def read(self, cell: Cell) -> Record | None:
        """Return what was measured of a cell; None if it is not finished."""
        file = self.cells / f"{cell.name}.json"
        return _object(file) if file.exists() else None

    def write(self, cell: Cell, record: Record) -> None:
        """Write what was measured of a cell, durably."""
        write_over(self.cells / f"{cell.name}.json", json.dumps(record, separators=(",", ":")).encode())

    def records(self) -> list[Record]:
        """Return all finished cells, in the order of their names."""
        return [_object(file) for file in sorted(self.cells.glob("*.json"))]


def _object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ParameterError(f"{file} is not a file of this evaluation. Delete it, and run the command again.")
    return value


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
