"""The standard streams of a command: handles closed streams, and output that cannot be written."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper

# Names of the standard streams that were closed when the process started.
closed: set[str] = set()

__all__ = ["Unprinted", "closed", "drop_unwritten", "prepare", "print_result"]


class Unprinted(Exception):  # noqa: N818 -- never leaves the command: it becomes an exit code
    """The command is done, but its result cannot be printed."""


def prepare() -> None:
    """Replace closed standard streams by the null device, and escape characters that cannot be encoded.

    Otherwise a file opened later could get the descriptor of the closed stream, and a library that writes to stderr
    would write into that file. Output to a closed stream is dropped. Reading from a closed stdin fails, since empty
    input would be wrong.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            closed.add(name)
            # The system gives the lowest free number: that of the closed stream, unless it is in use again.
            descriptor = os.open(os.devnull, os.O_WRONLY)
            mode = "r" if name == "stdin" else "w"
            stream = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 -- for the whole run
            setattr(sys, name, stream)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # the terminal's encoding may lack characters of an answer
            stream.reconfigure(errors="backslashreplace")


def print_result(text: str, *, done: bool) -> None:
    """Print a command's result on stdout, and flush it.

    Parameters
    ----------
    text : str
    done : bool
        Whether the command has changed something. The exit code must then say so.

    Raises
    ------
    Unprinted
        The result cannot be printed, and `done` is true.
    OSError
        The result cannot be printed, and `done` is false.
    """
    try:
        print(text, flush=True)
    except (OSError, KeyboardInterrupt) as error:
        if not done and isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, "standard output") from None
        if not done:
            raise
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else error.strerror or type(error).__name__
        raise Unprinted(f"the command is done, but cannot print its result: {why}") from error


def drop_unwritten() -> None:
    """Drop output that cannot be written. Otherwise the interpreter would fail to flush it at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
