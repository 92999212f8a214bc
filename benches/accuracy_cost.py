"""What a query of each row costs, what is kept warm for it, and what a removal makes the model run.

Times are processor seconds of a warm query. All rows answer a question one after the other, beginning with another one
each time, so that a busy machine is equally busy for all of them. The figures are medians over the questions of the
ratio to the query without examples.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from accuracy_report import cost_name
from accuracy_rows import CLASSIFIERS, ROWS, Calibration, Fitted, Ids, Known, Row, Task
from erase_core.calls.calibrating import CONTENT_FREE
from erase_core.embedding.sentence import SentenceEmbedder
from erase_core.llm import TransformersLLM
from measure import Matrix

# Removals of which the mean is taken.
REMOVALS = 20
# Windows that are computed with one call.
AT_ONCE = 16
COLUMNS = ("whole, ms", "ratio", "model, ms", "model ratio", "kept warm, MB", "tokens, shown", "tokens, other")


class Times(NamedTuple):
    """Processor seconds of a query: the whole call, and the model in it."""

    whole: float
    model: float


Query = Callable[[str], Times]


def measure_costs(
    task: Task, known: Known, llm: TransformersLLM, embedder: SentenceEmbedder, n_questions: int, n_shots: int
) -> dict[str, dict[str, float]]:
    """Return the figures of each row, named as the lines of the table are."""
    queries: dict[str, Query] = {}
    figures: dict[str, dict[str, float]] = {}
    # The draws cost the same with every seed.
    fitted = [(row, row.fit(known, 0, n_shots)) for row in ROWS]
    embed = _embedding(embedder)
    for row, of_it in fitted:
        queries[row.name] = _query(task, row, of_it, llm, embed, None)
        own = cost_name(row.name, "prompt")
        if own != row.name and "prompt" in row.calibrations:
            queries[own] = _query(task, row, of_it, llm, embed, "prompt")
    for name, fit in CLASSIFIERS.items():
        queries[name] = _head(fit(known, task.options), embed)
    cold = {row.name for row, of_it in fitted if not of_it.warm}
    times = interleaved(queries, [question.input for question in task.questions[:n_questions]], cold)
    for name, ratios in relative(times, "none").items():
        milliseconds = {
            f"{part}, ms": 1e3 * statistics.median(getattr(t, part) for t in times[name]) for part in Times._fields
        }
        figures[name] = milliseconds | ratios
    n_bytes = _Warm(task, llm)
    for row, of_it in fitted:
        tokens = tokens_after_a_removal(task, known, row, of_it, llm, n_shots)
        extra = {"kept warm, MB": n_bytes.of(row, of_it) / 1e6, **tokens}
        for name in {row.name, cost_name(row.name, "prompt")} & figures.keys():
            figures[name] |= extra
    llm.forget()
    return figures


def _embedding(embedder: SentenceEmbedder) -> Callable[[str], Matrix]:
    # Some embedders have a faster way for queries.
    embed = getattr(embedder, "embed_queries", embedder.embed)

    def vector(query: str) -> Matrix:
        return np.asarray(embed([query])[0])

    return vector


def _query(
    task: Task,
    row: Row,
    fitted: Fitted,
    llm: TransformersLLM,
    embed: Callable[[str], Matrix],
    calibration: Calibration | None,
) -> Query:
    no_vector = np.empty(0, dtype=np.float32)

    def query(text: str) -> Times:
        start = time.process_time()
        ids = fitted.select(embed(text) if row.per_query else no_vector)
        middle = time.process_time()
        llm.choose(task.prompt(ids, text, row.context), task.options)
        for free in CONTENT_FREE if calibration else ():
            llm.choose(task.prompt(ids, free, row.context), task.options)
        end = time.process_time()
        return Times(end - start, end - middle)

    return query


def _head(classify: Callable[[Matrix], object], embed: Callable[[str], Matrix]) -> Query:
    def query(text: str) -> Times:
        start = time.process_time()
        classify(embed(text)[None])
        return Times(time.process_time() - start, 0.0)

    return query


def interleaved(
    queries: Mapping[str, Query], texts: Sequence[str], cold: Collection[str] = ()
) -> dict[str, list[Times]]:
    """Return the times of each row for each text.

    A first round, which is not counted, makes everything warm. Rows that keep nothing between questions are left out of
    it: the model would still have their prompt of the same question.
    """
    times: dict[str, list[Times]] = {name: [] for name in queries}
    names = list(queries)
    for number, text in enumerate(texts):
        for name in names:
            if name not in cold:
                queries[name](text)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(queries[name](text))
    return times


def relative(times: Mapping[str, Sequence[Times]], to: str) -> dict[str, dict[str, float]]:
    """Return the medians over the questions of the ratios to a row: of the whole call, and of the model alone."""
    return {
        name: {
            "ratio": statistics.median(own.whole / base.whole for own, base in zip(of_it, times[to], strict=True)),
            "model ratio": statistics.median(
                own.model / base.model for own, base in zip(of_it, times[to], strict=True)
            ),
        }
        for name, of_it in times.items()
    }


class _Warm:
    """Measures the bytes that are kept when all that a row keeps is warm."""

    def __init__(self, task: Task, llm: TransformersLLM) -> None:
        self._task, self._llm = task, llm
        self._windows: int | None = None

    def of(self, row: Row, fitted: Fitted) -> int:
        """Return the bytes. Rows of windows keep the same ones: those of all examples."""
        if row.context == "joint":
            return self._measured(row, fitted.warm)
        if self._windows is None:
            ids = [id_ for (id_,) in fitted.warm]
            self._windows = self._measured(
                row, [tuple(ids[start : start + AT_ONCE]) for start in range(0, len(ids), AT_ONCE)]
            )
        return self._windows

    def _measured(self, row: Row, prompts: Sequence[Ids]) -> int:
        self._llm.forget()
        for ids in prompts:
            self._llm.choose(self._task.prompt(ids, "none", row.context), self._task.options[:1])
        return self._llm._memory.n_bytes


def tokens_after_a_removal(
    task: Task, known: Known, row: Row, fitted: Fitted, llm: TransformersLLM, n_shots: int
) -> dict[str, float]:
    """Return how many tokens the model runs to be warm again after a removal: of a shown example, and of another one.

    The prompts afterwards are those of a fit without the example. Each that is new is run as a whole. Both figures are
    means of several removals, and left out where all or no examples are shown.
    """
    shown = {id_ for prompt in fitted.warm for id_ in prompt}
    before = set(fitted.warm)
    found = {}
    for name, ids in (("tokens, shown", shown), ("tokens, other", set(known.ids) - shown)):
        counts = []
        for id_ in np.random.default_rng(0).permutation(sorted(ids))[:REMOVALS].tolist():
            changed = set(row.fit(known.without(id_), 0, n_shots).warm) - before
            counts.append(sum(_tokens(task, prompt, llm) for prompt in changed))
        if counts:
            found[name] = statistics.mean(counts)
    return found


def _tokens(task: Task, prompt: Ids, llm: TransformersLLM) -> int:
    return llm.count_tokens(task.prompt(prompt, "none")) - llm.count_tokens(task.prompt((), "none"))


class Costs:
    """The file with the costs of all tasks."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._kept: dict[str, dict[str, dict[str, float]]] = json.loads(file.read_text()) if file.exists() else {}

    def keep(self, task: Task, figures: dict[str, dict[str, float]]) -> None:
        """Write the figures of a task."""
        self._kept[task.name] = figures
        self._file.write_text(json.dumps(self._kept, indent=1))

    def of(self, tasks: Sequence[Task]) -> dict[str, dict[str, dict[str, float]]]:
        """Return the figures of some tasks."""
        return {task.name: self._kept[task.name] for task in tasks if task.name in self._kept}

    def table(self, tasks: Sequence[Task]) -> str:
        """Return the tables in Markdown, one for each task."""
        parts = []
        for name, figures in self.of(tasks).items():
            parts += [f"{name}:\n", "| row | " + " | ".join(COLUMNS) + " |", "|" + "---|" * (len(COLUMNS) + 1)]
            for row, of_it in figures.items():
                cells = [
                    f"{of_it[c]:.2f}" if "ratio" in c else f"{of_it[c]:.0f}" if c in of_it else "" for c in COLUMNS
                ]
                parts.append(f"| {row} | " + " | ".join(cells) + " |")
            parts.append("")
        return "\n".join(parts)
