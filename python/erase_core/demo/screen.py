"""The output of the demo: aligned tables, 100 columns wide. Colours and progress bars appear only on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.padding import Padding
from rich.progress import track
from rich.table import Table
from rich.text import Text

from erase_core.examples.example import Example
from erase_core.reports import ForgetReport, IngestReport, Status

if TYPE_CHECKING:
    from erase_core.demo.outcome import Outcome, Score

__all__ = ["Screen"]

WIDTH, INDENT = 100, 3
T = TypeVar("T")


class Screen:
    """Prints the steps of the demo.

    Parameters
    ----------
    quiet : bool
        Print nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        # In a pipe, rich would use 80 columns.
        self._console = Console(quiet=quiet, highlight=False, markup=False)
        self._console.width = min(self._console.width, WIDTH) if self._console.is_terminal else WIDTH
        self._n_steps = 0

    def track(self, things: Sequence[T], what: str) -> Iterable[T]:
        """Iterate over things, with a progress bar on a terminal."""
        console = Console(stderr=True)
        return track(things, what, console=console, transient=True) if console.is_terminal else things

    def ingested(self, report: IngestReport, status: Status) -> None:
        """Print the contents of the store."""
        self._step(
            "A store",
            f"{report.n_added} messages of {status.n_subjects} customers of a shop, ten intents; "
            f"embedded in {report.embedding_seconds:.1f} s",
        )

    def demonstrations(self, question: str, shown: Sequence[Example]) -> None:
        """Print the examples in the prompt of a question."""
        self._step("A prompt", f"the {len(shown)} messages nearest to a question, the nearest last")
        table = _table("id", "customer", "intent", "message")
        for example in shown:
            table.add_row(str(example.id), example.subject, example.output, _clip(example.input, 58))
        self._print(table)
        self._print(Text(f"the question: {_clip(question, 80)}"))

    def scores(self, scores: Sequence[Score], model: str) -> None:
        """Print how many questions were answered correctly with each selection."""
        n = scores[0].n_questions
        self._step("Answers", f"{n} random test messages; which of the ten intents does each have?")
        table = _table("examples in the prompt", "right", "share", "seconds each")
        for score in scores:
            table.add_row(
                score.selection, f"{score.n_right} of {n}", f"{score.n_right / n:.0%}", f"{score.median_seconds:.2f}"
            )
        self._print(table)
        # Two standard errors of a share are at most one over the root of the number.
        self._print(Text(f"{model}, on this machine. An illustration, not a benchmark:", style="dim"))
        self._print(Text(f"the model is small, and {n} questions give a share only to +-{n**-0.5:.0%}.", style="dim"))

    def forgotten(
        self, subject: str, report: ForgetReport, before: Sequence[Example], after: Sequence[Example]
    ) -> None:
        """Print the demonstrations before and after the removal side by side, with changes marked."""
        n_shown = sum(example.id in report.ids for example in before)
        self._step("An erasure request", f"{subject}, {len(report.ids)} messages, {n_shown} of them in that prompt")
        table = _table("", "before", "", "", "", "after", "", "")
        for left, right in zip_longest(before, after):
            table.add_row(
                *_half(left, "-", "red", marked=left not in after),
                *_half(right, "+", "green", marked=right not in before),
            )
        self._print(table)

    def proof(self, outcome: Outcome) -> None:
        """Print the proof that nothing is left, and the cost of the removal."""
        rebuilt, report = outcome.rebuilt, outcome.forgotten
        same = {True: "equal", False: "DIFFERENT"}
        self._step("Proof", "compared bit for bit, with ==" if outcome.ok else "compared bit for bit, and it FAILED")
        self._rows(
            {
                "a second implementation of the model": f"every byte {same[outcome.verification.ok]}",
                "a new store without the customer": f"digest {same[rebuilt.digests_equal]}, "
                f"prompts {same[rebuilt.prompts_equal]}, scores of an answer {same[rebuilt.scores_equal]}",
                "its digest": rebuilt.digest[:48],
                "forgotten texts in the store's files": f"{outcome.n_traces} of {len(report.ids)}",
                **(
                    {} if report.receipt is None else {"receipt": f"{report.receipt.number}:{report.receipt.hash[:46]}"}
                ),
            }
        )
        self._step("Cost", f"time to forget; the whole demo took {outcome.seconds:.0f} s")
        self._rows(
            {
                "in the clustering": f"{1e6 * report.model_seconds:.0f} microseconds ({report.path})",
                "with its key destroyed and synced": f"{1e3 * report.seconds:.0f} ms",
                "building the store anew instead": f"{rebuilt.seconds:.1f} s",
                "size of the store": f"{outcome.bytes / 1e6:.1f} MB",
            }
        )

    def _step(self, title: str, text: str) -> None:
        self._n_steps += 1
        self._console.print()
        self._console.print(Text.assemble((f"{self._n_steps}  {title}", "bold"), f": {text}"))

    def _rows(self, rows: Mapping[str, str]) -> None:
        table = _table("", "")
        for name, value in rows.items():
            table.add_row(name, value)
        self._print(table)

    def _print(self, thing: Table | Text) -> None:
        self._console.print(Padding(thing, (0, 0, 0, INDENT), expand=False))


def _table(*columns: str) -> Table:
    table = Table(
        *columns, box=None, show_header=any(columns), header_style="dim", padding=(0, 2, 0, 0), pad_edge=False
    )
    for column in table.columns:
        column.no_wrap = True
    return table


def _half(example: Example | None, mark: str, style: str, *, marked: bool) -> list[Text]:
    """Return one side of a row: a mark, and some fields of an example."""
    if example is None:
        return [Text()] * 4
    cells = [mark if marked else " ", str(example.id), example.output, _clip(example.input, 22)]
    return [Text(cell, style=style if marked else "") for cell in cells]


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."
