"""From kept scores to the table and the picture of docs/accuracy.md: calibration, normalised score, bootstrap.

Nothing here runs a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accuracy_kept import whole_lines
from accuracy_rows import CLASSIFIERS, ROWS, Calibration, Ids, Row, Task
from erase_core.calls.calibrating import prior
from erase_core.llm.prompt import Context
from numpy.typing import NDArray

Array = NDArray[np.float64]
BY = {
    "prompt": "the same prompt",
    "blocks": "each window alone",
    "none": "no demonstrations",
}
BOOTSTRAP = 2000


class Run(NamedTuple):
    """What a row answered with one seed: scores (n_questions, n_options), and what each question was shown."""

    scores: Array
    prompts: list[Ids]


@dataclass
class Kept:
    """What was measured, read from the files of a folder. Files of other processes are read, and never written."""

    runs: dict[tuple[str, str, int], Run] = field(default_factory=dict)
    # Log-probabilities after the content-free inputs, (n_inputs, n_options), by task, context and prompt.
    free: dict[tuple[str, Context, Ids], Array] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, tasks: Sequence[Task], n_questions: int) -> Kept:
        """Return what the files have on these tasks, with at least as many questions as are asked."""
        kept = cls()
        known = {task.digest: task for task in tasks}
        for file in sorted(folder.glob("*.jsonl")):
            for line in whole_lines(file):
                record = json.loads(line)
                task = known.get(record["data"])
                if task is not None:
                    kept.add(record, task.name, min(n_questions, len(task.questions)))
        return kept

    def add(self, record: Mapping[str, Any], task: str, n_questions: int) -> None:
        """Take a record of a file."""
        if "free" in record:
            self.free[task, record["context"], tuple(record["prompt"])] = np.array(record["free"])
        elif len(record["scores"]) >= n_questions:
            prompts = [tuple(record["prompts"][i]) for i in record["of"][:n_questions]]
            self.runs[task, record["row"], record["seed"]] = Run(np.array(record["scores"][:n_questions]), prompts)

    def calibrated(self, task: str, row: Row, seed: int, calibration: Calibration) -> Array | None:
        """Return the calibrated scores of a run; None if anything is missing."""
        run = self.runs[task, row.name, seed]
        priors = []
        for prompt in run.prompts:
            after = [self.free.get((task, row.context, each)) for each in reference(prompt, calibration)]
            found = [each for each in after if each is not None]
            if len(found) < len(after):
                return None
            priors.append(prior(np.concatenate(found)))
        return run.scores - np.stack(priors)


def reference(prompt: Ids, calibration: Calibration) -> list[Ids]:
    """Return the prompts that the content-free inputs follow."""
    if calibration == "blocks":
        return [(id_,) for id_ in prompt] or [()]
    return [prompt if calibration == "prompt" else ()]


def chance(right: Sequence[int], n_options: int) -> float:
    """Return the accuracy of the best constant answer: the share of the most frequent right answer."""
    return float(np.bincount(right, minlength=n_options).max() / len(right))


def normalised_score(accuracy: Array, at_chance: float) -> Array:
    """Return 0 for the best constant answer, 100 if all is right, and less than 0 below."""
    return 100 * (accuracy - at_chance) / (1 - at_chance)


class Bootstrap:
    """Means over resampled questions and seeds.

    All rows are given the same questions in a resample, so that their differences are paired.

    Parameters
    ----------
    n_questions : mapping of str to int
        Number of questions of each task.
    n : int, default=2000
        Number of resamples.
    """

    def __init__(self, n_questions: Mapping[str, int], n: int = BOOTSTRAP) -> None:
        rng = np.random.default_rng(0)
        self._n = n
        self._questions = {task: _weights(rng, n, size) for task, size in n_questions.items()}
        self._seeds: dict[tuple[str, int], Array] = {}

    def accuracies(self, task: str, right: NDArray[np.bool_]) -> Array:
        """Return the accuracy in each resample, of answers (n_seeds, n_questions)."""
        key = (task, len(right))
        if key not in self._seeds:
            self._seeds[key] = _weights(np.random.default_rng([len(self._seeds), 1]), self._n, len(right))
        return np.asarray(((self._seeds[key] @ right) * self._questions[task]).sum(axis=1))


def _weights(rng: np.random.Generator, n: int, size: int) -> Array:
    return rng.multinomial(size, np.full(size, 1 / size), size=n) / size


def interval(values: Array) -> tuple[float, float]:
    """Return the 95 % interval of resampled values."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


@dataclass
class Line:
    """A line of the table: accuracy by task, and the mean normalised score with its resamples."""

    row: str
    calibration: Calibration | None
    accuracies: dict[str, float]
    n_seeds: int
    # The first is that of the data; None if a task is missing.
    scores: Array | None

    @property
    def score(self) -> float:
        """The mean normalised score."""
        return float("nan") if self.scores is None else float(self.scores[0])

    def beside(self, other: Line | None) -> Array | None:
        """Return the differences of the scores to those of another line."""
        return None if self.scores is None or other is None or other.scores is None else self.scores - other.scores


class Report:
    """The lines of the table."""

    def __init__(self, kept: Kept, tasks: Sequence[Task], n_questions: int) -> None:
        self.tasks = {task.name: task for task in tasks}
        self._kept = kept
        self._right = {
            name: [task.options.index(question.output) for question in task.questions[:n_questions]]
            for name, task in self.tasks.items()
        }
        self.chance = {name: chance(right, len(self.tasks[name].options)) for name, right in self._right.items()}
        self._bootstrap = Bootstrap({name: len(right) for name, right in self._right.items()})
        self.lines = [line for row in ROWS for c in (None, *row.calibrations) if (line := self._line(row, c))]
        self.lines += [line for name in CLASSIFIERS if (line := self._line(Row(name, ROWS[0].fit), None))]

    def find(self, row: str, calibration: Calibration | None = None) -> Line | None:
        """Return a line, if it was measured."""
        return next((line for line in self.lines if (line.row, line.calibration) == (row, calibration)), None)

    def _line(self, row: Row, calibration: Calibration | None) -> Line | None:
        answers = {task: self._answers(task, row, calibration) for task in self.tasks}
        found = {task: right for task, right in answers.items() if len(right)}
        if not found:
            return None
        accuracies = {task: float(right.mean()) for task, right in found.items()}
        scores = None
        if len(found) == len(self.tasks):
            each = [
                normalised_score(
                    np.array([accuracies[task], *self._bootstrap.accuracies(task, right)]), self.chance[task]
                )
                for task, right in found.items()
            ]
            scores = np.mean(each, axis=0)
        return Line(row.name, calibration, accuracies, min(map(len, found.values())), scores)

    def _answers(self, task: str, row: Row, calibration: Calibration | None) -> NDArray[np.bool_]:
        """Return whether each answer was right, (n_seeds, n_questions)."""
        seeds = sorted(seed for name, of, seed in self._kept.runs if (name, of) == (task, row.name))
        scores = [
            self._kept.runs[task, row.name, seed].scores
            if calibration is None
            else self._kept.calibrated(task, row, seed, calibration)
            for seed in seeds
        ]
        right = [each.argmax(axis=1) == self._right[task] for each in scores if each is not None]
        return np.array(right, dtype=bool)

    def table(self, costs: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
        """Return the table in Markdown, with the costs where they were measured."""
        head = [
            "demonstrations", "calibrated after", *self.tasks, "score", "minus none", "minus knn", "of knn's gain",
            "seeds", "cost",
        ]  # fmt: skip
        parts = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        constant = [f"{share:.2f}" for share in self.chance.values()]
        parts.append("| " + " | ".join(["the best constant answer", "", *constant, "0", "", "", "", "", ""]) + " |")
        none, knn = self.find("none"), self.find("knn")
        for line in self.lines:
            cells = [
                line.row,
                BY[line.calibration] if line.calibration else "",
                *(f"{line.accuracies[task]:.2f}" if task in line.accuracies else "" for task in self.tasks),
                _with_interval(line.scores, ".1f"),
                _with_interval(line.beside(none), "+.1f"),
                _with_interval(line.beside(knn), "+.1f"),
                _share_of_gain(line, none, knn),
                str(line.n_seeds),
                _cost(costs, line),
            ]
            parts.append("| " + " | ".join(cells) + " |")
        return "\n".join(parts)


def _with_interval(values: Array | None, style: str) -> str:
    if values is None:
        return ""
    low, high = interval(values[1:])
    return f"{values[0]:{style}} ({low:{style}} to {high:{style}})"


def _share_of_gain(line: Line, none: Line | None, knn: Line | None) -> str:
    if line.scores is None or none is None or knn is None or not knn.score > none.score:
        return ""
    return f"{(line.score - none.score) / (knn.score - none.score):.0%}"


def cost_name(row: str, calibration: Calibration | None) -> str:
    """Return the name of a line among the costs. Only content-free inputs after a query's own windows cost anything."""
    own = calibration == "prompt" and row.startswith("windows")
    return f"{row}, calibrated after the same windows" if own else row


def cost_of(costs: Mapping[str, Mapping[str, Mapping[str, float]]], line: Line) -> float | None:
    """Return the cost of a query relative to no examples, the mean over the tasks where it was measured."""
    name = cost_name(line.row, line.calibration)
    found = [of_task[name]["ratio"] for of_task in costs.values() if name in of_task]
    return float(np.mean(found)) if found else None


def _cost(costs: Mapping[str, Mapping[str, Mapping[str, float]]], line: Line) -> str:
    found = cost_of(costs, line)
    return "" if found is None else f"{found:.2f}"
