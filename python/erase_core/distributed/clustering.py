"""A fitted model whose rows lie in shards: the coordinator, the shards, and the updates of both.

An update that is interrupted, because a worker was lost or the caller pressed Ctrl-C, is whole or absent. A removal is
noted before the shards change, and done again from the beginning by the next call. Until the shards have settled, parts
that came in are taken out again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from erase_core._core import Coordinator, UpdateReport, merge_parts, read_part
from erase_core.distributed import arguments
from erase_core.distributed.duplicates import check_added, check_all
from erase_core.distributed.holder import Id
from erase_core.distributed.parts import Columns, Ids, Part
from erase_core.distributed.saving import Folder, State, described, hashes_of
from erase_core.distributed.shards import Shards, names
from erase_core.errors import IdKindError, ModelFileError, ParameterError, PartError

__all__ = ["Clustering"]

NOTHING = ". Nothing was removed."


class Clustering:
    """A coordinator and its shards.

    Parameters
    ----------
    coordinator : Coordinator
        Not fitted.
    shards : Shards
        Without rows.

    Attributes
    ----------
    folder : Folder or None
        What is kept up to date.
    """

    def __init__(self, coordinator: Coordinator, shards: Shards) -> None:
        self._coordinator = coordinator
        self._shards = shards
        self._n_features = coordinator.params()["n_features"]
        # A removal that has begun.
        self._pending: Ids | None = None
        # Whether parts come in; and then how many rows the model has with them, and the shards' parts of it.
        self._is_adding = False
        self._coming: tuple[int, list[bytes | None]] | None = None
        # Whether the holders know that what came in belongs to the model.
        self._is_settled = True
        self.folder: Folder | None = None
        # What the folder has of the shards, whether that is all, and what it has besides.
        self._noted: dict[str, Any] = {}
        self._is_noted = True
        self._saved_with: tuple[Columns, tuple[int | None, int | None]] = (("", ""), (None, None))
        shards.open(coordinator.parameters(), self._n_features)

    # ---- a fit ----
    def fit(self, parts: Sequence[Part], firsts: Sequence[int | None], at_least: int) -> None:
        """Fit to the rows of parts. After an error, the object is of no use."""
        shards = self._shards
        shards.stage(parts, firsts)
        shards.load()
        n_rows = sum(each.n_rows for each in shards.loaded if each is not None)
        if n_rows < at_least:
            raise ParameterError(f"n_samples={n_rows} should be >= n_clusters={at_least}")
        check_all(shards, n_rows)
        self._fit()
        shards.start_hashing()
        shards.forget_arrays()

    def _fit(self) -> None:
        """Fit to the rows that the shards have: the first pass is over places, the second assigns the rows."""
        coordinator, shards = self._coordinator, self._shards
        answers = shards.ask("smallest", coordinator.params()["panel"])
        parts = [part for _, part in answers]
        coordinator.fit([candidates for candidates, _ in answers], merge_parts(parts))
        shards.settle(parts)
        self._assign()
        shards.ask("settle")

    def _assign(self) -> None:
        """Let all shards assign their rows to the coordinator's centres, and complete the model with their parts."""
        shards = self._shards
        shards.frame = self._coordinator.frame_message()
        parts = shards.ask("assign", shards.frame)
        self._coordinator.complete(merge_parts(parts))
        shards.settle(parts)

    # ---- updates ----
    def settled(self) -> tuple[Coordinator, Shards]:
        """Return coordinator and shards. An update that was interrupted is undone or completed first."""
        if not self._shards.records:
            raise ParameterError("the model is closed. Fit again, or resume it from its folder.")
        if self._is_adding or self._pending is not None or not (self._coordinator.is_complete and self._is_settled):
            if self._is_adding:
                self._end_addition()
            if self._pending is not None:
                self._remove_pending(again=True)
            if not self._coordinator.is_complete:
                self._assign()
            self._settle()
            self._note_anew()
        return self._coordinator, self._shards

    def hashed(self) -> tuple[Coordinator, Shards]:
        """Return coordinator and shards with the hashes of all rows. After a fit, this waits for them."""
        coordinator, shards = self.settled()
        if shards.is_hashing:
            parts = shards.hashes()
            coordinator.complete(merge_parts(parts))
            shards.settle(parts)
            shards.is_hashing = False
        return coordinator, shards

    def _ready(self) -> tuple[Coordinator, Shards]:
        """Return coordinator and shards for an update, once the folder has all that was before it."""
        coordinator, shards = self.hashed()
        self._note_anew()
        if self.folder is not None:
            self.folder.check()
        return coordinator, shards

    def add(self, parts: Sequence[Part]) -> UpdateReport:
        """Add the rows of parts, or nothing."""
        coordinator, shards = self._ready()
        measured = shards.measure(parts)
        firsts = arguments.numbering(measured, parts, self._next_id)
        n_parts = len(shards.parts)
        with self._addition():
            shards.stage(parts, firsts)
            shards.load()
            check_added(shards)
            changes = shards.ask("change", [], coordinator.mark(), 0, False)
            candidates = [message for change in changes for message in change.candidates]
            total = shards.merged(changes)
            self._coming = read_part(total)["n_rows"], [change.part for change in changes]
            report, moved = coordinator.exchange([], candidates, total)
        try:
            if moved:
                self._assign()
            self._settle()
        finally:
            shards.forget_arrays()
        self._note_done(described(shards, n_parts))
        return report

    @contextmanager
    def _addition(self) -> Iterator[None]:
        self._is_adding, self._coming = True, None
        try:
            yield
        finally:
            self._end_addition()

    def _end_addition(self) -> None:
        """Keep what came in if the coordinator has taken it in, even if it was interrupted then. Else take it out."""
        if self._coming is not None and self._coordinator.n_rows == self._coming[0]:
            self._is_settled = self._is_noted = False
            self._shards.settle(self._coming[1])
        else:
            self._shards.undo()
        self._is_adding = False

    def _settle(self) -> None:
        """Tell the holders that what came in belongs to the model: a later `undo` must not take it out."""
        if not self._is_settled:
            self._shards.ask("settle")
            self._is_settled = True
            self._shards.forget_arrays()

    def _next_id(self) -> int:
        largest = [each for each in self._shards.ask("largest") if each is not None]
        if not largest and self._coordinator.n_rows:
            raise IdKindError("the rows have no ids. Give ids, since those of the model are strings.")
        return max(largest, default=-1) + 1

    def remove(self, ids: list[Id]) -> UpdateReport:
        """Remove rows by distinct ids, all or none."""
        coordinator, shards = self._ready()
        which, n_before = self.of_kind(ids), coordinator.n_rows
        on_panel = set(coordinator.on_panel(which)) if which else set()
        unsure = [id_ for id_ in which if id_ not in on_panel]
        if len(which) > 1 and unsure:
            arguments.check_known(unsure, np.any(shards.ask("has", unsure), axis=0), NOTHING)
        self._is_noted = False
        self._note({"remove": which})
        self._pending = which
        report = self._remove_pending(again=False)
        if coordinator.n_rows == n_before and which:
            self._note({"undo": True})
            self._is_noted = True
            arguments.check_known(which, [False], NOTHING)
        self._note_done()
        return report

    def defer(self, ids: list[Id]) -> None:
        """Note a removal that cannot be made, because rows are lost. It is made once they are there again."""
        which = [*dict.fromkeys([*(self._pending or ()), *self.of_kind(ids)])]
        self._is_noted = False
        self._pending = cast("Ids", which)
        self._note({"remove": which})

    def _remove_pending(self, *, again: bool) -> UpdateReport:
        """Do, or do once more, what `_pending` says. Nothing but this can follow a removal that was interrupted."""
        coordinator, shards, which = self._coordinator, self._shards, cast("Ids", self._pending)
        on_panel = coordinator.on_panel(which)
        changes = shards.ask("change", which, coordinator.mark(), len(on_panel), again)
        candidates = [message for change in changes for message in change.candidates]
        report, moved = coordinator.exchange(which, candidates, shards.merged(changes))
        removed = which if again else [id_ for change in changes for id_ in change.removed]
        shards.settle([change.part for change in changes], removed)
        self._pending = None
        if moved:
            self._assign()
        return report

    def of_kind(self, ids: list[Id]) -> Ids:
        """Return ids, if they are of the model's kind.

        Raises
        ------
        IdKindError
        """
        strings = isinstance(self._coordinator.panel_ids(), list)
        for id_ in ids:
            if isinstance(id_, str) != strings and self._coordinator.n_rows:
                have, got = ("strings", "an integer") if strings else ("integers", "a string")
                raise IdKindError(f"the ids of the model are {have}, got {got}: {id_!r}")
        return cast("Ids", ids)

    # ---- shards ----
    def close(self) -> None:
        """End the shards."""
        self._shards.close()

    def restore(self, parts: Sequence[Part]) -> None:
        """Take rows again that were lost."""
        shards = self._shards
        lost = shards.lost()
        missing = sorted(n for record in lost for n in record.numbers if not shards.parts[n].rereadable)
        given = arguments.matched(missing, [shards.parts[n] for n in missing], parts)
        for record in lost:
            shards.recover(record, given)
        self.settled()

    def redistribute(self, count: int) -> None:
        """Read all parts again, into so many shards."""
        coordinator, shards = self.hashed()
        if fixed := [part for part in shards.parts if not part.rereadable]:
            raise PartError(f"{names(fixed)}: rows that were given as arrays cannot be read again. Fit again.")
        after = shards.again(count)
        try:
            after.load()
            parts = after.assigned(coordinator.frame_message())
            after.check_equal(shards, parts)
        except BaseException:
            after.close()
            raise
        after.settle(parts)
        after.ask("settle")
        self._shards = after
        shards.close()

    # ---- the folder ----
    def save(self, folder: Path, columns: Columns, limits: tuple[int | None, int | None]) -> None:
        """Write the state into a folder, which is kept up to date from here on."""
        self.hashed()
        self._write(Folder(folder), columns, limits)

    def _write(self, folder: Folder, columns: Columns, limits: tuple[int | None, int | None]) -> None:
        self._is_noted = False
        folder.write(State.of(self._coordinator, self._shards, columns, limits).as_json())
        self.folder, self._noted, self._saved_with = folder, hashes_of(self._shards), (columns, limits)
        self._is_noted = True

    def _note_anew(self) -> None:
        """Write the state as a whole, if the folder does not have the last update because it was interrupted."""
        if self.folder is not None and not self._is_noted:
            self._write(self.folder, *self._saved_with)

    def take_up(self, state: State, parts: Sequence[Part]) -> None:
        """Make a saved model again. After an error, the object is of no use."""
        given = arguments.matched(*state.missing(), parts)
        state.fill(self._shards, given)
        self._shards.take_up(state.shards, given)
        self._fit()
        if self._coordinator.digest() != state.digest:
            raise ModelFileError("the model has another digest than the one that was saved")
        self._pending = state.interrupted
        self.settled()

    def _note(self, line: Mapping[str, Any]) -> None:
        if self.folder is not None:
            self.folder.append(line)

    def _note_done(self, added: Iterable[Mapping[str, Any]] = ()) -> None:
        """Note an update that is complete: parts that came in, the shards that changed, and the digest."""
        if self.folder is not None:
            shards = hashes_of(self._shards)
            changed = {at: each for at, each in shards.items() if self._noted.get(at) != each}
            self._note({"done": changed, "digest": self._coordinator.digest(), "add": [*added]})
            self._noted = shards
        self._is_noted = True
