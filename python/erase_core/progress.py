"""Progress bars and spinners on stderr. They are shown only on a terminal, one at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["bar", "waiting"]

# The current spinner, or None. While a bar is shown, the spinner is hidden.
_spinner: Any = None


@contextmanager
def bar(what: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int], object]]:
    """Show a progress bar. Yield the function that advances it by a number of steps.

    Parameters
    ----------
    what : str
        The text beside the bar.
    total : int
        Number of steps.
    shown : bool, default=True
        Whether to show the bar. It is never shown if stderr is not a terminal.
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
    """Show a spinner during a task of unknown length."""
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
