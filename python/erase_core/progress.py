"""Bars and spinners on stderr: shown only on a terminal, and one at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["bar", "waiting"]

# The spinner that is shown, if one is. A bar takes its place for as long as the bar lasts.
_spinner: Any = None


@contextmanager
def bar(what: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int], object]]:
    """Yield the function that advances a bar by a number of steps.

    Parameters
    ----------
    what : str
        What is being done.
    total : int
        Number of steps.
    shown : bool, default=True
        False: there is no bar, as where stderr is not a terminal.
    """
    if not shown:
        yield lambda n: None
        return
    spinner = _spinner
    if spinner is not None:
        spinner.stop()  # first: while it is shown, it stands for stderr, and some versions of rich deny a terminal then
    try:
        if not sys.stderr.isatty():
            yield lambda n: None
            return
        from rich.console import Console
        from rich.progress import Progress

        progress = Progress(console=Console(stderr=True), transient=True)
        task = progress.add_task(what, total=total)
        with progress:
            yield lambda n: progress.advance(task, n)
    finally:
        if spinner is not None:
            spinner.start()


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show a spinner while something of unknown length takes place."""
    global _spinner
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    outer = _spinner
    with Console(stderr=True).status(what) as _spinner:
        try:
            yield
        finally:
            _spinner = outer
