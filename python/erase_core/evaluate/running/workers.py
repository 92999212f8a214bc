"""Processes of one thread that measure cells. Each loads the models once, and ends with the one that started it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import connection, get_context
from typing import Any, NamedTuple

from erase_core.errors import LLMError
from erase_core.evaluate.peers.peer import Entry
from erase_core.evaluate.running.measure_cell import measure
from erase_core.evaluate.running.plan import Cell, Record
from erase_core.evaluate.running.setup import Setup
from erase_core.libraries import torch_threads

__all__ = ["Job", "Workers"]

MakeSetup = Callable[[], Setup]
# Each library's own name for its number of threads.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


class Job(NamedTuple):
    """A cell to measure, its peer's entry by name, and the record that it starts from."""

    cell: Cell
    base: Record | None


class Workers:
    """Processes, each with a pipe.

    Parameters
    ----------
    n : int
    make_setup : callable
        Loads the models. It is pickled.
    peers : tuple of str
        Names of the peers of all cells.
    """

    def __init__(self, n: int, make_setup: MakeSetup, peers: tuple[str, ...]) -> None:
        context = get_context("spawn")
        self._processes: dict[Any, Any] = {}
        self._idle: list[Any] = []
        with _environment(dict.fromkeys(THREADS, "1")):
            for _ in range(n):
                ours, its = context.Pipe()
                process = context.Process(target=_work, args=(its, make_setup, peers), daemon=True)
                process.start()
                its.close()
                self._processes[ours] = process
                self._idle.append(ours)

    def has_idle(self) -> bool:
        """Whether a process has nothing to do."""
        return bool(self._idle)

    def is_working(self) -> bool:
        """Whether a process has something to do."""
        return len(self._idle) < len(self._processes)

    def give(self, job: Job) -> None:
        """Give a cell to an idle process."""
        pipe = self._idle.pop()
        try:
            pipe.send(job)
        except OSError as error:
            raise self._ended(pipe) from error

    def wait(self) -> list[tuple[Cell, Record]]:
        """Return the cells that were finished next.

        Raises
        ------
        LLMError
            A process has ended, for example for want of memory.
        """
        done: list[tuple[Cell, Record]] = []
        busy = [pipe for pipe in self._processes if pipe not in self._idle]
        ready: list[Any] = connection.wait(busy)
        for pipe in ready:
            try:
                finished = pipe.recv()
            except (EOFError, OSError):
                raise self._ended(pipe) from None
            if isinstance(finished, Exception):
                raise finished
            done.append(finished)
            self._idle.append(pipe)
        return done

    def end(self) -> None:
        """End all processes, whatever they do."""
        for pipe, process in self._processes.items():
            pipe.close()
            process.terminate()
        for process in self._processes.values():
            process.join()

    def _ended(self, pipe: Any) -> LLMError:
        process = self._processes[pipe]
        process.join(1)
        return LLMError(
            f"a process of the evaluation ended (exit code {process.exitcode}; -9 may be for want of memory). What was "
            "finished is kept: run the command again, with fewer --jobs if memory is short."
        )


def _work(pipe: Any, make_setup: MakeSetup, peers: tuple[str, ...]) -> None:
    from erase_core.evaluate.peers.catalogue import peers_named

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    with torch_threads(1):
        try:
            entries = {entry.name: entry for entry in peers_named(peers)}
            setup = make_setup()
        except Exception as error:
            pipe.recv()
            pipe.send(error)
            return
        while True:
            try:
                cell, base = pipe.recv()
                pipe.send((cell, measure(cell, entries[cell.peer], setup, base)))
            except (EOFError, OSError):  # nobody waits for it any more
                return


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def measured_here(job: Job, entries: Mapping[str, Entry], setup: Setup) -> tuple[Cell, Record]:
    """Measure a cell in this process."""
    return job.cell, measure(job.cell, entries[job.cell.peer], setup, job.base)
