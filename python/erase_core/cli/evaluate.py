"""The command `erase evaluate`: peers side by side on anybody's examples, and the page that says what was found."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from erase_core.cli.completion import one_of
from erase_core.cli.options import AsJson
from erase_core.cli.output import resumable, show
from erase_core.errors import ParameterError

if TYPE_CHECKING:
    from erase_core.evaluate.peers.peer import Entry
    from erase_core.evaluate.running.folder import Folder
    from erase_core.evaluate.running.load_setup import Choice

__all__ = ["evaluate"]

FORGET = ("random", "subject", "worst", "canaries")
SIZES = "Sizes"


def evaluate(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="Examples with a fixed set of answers: JSON lines, CSV, a BIG-bench task, and whatever `erase ingest` "
            "reads. By default the packaged support desk.",
        ),
    ] = None,
    peers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A peer, or a group such as all, exact, approximate, prompt or fine-tuning; `--list` has the names. "
            "May be repeated, or separated by commas. By default all.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for results, page and pictures.")] = Path(
        "evaluation"
    ),
    llm: Annotated[
        str | None, typer.Option(help="Causal language model: folder, .gguf file or hub id; by default the packaged.")
    ] = None,
    pool: Annotated[int, typer.Option(rich_help_panel=SIZES, help="Most examples to adapt to.")] = 120,
    test: Annotated[int, typer.Option(rich_help_panel=SIZES, help="Most test questions.")] = 60,
    forget: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            autocompletion=one_of(FORGET),
            help="Which examples are forgotten together: random; subject: those of whole subjects; worst: those that "
            "are hard to forget; canaries: made-up ones with random answers, put into the pool.",
        ),
    ] = "random",
    forget_size: Annotated[int, typer.Option(rich_help_panel=SIZES, help="How many of them.")] = 12,
    seeds: Annotated[int, typer.Option(rich_help_panel=SIZES, help="Fits of each peer that is not trained.")] = 3,
    trained_seeds: Annotated[
        int, typer.Option(rich_help_panel=SIZES, help="Fits of each peer whose language model is trained.")
    ] = 1,
    retrains: Annotated[
        int,
        typer.Option(rich_help_panel=SIZES, help="Fine-tuned models that never had the forgotten examples."),
    ] = 3,
    removals: Annotated[
        int, typer.Option(rich_help_panel=SIZES, help="Single removals of each fit of a peer that is not trained.")
    ] = 8,
    shadows: Annotated[
        int, typer.Option(rich_help_panel=SIZES, help="Shadow worlds of an attack, an even number from 4 on; 0: none.")
    ] = 4,
    tune: Annotated[
        bool, typer.Option("--tune", help="Let approximate peers choose their settings, on another forget set.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(help="Processes of one thread, each with the models; by default one a core.")
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Write the page of what is measured already.")
    ] = False,
    list_peers: Annotated[bool, typer.Option("--list", help="List the peers with their sources, and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure accuracy, cost and forgetting of ERASE beside fine-tuning, unlearning and other ways, on your examples.

    Each finished measurement is kept in DIR, so a command that was stopped goes on where it was. The folder has weights
    that were trained on the examples: delete it with them. Writes evaluation.json, evaluation.md and two pictures.
    """
    from erase_core.evaluate.peers.catalogue import all_peers, check_packages, lines_of, peers_named

    check_packages()
    if list_peers:
        _list(all_peers(), as_json)
        return
    if forget not in FORGET:
        raise ParameterError(f"--forget must be one of {', '.join(FORGET)}, got {forget!r}")
    if jobs is not None and jobs < 1:
        raise ParameterError(f"--jobs must be at least 1, got {jobs}")
    from erase_core.evaluate.running.folder import Folder

    folder = Folder(out)
    if not report_only:
        from erase_core.evaluate.running.load_setup import Choice
        from erase_core.evaluate.running.plan import Sizes

        named = [name.strip() for each in peers or ["all"] for name in each.split(",") if name.strip()]
        sizes = Sizes(seeds, trained_seeds, retrains, removals=removals, shadows=shadows, tune=tune)
        choice = Choice(data, llm, pool, test, forget, forget_size, sizes, folder.checkpoints)  # type: ignore[arg-type]
        _measure(choice, peers_named(named), folder, _cores() if jobs is None else jobs)
    from erase_core.evaluate.report.writing import write_report

    files = write_report(folder, all_peers(), lines_of)
    show({"files": [str(file) for file in files]}, [f"written: {file}" for file in files], as_json=as_json)


def _measure(choice: Choice, entries: Sequence[Entry], folder: Folder, jobs: int) -> None:
    from functools import partial

    from erase_core.evaluate.running.load_setup import load_setup
    from erase_core.evaluate.running.run import Run
    from erase_core.progress import waiting

    with waiting("Loading the models"):
        setup = load_setup(choice)
    run = Run(setup, entries, folder, {"data": setup.task.name, "forget": choice.forget}, _say)
    with resumable("finished measurements"):
        run.measure(jobs, partial(load_setup, choice, setup.forgotten))


def _say(line: str) -> None:
    """Report progress; on a terminal above the bar."""
    print(line, file=sys.stderr, flush=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _list(entries: Sequence[Entry], as_json: bool) -> None:
    listed = [
        {"peer": e.name, "kind": e.kind, "exactness": e.exactness, "source": e.source, "starts_from": e.after}
        for e in entries
    ]
    width = max(len(entry.name) for entry in entries)
    lines = [f"{e.name:{width}}  {e.kind:11}  {e.exactness:11}  {e.source}" for e in entries]
    show({"peers": listed}, lines, as_json=as_json)
