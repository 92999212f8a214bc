"""The shards of a model: which parts are where, calls to all of them, and new holders for those that are lost.

A shard's last part of the model (`Record.part`) has the hash of its rows. A holder that takes the place of a lost one
reads the same parts again, leaves out what was removed since, and is accepted only if it has the same hash.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from erase_core._core import __version__, merge_parts, read_part
from erase_core.distributed.engines.protocol import Call, Engine, Lost, Place
from erase_core.distributed.holder import Change, Id, Loaded
from erase_core.distributed.parts import ArrayPart, Measure, Part
from erase_core.errors import MissingPackageError, PartError, WorkerLostError

__all__ = ["Record", "Saved", "Shards", "names"]

# How often a holder is started anew in one call, and how many messages with rows are on their way to one holder.
TRIES, AHEAD = 3, 4


@dataclass(eq=False)
class Record:
    """A shard.

    Attributes
    ----------
    place : Place
        Its holder.
    numbers, staged : list of int
        Its parts by number: those that belong to the model, and those that are being added.
    part : bytes or None
        Its last part of the model.
    """

    place: Place
    numbers: list[int] = field(default_factory=list)
    staged: list[int] = field(default_factory=list)
    part: bytes | None = None

    @property
    def row_hash(self) -> bytes | None:
        """The hash of its rows, as 32 bytes, if it is known."""
        return None if self.part is None else hash_of(self.part)


class Saved(NamedTuple):
    """What is saved of a shard: the numbers of its parts, and the hash of its rows."""

    numbers: list[int]
    row_hash: bytes


def hash_of(part: bytes) -> bytes | None:
    """Return the hash of the rows of a part of the model, as 32 bytes, if the part has it."""
    row_hash = read_part(part)["row_hash"]
    return None if row_hash is None else hashlib.sha256(row_hash).digest()


def _figures(part: bytes) -> tuple[Any, ...]:
    """Return what a part says of its rows, besides their hash."""
    content = read_part(part)
    counts = content["counts"]
    return content["n_rows"], content["loss"], content["nearest"], None if counts is None else counts.tolist()


class Shards:
    """All shards of a model.

    Attributes
    ----------
    parts : list of Part
        All parts, by number.
    firsts : list of int or None
        The number of the first row of each part without ids.
    loaded : list of Loaded or None
        What each part had when it was first read.
    gone : dict
        Ids that were removed, with the number of the next part at the time: earlier parts may still have them.
    frame : bytes or None
        The centres to which the rows are assigned.
    """

    def __init__(self, engine: Engine, count: int, n_threads: int | None, cache_bytes: int | None) -> None:
        self.engine = engine
        self._limits = n_threads, cache_bytes
        self.parts: list[Part] = []
        self.firsts: list[int | None] = []
        self.loaded: list[Loaded | None] = []
        self.gone: dict[Id, int] = {}
        self.frame: bytes | None = None
        self._parameters = b""
        self._hashing: list[Call] = []
        self._n_features = 0
        # Whether the rows are being hashed: their parts have no hash until `hashes` has returned it.
        self.is_hashing = False
        try:
            self.records = [Record(place) for place in engine.start(count)]
        except Lost as error:
            raise _no_worker(error) from None

    def close(self) -> None:
        """End all holders."""
        for record in self.records:
            self.engine.stop(record.place)
        self.records = []

    def open(self, parameters: bytes, n_features: int) -> None:
        """Say what rows will come."""
        self._parameters, self._n_features = parameters, n_features
        for record in self.records:
            try:
                self._open(record.place)
            except Lost:
                self.recover(record)

    def _open(self, place: Place) -> None:
        n_threads, cache_bytes = self._limits
        limits = place.threads if n_threads is None else n_threads, cache_bytes
        version = self.engine.gather([self.engine.call(place, "open", self._parameters, self._n_features, limits)])[0]
        if version != __version__:
            raise MissingPackageError(
                f"worker {place.name} has erase-core {version}, and this process has {__version__}. Install "
                f"erase-core=={__version__} there."
            )

    # ---- calls ----
    def ask(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every holder, and return what they return. Lost ones are replaced, and called again.

        Raises
        ------
        WorkerLostError, PartError
            A holder is lost and cannot be replaced.
        """
        return self._ask([(record, method, arguments) for record in self.records])

    def _ask(self, requests: Sequence[tuple[Record, str, tuple[Any, ...]]]) -> list[Any]:
        call = self.engine.call
        outcomes = self.engine.outcomes([call(record.place, method, *given) for record, method, given in requests])
        for at, (record, method, given) in enumerate(requests):
            for _ in range(TRIES):
                if not isinstance(outcomes[at], Lost):
                    break
                if outcomes[at].place is record.place:  # it was not replaced for an earlier request
                    self.recover(record)
                outcomes[at] = self.engine.outcomes([call(record.place, method, *given)])[0]
        for outcome in outcomes:
            if isinstance(outcome, Lost):
                raise _no_worker(outcome)
            if isinstance(outcome, Exception):
                raise outcome
        return outcomes

    def start_hashing(self) -> None:
        """Let the holders hash their rows, without waiting."""
        # Other calls may come before the replies are read, so these must be short.
        self._hashing = [self.engine.call(record.place, "hash") for record in self.records]
        self.is_hashing = True

    def hashes(self) -> list[bytes]:
        """Wait for `start_hashing`, and return the parts with hashes."""
        self.engine.outcomes(self._hashing)
        return self.ask("hashed")  # at once, but for a holder that was lost

    def assigned(self, frame: bytes) -> list[bytes]:
        """Return the parts with hashes, of rows that are assigned to centres, even if a holder is lost meanwhile."""
        self.frame = frame
        for _ in range(TRIES):
            self.ask("hashed")
            parts = self.ask("assign", frame)
            if all(hash_of(part) is not None for part in parts):
                break
        return parts

    def lost(self) -> list[Record]:
        """Return the shards whose holders are lost."""
        outcomes = self.engine.outcomes([self.engine.call(each.place, "ping") for each in self.records])
        return [record for record, outcome in zip(self.records, outcomes, strict=True) if isinstance(outcome, Lost)]

    def measure(self, parts: Sequence[Part]) -> list[Measure]:
        """Measure parts where they can be read, and note how many rows they have."""
        places = itertools.cycle(self.records)
        answers = iter(self._ask([(next(places), "measure", (part,)) for part in parts if _is_elsewhere(part)]))
        measured: list[Measure] = [next(answers) if _is_elsewhere(part) else part.measure() for part in parts]
        for part, measure in zip(parts, measured, strict=True):
            part.n_rows = measure.n_rows
        return measured

    # ---- parts that come in ----
    def stage(self, parts: Iterable[Part], firsts: Iterable[int | None]) -> None:
        """Give parts to the shards with the fewest parts. They belong to the model from `settle` on."""
        for part, first in zip(parts, firsts, strict=True):
            number = len(self.parts)
            if isinstance(part, ArrayPart):
                part.name = f"part {number}, an array"
            record = min(self.records, key=lambda each: len(each.numbers) + len(each.staged))
            record.staged.append(number)
            self.parts.append(part)
            self.firsts.append(first)
            self.loaded.append(None)

    def load(self) -> None:
        """Let the holders read what was staged.

        Raises
        ------
        PartError, DataError, DuplicateIdError, IdKindError
            A part is invalid. Call `undo`.
        WorkerLostError
        """
        records = [record for record in self.records if record.staged]
        errors = self._load({record.place: record.staged for record in records}, self.gone)
        for record in records:
            if isinstance(errors.get(record.place), Lost):
                self.recover(record)
        self._check({place: error for place, error in errors.items() if not isinstance(error, Lost)})

    def take_up(self, saved: Sequence[Saved], given: Mapping[int, Part]) -> None:
        """Load the parts of a saved model, each in the shard in which it was.

        Raises
        ------
        PartError
            A shard does not have the rows that it had. The message names the parts.
        """
        for record, shard in zip(self.records, saved, strict=True):
            record.numbers = [*shard.numbers]
        errors = self._load({record.place: record.numbers for record in self.records}, self.gone, given)
        self._check({place: error for place, error in errors.items() if not isinstance(error, Lost)})
        for record, shard in zip(self.records, saved, strict=True):
            lost = errors.get(record.place)
            for _ in range(TRIES):
                try:
                    if lost is not None:
                        self._start_anew(record)
                        self._check(self._load({record.place: record.numbers}, self.gone, given))
                    self._accept(record, shard)
                    break
                except Lost as error:
                    lost = error
            else:
                raise _no_worker(lost)

    def _start_anew(self, record: Record) -> None:
        self.engine.stop(record.place)
        record.place = self.engine.start(1)[0]
        self._open(record.place)

    def _accept(self, record: Record, shard: Saved) -> None:
        """Check that a holder has the rows of a shard that was saved."""
        record.part = self.engine.gather([self.engine.call(record.place, "hashed")])[0]
        if record.row_hash != shard.row_hash:
            raise self._changed(record.place, record)
        self.engine.gather([self.engine.call(record.place, "settle")])

    def _load(
        self, plan: Mapping[Place, list[int]], gone: Mapping[Id, int], given: Mapping[int, Part] | None = None
    ) -> dict[Place, Exception]:
        """Load parts by number at several places at once, and return the first error at each place."""
        call, outcomes = self.engine.call, self.engine.outcomes
        errors: dict[Place, Exception] = {}

        def note(places: list[Place], results: list[Any], numbers: list[int | None]) -> None:
            for place, result, number in zip(places, results, numbers, strict=True):
                if isinstance(result, Exception):
                    errors.setdefault(place, result)
                elif number is not None:
                    self.loaded[number] = self.loaded[number] or result

        expected = {place: sum(self.parts[number].n_rows for number in numbers) for place, numbers in plan.items()}
        note([*plan], outcomes([call(place, "begin", gone, expected[place]) for place in plan]), [None] * len(plan))
        pairs = [(place, number) for place, numbers in plan.items() for number in numbers]
        read = [(place, number) for place, number in pairs if self.parts[number].rereadable]
        reading = [call(place, "load", number, self.parts[number], self.firsts[number]) for place, number in read]
        for place, number in pairs:
            if not self.parts[number].rereadable and place not in errors:
                part = (given or {}).get(number, self.parts[number])
                note([place], [self._send(place, number, part)], [number])
        note([place for place, _ in read], outcomes(reading), [number for _, number in read])
        return errors

    def _send(self, place: Place, number: int, part: Part) -> Loaded | Exception:
        """Send rows that are in this process."""
        loaded: list[Loaded] = []
        calls: list[Call] = []
        for ids, rows in part.read(self.firsts[number]):
            calls.append(self.engine.call(place, "take", number, part.name, ids, rows))
            if len(calls) == AHEAD:
                loaded += self.engine.outcomes(calls)
                calls = []
        loaded += self.engine.outcomes(calls)
        for each in loaded:
            if isinstance(each, Exception):
                return each
        ints = [each for each in loaded if each.least is not None]
        return Loaded(
            sum(each.n_rows for each in loaded),
            b"",  # it cannot be read again, to be compared
            min((each.least for each in ints if each.least is not None), default=None),
            max((each.largest for each in ints if each.largest is not None), default=None),
        )

    def undo(self) -> None:
        """Take out what was staged. A holder that is lost is replaced at the next call, without it."""
        for record in self.records:
            record.staged = []
        self.engine.outcomes([self.engine.call(each.place, "undo", self.frame) for each in self.records])
        n_parts = sum(len(record.numbers) for record in self.records)
        for each in (self.parts, self.firsts, self.loaded):
            del each[n_parts:]

    def settle(self, parts: Iterable[bytes | None], removed: Iterable[Id] = ()) -> None:
        """Note what the rows are from here on: of each shard its part of the model, if it changed; and ids removed."""
        for record, part in zip(self.records, parts, strict=True):
            record.part = part or record.part
            record.numbers, record.staged = record.numbers + record.staged, []
        self.gone.update(dict.fromkeys(removed, len(self.parts)))

    def forget_arrays(self) -> None:
        """Drop rows that were given as arrays. From here on they are with their holders only."""
        for number, each in enumerate(self.parts):
            if isinstance(each, ArrayPart):
                self.parts[number] = each.emptied()

    def merged(self, changes: Iterable[Change]) -> bytes:
        """Return the part of the model of all rows, after changes that are not settled."""
        return merge_parts(
            [each.part or record.part or b"" for record, each in zip(self.records, changes, strict=True)]
        )

    # ---- all shards ----
    def rows_of(self, record: Record, step: int) -> list[bytes]:
        """Return all rows of a shard, as messages."""
        n_rows = 0 if record.part is None else read_part(record.part)["n_rows"]
        while True:
            place = record.place
            messages = [self._ask([(record, "rows", (at, at + step))])[0] for at in range(0, n_rows, step)]
            if record.place is place:  # another holder has the rows at other positions
                return messages

    def again(self, count: int) -> Shards:
        """Return so many shards without rows, to which all parts are given again."""
        after = Shards(self.engine, count, *self._limits)
        after.open(self._parameters, self._n_features)
        # Not before: a holder that is replaced reads what is staged.
        after.stage(self.parts, self.firsts)
        after.loaded, after.gone = [*self.loaded], dict(self.gone)
        return after

    def check_equal(self, before: Shards, parts: Sequence[bytes]) -> None:
        """Check that these shards, with these parts of the model, have the rows that others have.

        Raises
        ------
        PartError
        """
        if hash_of(merge_parts([*parts])) != hash_of(merge_parts([each.part or b"" for each in before.records])):
            for record in self.records:
                record.numbers, record.staged = record.staged, []
            every = Record(self.records[0].place, [*range(len(self.parts))])
            raise self._changed(every.place, every)

    # ---- holders that are lost ----
    def recover(self, record: Record, given: Mapping[int, Part] | None = None) -> None:
        """Start a new holder for a shard, which reads the shard's parts again.

        Parameters
        ----------
        record : Record
        given : mapping of int to Part
            Rows of parts that cannot be read again.

        Raises
        ------
        WorkerLostError
            There are parts that cannot be read again, or no worker.
        PartError
            The rows are not those that the shard had.
        """
        missing = [n for n in record.numbers if not self.parts[n].is_here and n not in (given or {})]
        if missing:
            raise WorkerLostError(
                f"worker {record.place.name} is lost, with the rows of {names(self.parts[n] for n in missing)}, which "
                "cannot be read again. Call restore(parts) with the same arrays."
            )
        for _ in range(TRIES):
            place = None
            try:
                # An engine may not know yet that a worker is gone, and start the holder there.
                place = self.engine.start(1)[0]
                self._fill(place, record, given)
            except BaseException as error:
                if place is not None:
                    self.engine.stop(place)
                if not isinstance(error, Lost):
                    raise
                lost = error
            else:
                self.engine.stop(record.place)
                record.place = place
                return
        raise _no_worker(lost)

    def _fill(self, place: Place, record: Record, given: Mapping[int, Part] | None) -> None:
        if not self._parameters:
            return
        self._open(place)
        if record.numbers:
            self._check(self._load({place: record.numbers}, self.gone, given))
            if not self._is_same(place, record):
                raise self._changed(place, record)
            self.engine.gather([self.engine.call(place, "settle")])
        elif record.part is not None:
            self._is_same(place, record)
        if record.staged:
            self._check(self._load({place: record.staged}, self.gone))

    @staticmethod
    def _check(errors: Mapping[Place, Exception]) -> None:
        for error in errors.values():
            raise error

    def _is_same(self, place: Place, record: Record) -> bool:
        """Assign rows that were read again, and return whether they are those of the shard.

        Before the rows of a new model are hashed, they are compared by counts, loss and exemplars.
        """
        call, gather = self.engine.call, self.engine.gather
        if (before := record.row_hash) is not None and hash_of(gather([call(place, "hashed")])[0]) != before:
            return False
        part = gather([call(place, "part", 1) if self.frame is None else call(place, "assign", self.frame)])[0]
        assert record.part is not None
        wanted, found = _figures(record.part), _figures(part)
        # A part that has not been assigned yet has its number of rows only.
        return before is not None or (found == wanted if wanted[1] is not None else found[0] == wanted[0])

    def _changed(self, place: Place, record: Record) -> PartError:
        """Return the error that names the parts whose rows are not those that they had."""
        suspects = []
        for number in record.numbers:
            part, before = self.parts[number], self.loaded[number]
            if not part.rereadable or before is None or not before.row_hash:
                suspects.append(part)
                continue
            now = self.engine.outcomes([self.engine.call(place, "hash_of", part, self.firsts[number])])[0]
            if isinstance(now, PartError):
                return now
            if now != before.row_hash:
                suspects.append(part)
        return PartError(
            f"the rows of {names(suspects)} are not those that the model had. Restore what was changed, or fit again."
        )


def names(parts: Iterable[Part]) -> str:
    """Return the names of some parts, the first few of many."""
    every = [part.name for part in parts]
    return ", ".join(every[:3]) + (f" and {len(every) - 3} more" if len(every) > 3 else "")


def _is_elsewhere(part: Part) -> bool:
    return not isinstance(part, ArrayPart)


def _no_worker(error: Any) -> WorkerLostError:
    return WorkerLostError(
        f"worker {error.place.name} is lost, and no other takes its place. Start workers, and repeat."
    )
