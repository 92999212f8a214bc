"""The folder of a model: its settings, its parts, ids that were removed, and hashes. It has no rows.

``model.json`` is written as a whole. Every update appends to ``journal.jsonl``: a removal before the shards change, and
every update when it is complete, with the hashes that the shards have. So a removal that was interrupted is known.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from erase_core._core import Coordinator
from erase_core.distributed.holder import Id, Loaded
from erase_core.distributed.parts import ArrayPart, Columns, FilePart, Part
from erase_core.distributed.shards import Saved, Shards
from erase_core.errors import ModelFileError, first_line, os_reason
from erase_core.fs.durable import make_folder, sync, write_over

__all__ = ["Folder", "State", "described", "hashes_of"]

FORMAT = "erase-core distributed model, version 1"


class Folder:
    """Where a model is saved.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal = path / "journal.jsonl"
        # Of the state that this object has written.
        self._own: int | None = None

    def write(self, content: Mapping[str, Any]) -> None:
        """Write the state, and begin a new journal.

        Raises
        ------
        OSError
        ModelFileError
            Another model is kept there since this object wrote.
        """
        make_folder(self.path)
        # A journal belongs to the state with its number, so that neither can be mixed up with an older one.
        number = self._number() + 1
        if self._own is not None and number > 1:
            self._check_own(number - 1)
        write_over(self.path / "model.json", json.dumps({"format": FORMAT, "number": number, **content}).encode())
        write_over(self._journal, json.dumps({"number": number}).encode() + b"\n")
        self._own = number

    def check(self) -> None:
        """Check that no other model is kept there.

        Raises
        ------
        OSError, ModelFileError
        """
        with open(self._journal, "rb") as stream:
            self._check_own(json.loads(stream.readline())["number"])

    def append(self, line: Mapping[str, Any]) -> None:
        """Append a line to the journal, durably.

        Raises
        ------
        OSError
        ModelFileError
            As for `write`.
        """
        self.check()
        with open(self._journal, "ab") as stream:
            stream.write(json.dumps(line).encode() + b"\n")
            stream.flush()
            sync(stream.fileno())

    def read(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the state, and the lines of its journal. A last line that is not complete is left out.

        Raises
        ------
        ModelFileError
        """
        file = self.path / "model.json"
        try:
            state = json.loads(file.read_bytes())
            content = self._journal.read_bytes() if self._journal.exists() else b""
            whole, _, rest = content.rpartition(b"\n")
            if rest:  # a line that was being written, of an update that had not begun
                with open(self._journal, "r+b") as stream:
                    stream.truncate(len(whole) + 1)
                    sync(stream.fileno())
            lines = [json.loads(line) for line in whole.splitlines()]
        except OSError as error:
            raise ModelFileError(f"{file.parent} cannot be read: {os_reason(error)}") from None
        except ValueError as error:
            raise ModelFileError(f"{file.parent} is damaged: {first_line(error)}") from None
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ModelFileError(f"{file} is not a distributed model of this version")
        if not lines or lines[0].get("number") != state.get("number"):
            lines = lines[:1]  # the process ended after it had written the state
        return state, lines[1:]

    def _check_own(self, number: int) -> None:
        if number != self._own:
            raise ModelFileError(
                f"{self.path} is the folder of another model, which was resumed from it or saved there. Save this one "
                "to another folder, or close it."
            )

    def _number(self) -> int:
        try:
            return int(json.loads((self.path / "model.json").read_bytes())["number"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0


@dataclass
class State:
    """What a folder says of a model.

    Attributes
    ----------
    settings : dict
        As `Coordinator.params` returns them.
    limits : tuple
        `n_threads` and `cache_bytes`.
    columns : tuple of str
    parts : list of dict
    gone : list of tuple
        Ids that were removed, each with the number of the next part at the time.
    shards : list of Saved
    digest : str
    interrupted : list of int or str, or None
        The ids of a removal that was not completed.
    """

    settings: dict[str, Any]
    limits: tuple[int | None, int | None]
    columns: Columns
    parts: list[dict[str, Any]]
    gone: list[tuple[Id, int]]
    shards: list[Saved]
    digest: str
    interrupted: list[Any] | None = None

    # ---- writing ----
    @classmethod
    def of(
        cls, coordinator: Coordinator, shards: Shards, columns: Columns, limits: tuple[int | None, int | None]
    ) -> State:
        """Return the state of a model."""
        saved = [Saved(record.numbers, record.row_hash or b"") for record in shards.records]
        params = dict(coordinator.params())
        return cls(params, limits, columns, described(shards, 0), [*shards.gone.items()], saved, coordinator.digest())

    def as_json(self) -> dict[str, Any]:
        """Return the state without arrays and bytes. Floats are kept to the bit."""
        settings = {n: each.tolist() if isinstance(each, np.ndarray) else each for n, each in self.settings.items()}
        shards = [{"numbers": each.numbers, "hash": each.row_hash.hex()} for each in self.shards]
        return asdict(self) | {"settings": settings, "shards": shards}

    # ---- reading ----
    @classmethod
    def of_json(cls, content: Mapping[str, Any], journal: Iterable[Mapping[str, Any]]) -> State:
        """Return the state after all updates of a journal.

        Raises
        ------
        ModelFileError
        """
        try:
            state = cls._of_json(content)
            begun: Mapping[str, Any] = {}
            for line in journal:
                if "done" in line:
                    state._take(begun, line)
                begun = {} if {"done", "undo"} & line.keys() else line
            state.interrupted = begun.get("remove")
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ModelFileError(f"the saved model is damaged: {type(error).__name__}: {error}") from None
        return state

    @classmethod
    def _of_json(cls, content: Mapping[str, Any]) -> State:
        settings = dict(content["settings"])
        if isinstance(settings["projection"], list):
            settings["projection"] = np.array(settings["projection"], dtype=np.float64)
        settings |= {name: tuple(settings[name]) for name in ("epsilon", "gamma")}
        ids, vectors = content["columns"]
        n_threads, cache_bytes = content["limits"]
        shards = [Saved(each["numbers"], bytes.fromhex(each["hash"])) for each in content["shards"]]
        gone = [(id_, epoch) for id_, epoch in content["gone"]]
        return cls(
            settings, (n_threads, cache_bytes), (ids, vectors), [*content["parts"]], gone, shards, content["digest"]
        )

    def _take(self, begun: Mapping[str, Any], done: Mapping[str, Any]) -> None:
        """Apply an update that was completed."""
        self.parts += done["add"]
        self.gone += [(id_, len(self.parts)) for id_ in begun.get("remove", [])]
        for at, (numbers, row_hash) in done["done"].items():
            self.shards[int(at)] = Saved(numbers, bytes.fromhex(row_hash))
        self.digest = done["digest"]

    def fill(self, shards: Shards, given: Mapping[int, Part]) -> None:
        """Tell shards what parts there are. Of those that are given, the ones that can be read again are read there."""
        shards.parts = [self._part(each) for each in self.parts]
        for number, part in given.items():
            if part.rereadable:
                shards.parts[number] = part
        shards.firsts = [each["first"] for each in self.parts]
        hashes = [each["loaded"] for each in self.parts]
        shards.loaded = [Loaded(n_rows, bytes.fromhex(row_hash), None, None) for n_rows, row_hash in hashes]
        shards.gone = dict(self.gone)

    def missing(self) -> tuple[list[int], list[Part]]:
        """Return the parts that the caller must give again, and their numbers."""
        numbers = [number for number, each in enumerate(self.parts) if each["path"] is None]
        return numbers, [self._part(self.parts[number]) for number in numbers]

    @staticmethod
    def _part(content: Mapping[str, Any]) -> Part:
        if content["path"] is None:
            return ArrayPart(None, np.empty((0, 0)), content["name"], is_here=False)
        ids, vectors = content["columns"]
        return FilePart(Path(content["path"]), (ids, vectors))


def described(shards: Shards, start: int) -> list[dict[str, Any]]:
    """Return what is kept of the parts from a number on."""
    return [
        {
            "path": str(part.path) if isinstance(part, FilePart) else None,
            "columns": list(part.columns) if isinstance(part, FilePart) else None,
            "name": part.name,
            "first": first,
            "loaded": (loaded.n_rows, loaded.row_hash.hex()) if loaded is not None else (0, ""),
        }
        for part, first, loaded in [*zip(shards.parts, shards.firsts, shards.loaded, strict=True)][start:]
    ]


def hashes_of(shards: Shards) -> dict[str, Any]:
    """Return numbers of parts and hash of each shard, by position."""
    return {str(at): ([*each.numbers], (each.row_hash or b"").hex()) for at, each in enumerate(shards.records)}
