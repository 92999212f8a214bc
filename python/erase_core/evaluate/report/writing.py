"""Writes what was found into the folder of an evaluation: figures, page and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from erase_core.evaluate.peers.peer import Entry
from erase_core.evaluate.report.contents import report_of
from erase_core.evaluate.report.page import page_of
from erase_core.evaluate.report.pictures import COST, SCORE, draw
from erase_core.evaluate.running.folder import Folder
from erase_core.fs.durable import write_over

__all__ = ["write_report"]


def write_report(folder: Folder, entries: Sequence[Entry], lines: Callable[[Entry], int]) -> list[Path]:
    """Write ``evaluation.json``, ``evaluation.md`` and the pictures. Those that are there are replaced.

    Parameters
    ----------
    folder : Folder
    entries : sequence of Entry
        All peers that there are.
    lines : callable
        Returns the lines of code of a peer.

    Returns
    -------
    list of Path

    Raises
    ------
    ParameterError
        The folder has no evaluation.
    """
    written = json.dumps(report_of(folder, entries, lines), indent=1)
    figures, page = folder.path / "evaluation.json", folder.path / "evaluation.md"
    write_over(figures, f"{written}\n".encode())
    # From what was written: nothing stands on the page that the file does not have.
    report = json.loads(written)
    write_over(page, page_of(report).encode())
    draw(report, folder.path)
    return [figures, page, folder.path / COST, folder.path / SCORE]
