"""Runs an evaluation: measures all cells that are not in its folder yet, in this process or in several.

A run that is stopped, however it ends, goes on where it was when it is started again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from erase_core.errors import StoreLockedError
from erase_core.evaluate.peers.peer import Entry
from erase_core.evaluate.running.folder import Folder
from erase_core.evaluate.running.plan import Cell, Pace, Record, cells_of, entries_by_name, ready, seconds_of
from erase_core.evaluate.running.setup import Setup
from erase_core.evaluate.running.workers import Job, MakeSetup, Workers, measured_here
from erase_core.evaluate.tasks.task import Task, TaskReport
from erase_core.fs.locks import exclusive
from erase_core.libraries import torch_threads, version_of
from erase_core.progress import bar

__all__ = ["Run", "setting_of"]

# Of what is written of cells. It is counted up when older cells cannot be read any more.
FORMAT = 1
# Whose versions may change a figure.
PACKAGES = ("erase-core", "numpy", "peft", "scikit-learn", "sentence-transformers", "torch", "transformers")


def setting_of(setup: Setup, named: Mapping[str, str]) -> dict[str, Any]:
    """Return what all cells of a folder must have in common, by names that a user understands.

    Parameters
    ----------
    setup : Setup
    named : mapping of str to str
        How the page names the data (``data``) and the choice of the forget set (``forget``).
    """
    sizes = {
        name: value
        for name, value in asdict(setup.sizes).items()
        if name in ("retained", "removals", "trained_removals")
    }
    return {
        **named,
        "format": FORMAT,
        "language model": setup.llm.name,
        "embedding model": setup.embedder.name,
        "task": _digest(setup.task),
        "pool": len(setup.task.pool),
        "test": len(setup.task.test),
        "forget set": list(setup.forgotten),
        "options": len(setup.task.options),
        "near twins": _near_twins(setup.task.report or TaskReport(0)),
        "scale": [setup.task.scale.low, setup.task.scale.high],
        "labels": {name: setup.task.labels(part).tolist() for name, part in setup.parts.items()},
        "sizes": sizes,
        "tuned": setup.sizes.tune,
        "versions": {name: version_of(name) or "none" for name in PACKAGES},
    }


def _near_twins(report: TaskReport) -> dict[str, int]:
    return {
        "examples": report.n_twins,
        "groups": report.n_groups,
        "largest group": report.largest_group,
        "questions left out": report.n_left_out,
    }


def _digest(task: Task) -> str:
    """Return a hash of all texts of a task."""
    texts = [[(e.id, e.input, e.output) for e in part] for part in (task.pool, task.test)]
    return hashlib.sha256(repr((texts, task.options, task.template)).encode()).hexdigest()[:16]


class Run:
    """A run of some peers.

    Parameters
    ----------
    setup : Setup
        Of this process.
    entries : sequence of Entry
    folder : Folder
    named : mapping of str to str
        See `setting_of`.
    say : callable, optional
        Called with a line for each finished cell.
    """

    def __init__(
        self,
        setup: Setup,
        entries: Sequence[Entry],
        folder: Folder,
        named: Mapping[str, str],
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.setup, self.folder, self.say = setup, folder, say
        self.entries = entries_by_name(entries)
        self.setting = setting_of(setup, named)
        self.cells = cells_of(entries, setup.sizes)

    def measure(self, jobs: int = 1, make_setup: MakeSetup | None = None) -> None:
        """Measure what is missing.

        Parameters
        ----------
        jobs : int, default=1
            Processes. With one, cells are measured in this process.
        make_setup : callable, optional
            Loads the models in another process; needed with more than one.

        Raises
        ------
        ParameterError
            The folder has an evaluation of something else.
        StoreLockedError
            Another process runs in the folder.
        LLMError
            A process ended.
        """
        self.folder.path.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder.path, 0) as held:
            if not held:
                raise StoreLockedError(f"another process evaluates in {self.folder.path}. Wait for it, or end it.")
            self.folder.begin(self.setting)
            missing = [cell for cell in self.cells if not self._is_done(cell)]
            if not missing:
                self.say(f"all {len(self.cells)} cells are measured already")
                return
            n = min(jobs, len(missing)) if make_setup is not None else 1
            seconds = self._estimates(missing)
            self.say(_forecast(missing, self.cells, sum(seconds.values()) / n, n))
            # First seeds first, and of each seed the longest, so that no process is left with one at the end.
            missing.sort(key=lambda cell: (cell.seed, -seconds[cell]))
            steps = {cell: max(1, round(value)) for cell, value in seconds.items()}
            finished = self._here(missing) if n == 1 or make_setup is None else self._there(missing, n, make_setup)
            with bar("Evaluating", sum(steps.values())) as advance:
                for number, (cell, record) in enumerate(finished, 1):
                    self.folder.write(cell, record)
                    advance(steps[cell])
                    self.say(f"{number}/{len(missing)}: {cell}: {_outcome(record)}")

    def _is_done(self, cell: Cell) -> bool:
        """Whether a cell is measured. One that failed is measured again."""
        record = self.folder.read(cell)
        return record is not None and record["status"] == "measured"

    def _base(self, cell: Cell) -> Record | None:
        """Return the record of the peer that a peer starts from, if it was measured."""
        after = self.entries[cell.peer].after
        record = None if after is None else self.folder.read(Cell("peer", after, cell.seed))
        return record if record is not None and record["status"] == "measured" else None

    def _here(self, missing: Sequence[Cell]) -> Iterator[tuple[Cell, Record]]:
        left = list(missing)
        with torch_threads(1):
            while left:
                cell = _next(left, left, self.entries)
                yield measured_here(Job(cell, self._base(cell)), self.entries, self.setup)
                left.remove(cell)

    def _there(self, missing: Sequence[Cell], n: int, make_setup: MakeSetup) -> Iterator[tuple[Cell, Record]]:
        left, unfinished = list(missing), list(missing)
        workers = Workers(n, make_setup, tuple(self.entries))
        try:
            while unfinished:
                while left and workers.has_idle():
                    startable = [cell for cell in left if ready(cell, unfinished, self.entries)]
                    if not startable and workers.is_working():
                        break
                    cell = startable[0] if startable else left[0]
                    left.remove(cell)
                    workers.give(Job(cell, self._base(cell)))
                for cell, record in workers.wait():
                    yield cell, record
                    unfinished.remove(cell)
        finally:
            workers.end()

    def _estimates(self, missing: Sequence[Cell]) -> dict[Cell, float]:
        recorded: dict[str, list[float]] = {}
        for record in self.folder.records():
            if record["status"] == "measured":
                recorded.setdefault(f"{record['what']}-{record['peer']}", []).append(record["processor_seconds"])
        known = {name: sum(each) / len(each) for name, each in recorded.items()}
        unknown = [cell for cell in missing if f"{cell.what}-{cell.peer}" not in known]
        trained = any(self.entries[cell.peer].kind == "fine-tuning" for cell in unknown)
        pace = calibrated(self.setup, trained) if unknown else Pace(0.0, 0.0)
        n_asked = sum(len(part) for part in self.setup.parts.values())
        estimate = partial(seconds_of, pace=pace, n_pool=len(self.setup.task.pool), n_questions=n_asked)
        return {cell: estimate(cell, self.entries[cell.peer], passes=3, recorded=known) for cell in missing}


def _next(left: Sequence[Cell], unfinished: Sequence[Cell], entries: Mapping[str, Entry]) -> Cell:
    """Return the first cell that waits for nothing; the first of all if each waits for another."""
    return next((cell for cell in left if ready(cell, unfinished, entries)), left[0])


def calibrated(setup: Setup, trained: bool) -> Pace:
    """Measure a query without demonstrations and, if asked for, a step of training."""
    from erase_core.llm.prompt import Prompt

    task = setup.task
    with torch_threads(1):
        prompts = [Prompt(task.template, (), question.input) for question in task.test[:3]]
        setup.llm.choose(prompts[0], task.options)
        start = time.process_time()
        for prompt in prompts:
            setup.llm.choose(prompt, task.options)
        query = (time.process_time() - start) / len(prompts)
        return Pace(query, _training_pace(setup) if trained else 0.0)


def _training_pace(setup: Setup) -> float:
    """Return the processor seconds of training on one example; 0 if the model cannot be trained."""
    from erase_core.errors import LLMError
    from erase_core.evaluate.adapters.training import TrainingSettings, train

    model = setup.adapted
    if isinstance(model, LLMError):
        return 0.0
    some = setup.task.pool[:8]
    model.reset(0)
    start = time.process_time()
    train(model, some, setup.task.template, 0, TrainingSettings(passes=1))
    return (time.process_time() - start) / len(some)


def _forecast(missing: Sequence[Cell], every: Sequence[Cell], seconds: float, n: int) -> str:
    took = f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
    processes = "1 process" if n == 1 else f"{n} processes"
    return f"{len(missing)} of {len(every)} cells to measure, about {took} with {processes}"


def _outcome(record: Record) -> str:
    if record["status"] == "measured":
        return f"{record['processor_seconds']:.0f} processor seconds"
    return f"failed: {record['why']}"
