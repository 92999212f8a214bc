"""Processes that are stopped or failed at a chosen call: a prepared server, forked for each, under crash_shim.c.

To start an interpreter with all its imports takes seconds, a fork milliseconds. The server has made no threads and no
store before it forks. The two halves, asking and serving, are in this one file; promises are crash_promises.py's.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

MODES = ("count", "kill", "after", "torn", "short", "fail", "failall")
WRITE, SYNC, NAME, SIZE, MAKE, OPEN = 1, 2, 4, 8, 16, 32
ALL = 63


def why_not() -> str | None:
    """Why there can be no such processes here."""
    if sys.platform != "linux":
        return "needs Linux: the shim is an LD_PRELOAD library"
    return None if shutil.which("cc") else "needs cc, to compile the shim"


class Task(NamedTuple):
    """What a process is to do, and where it is to be stopped."""

    base: str
    work: str = "run"
    mode: str = "count"
    at: int = 0
    error: int = 0
    kinds: int = ALL
    trace: bool = False
    mutant: str = ""
    delay: float = -1.0
    die: bool = False
    mirror: str = ""
    second: str = ""
    film: str = ""


class Outcome(NamedTuple):
    """What became of it: its words, and the signal or status that it ended with."""

    said: list[list[Any]]
    status: int

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL

    def of(self, word: str) -> list[list[Any]]:
        """What followed a word, each time it was said."""
        return [line[1:] for line in self.said if line[0] == word]


class Server:
    """The server, as the tests see it."""

    def __init__(self, room: Path) -> None:
        here = Path(__file__).parent
        shim = room / "crash_shim.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, here / "crash_shim.c", "-ldl"], check=True)
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        # Else pyarrow, which scikit-learn imports where it is installed, starts a thread of its allocator.
        single["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
        environment = os.environ | single | {"LD_PRELOAD": str(shim), "PYTHONHASHSEED": "0"}
        environment["PYTHONPATH"] = os.pathsep.join([str(here), *filter(None, sys.path)])
        self._process = subprocess.Popen(
            [sys.executable, str(here / "crash_server.py"), str(shim)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.ready = self._answer()

    def __call__(self, base: Path, **task: Any) -> Outcome:
        """Let a process do a task under a folder, which holds the store's."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(Task(str(base), **task)._asdict()) + "\n")
        self._process.stdin.flush()
        return Outcome(**self._answer())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, which it does when nobody can ask it any more."""
        self._process.communicate()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server has ended"
        return json.loads(line)


# ---- the server's half ----
def serve(shim: str) -> None:
    import crash_mutants
    import crash_power
    import crash_workload
    import erase_core

    modules = {"workload": crash_workload, "mutants": crash_mutants, "power": crash_power}
    library = ctypes.CDLL(shim)
    print(json.dumps({"erase_core": erase_core.__file__}), flush=True)
    for line in sys.stdin:
        task = Task(**json.loads(line))
        assert len(os.listdir("/proc/self/task")) == 1, "a fork would copy one thread of several"
        there, here = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.close(there)
                work(task, here, library, **modules)
            finally:
                os._exit(3)
        os.close(here)
        text = listen(there, pid, task.delay)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"said": parsed(text), "status": status}), flush=True)


def listen(there: int, pid: int, delay: float) -> bytes:
    """Read until the process has ended; kill it after the delay, if there is one."""
    text, deadline = b"", time.monotonic() + delay
    while True:
        left = max(0.0, deadline - time.monotonic()) if delay >= 0 else None
        if not select.select([there], [], [], left)[0]:
            os.kill(pid, signal.SIGKILL)
            delay = -1.0
            continue
        part = os.read(there, 65536)
        if not part:
            os.close(there)
            return text
        text += part


def parsed(text: bytes) -> list[list[Any]]:
    """Both the process's words and the shim's calls, in their order."""
    lines = [line for line in text.decode().split("\n") if line]
    return [line.split("\t") if line.startswith("call\t") else json.loads(line) for line in lines]


def work(task: Task, pipe: int, library: Any, workload: Any, mutants: Any, power: Any) -> None:
    """The forked process: it leaves without any clearing up, as one that is killed does."""

    def say(*words: object) -> None:
        if task.film and words[0] in ("begin", "calls"):
            shutil.copytree(task.base, Path(task.film) / str(words[1] if words[0] == "begin" else len(workload.STEPS)))
        os.write(pipe, json.dumps(words).encode() + b"\n")

    secrets.token_bytes = drawn(task.work)  # type: ignore[assignment]
    os.environ["CRASH_FOLDER"], os.environ["CRASH_SECOND_FOLDER"] = task.base, task.second
    folder = Path(task.base) / "store"
    if task.mutant:
        mutants.MUTANTS[task.mutant](setattr)
    if task.mirror:
        power.keep(library, Path(task.mirror))
    trace = pipe if task.trace else -1
    library.crash_arm(MODES.index(task.mode), task.at, task.error, task.kinds, trace)
    try:
        if task.work == "run":
            workload.run(folder, say, library.crash_disarm, die=task.die)
        else:
            workload.recover(folder, say)
    except BaseException as error:
        say("foreign", -1, task.work, repr(error))
    say("calls", library.crash_disarm())
    os._exit(0)


def drawn(seed: str) -> Callable[[int], bytes]:
    """Random bytes that are the same in every process: keys too, so that each run has those of the run on film."""
    numbers = itertools.count()
    return lambda size: hashlib.shake_256(f"{seed} {next(numbers)} {size}".encode()).digest(size)


if __name__ == "__main__":
    serve(sys.argv[1])
