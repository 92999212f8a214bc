"""The command `erase demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from erase_core.cli.options import AsJson
from erase_core.cli.output import show

__all__ = ["demo"]


def demo(
    store: Annotated[
        Path | None, typer.Option("--store", "-s", help="Folder to keep the store in; by default, it is deleted.")
    ] = None,
    questions: Annotated[int, typer.Option(help="Number of test questions to answer with each strategy.")] = 25,
    shots: Annotated[int, typer.Option(help="Number of demonstrations in a prompt.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the store and of the sample of questions.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Run a demonstration (about a minute): ingest 320 examples, answer, forget a customer, and prove it."""
    from erase_core.demo import run_demo

    outcome = run_demo(store, n_questions=questions, n_shots=shots, seed=seed, quiet=as_json)
    if as_json:
        show(outcome.to_dict(), (), as_json=True)
    if not outcome.ok:
        raise typer.Exit(1)
