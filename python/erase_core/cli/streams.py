"""The standard streams of a command: one that the caller closed, and output that cannot be written."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper

# Standard streams that whoever started this process had closed.
closed: set[str] = set()

__all__ = ["Unprinted", "closed", "drop_unwritten", "prepare", "print_result"]


class Unprinted(Exception):  # noqa: N818 -- never leaves the command: it becomes an exit code
    """What a command was to do is done, but its result cannot be printed."""


def prepare() -> None:
    """Put the null device in place of standard streams that are closed, and let no character fail.

    A file that is opened later would otherwise get the number of the closed stream, and what a library writes to
    stderr would go into it. What is written to a closed stream is dropped; reading from a closed stdin fails, since
    nothing is not what was to be read.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            closed.add(name)
            # The lowest number that is free, which is that of the stream unless something else has it already.
            descriptor = os.open(os.devnull, os.O_WRONLY)
            mode = "r" if name == "stdin" else "w"
            stream = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 -- for the whole run
            setattr(sys, name, stream)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # an answer may hold what the terminal's encoding does not have
            stream.reconfigure(errors="backslashreplace")


def print_result(text: str, *, done: bool) -> None:
    """Print a command's result on stdout, at once.

    Parameters
    ----------
    text : str
    done : bool
        Whether the command has changed something, which the exit code must not hide.

    Raises
    ------
    Unprinted
        The result cannot be printed, and `done` is true.
    OSError
        It cannot be printed otherwise.
    """
    try:
        print(text, flush=True)
    except (OSError, KeyboardInterrupt) as error:
        if not done and isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, "standard output") from None
        if not done:
            raise
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else error.strerror or type(error).__name__
        raise Unprinted(f"the command has done its work, but cannot print the result: {why}") from error


def drop_unwritten() -> None:
    """Drop output that cannot be written, since the interpreter would fail at it when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
