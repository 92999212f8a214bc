"""How well a small model answers with demonstrations by each strategy: the table of docs/accuracy.md.

    make accuracy                        the support desk that the package ships
    make accuracy DATA=FOLDER            and all BIG-bench tasks of a folder that have fixed options
    make accuracy DATA=FOLDER COST=1     what a query of each row costs, on a quiet machine

All rows answer the same questions. Each finished row with a seed is written to a file and skipped by the next run, so a
run can be interrupted, and extended by more seeds, tasks or rows. The first seed of all tasks comes first. Several
processes share the work with `--part 1/2` and `--part 2/2`; the command without `--part` then prints the table.

What was measured is used again as long as the data are the same, and so are the rows in `accuracy.jsonl.xz`, which are
in the repository; `--pack` writes all rows there. After a change of the code that selects or scores, delete both.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from accuracy_cost import Costs, measure_costs
from accuracy_kept import SETTING, pack, unpack
from accuracy_report import Kept, Report, reference
from accuracy_rows import CLASSIFIERS, ROWS, Ids, Known, Row, Task, tasks_of
from erase_core.calls.calibrating import CONTENT_FREE
from erase_core.embedding.sentence import SentenceEmbedder
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Context
from measure import Matrix

RESULTS = Path(__file__).with_name("results") / "accuracy"
# Processor seconds, for estimates: a choice among options; reading one example.
CHOICE, EXAMPLE = 0.15, 0.07


class Item(NamedTuple):
    """A piece of work: a row with a seed on a task."""

    task: Task
    row: Row
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """Its place in what is kept."""
        return self.task.name, self.row.name, self.seed

    @property
    def group(self) -> Hashable:
        """What one process does: rows of windows need the same windows."""
        return (self.task.name, "windows") if self.row.context == "windows" else self.key

    def seconds(self, n_questions: int, n_shots: int) -> float:
        """Return an estimate of its processor time."""
        n = min(n_questions, len(self.task.questions))
        runs, examples = n, self.row.n_prompts * n_shots
        if self.row.context == "windows":
            examples = new_windows(self.row, n, n_shots)
            runs += examples * len(CONTENT_FREE)
        elif not self.row.n_prompts:
            examples = n * n_shots
        if "prompt" in self.row.calibrations:
            runs += len(CONTENT_FREE) * (self.row.n_prompts or n)
        return CHOICE * runs + EXAMPLE * examples


def new_windows(row: Row, n_questions: int, n_shots: int) -> int:
    """Return about how many windows a row is the first to read: a third of the neighbours of a query are known."""
    names = [each.name for each in ROWS if each.per_query and each.context == "windows" and not each.drawn]
    if row.name not in names:  # its neighbours are those of other rows
        return n_shots
    place = names.index(row.name)
    sizes = [0, *(int(name.rsplit(maxsplit=1)[1]) for name in names)]
    return n_questions * (sizes[place + 1] - sizes[place]) * 2 // 3


def work(tasks: Sequence[Task], n_seeds: int) -> Iterator[Item]:
    """Yield all items: the first seed of all tasks, then the others."""
    for seed in range(n_seeds):
        for task in tasks:
            for row in ROWS:
                if row.drawn or seed == 0:
                    yield Item(task, row, seed)


def shares(groups: Sequence[Hashable], seconds: Sequence[float], n: int) -> list[int]:
    """Return which of `n` processes does each item: for a group of items, the one that has least to do so far."""
    of_group: dict[Hashable, float] = {}
    for group, cost in zip(groups, seconds, strict=True):
        of_group[group] = of_group.get(group, 0.0) + cost
    load = [0.0] * n
    owners = {}
    for group, cost in of_group.items():
        owners[group] = load.index(min(load))
        load[owners[group]] += cost
    return [owners[group] for group in groups]


class Measuring:
    """Measures items and keeps what was found.

    Parameters
    ----------
    folder : Path
    file : Path
        What this process writes.
    kept : Kept
    n_questions, n_shots : int
    model : Path or None
        Folder or file of a language model. None: the packaged one.
    """

    def __init__(
        self, folder: Path, file: Path, kept: Kept, n_questions: int, n_shots: int, model: Path | None
    ) -> None:
        self.folder, self.file, self.kept = folder, file, kept
        self.n_questions, self.n_shots, self.model = n_questions, n_shots, model
        self._vectors: dict[str, tuple[Known, Matrix]] = {}
        drop_cut_off_line(file)

    @cached_property
    def llm(self) -> TransformersLLM:
        """The language model, loaded when it is needed. The folder of results belongs to it."""
        llm = TransformersLLM(self.model)
        setting = {"llm": llm.name, "shots": self.n_shots}
        file = self.folder / SETTING
        if file.exists() and json.loads(file.read_text()) != setting:
            raise SystemExit(
                f"{self.folder} has results of {file.read_text()}, not of {json.dumps(setting)}. Give another folder "
                "with --results, or delete it."
            )
        file.write_text(json.dumps(setting))
        return llm

    @cached_property
    def embedder(self) -> SentenceEmbedder:
        """The embedding model."""
        return SentenceEmbedder()

    def vectors(self, task: Task) -> tuple[Known, Matrix]:
        """Return the examples with their vectors, and the vectors of the questions."""
        if task.name not in self._vectors:
            known, Q = task.vectors(self.folder, lambda: self.embedder)
            self._vectors[task.name] = known, Q[: self.n_questions]
        return self._vectors[task.name]

    def measure(self, item: Item) -> None:
        """Answer the questions of an item, and read what its calibrations need."""
        task, row, seed = item
        known, Q = self.vectors(task)
        select = row.fit(known, seed, self.n_shots).select
        shown = [select(vector) for vector in Q]
        of: dict[Ids, list[int]] = {}
        for place, prompt in enumerate(shown):
            of.setdefault(prompt, []).append(place)
        scores = np.empty((len(Q), len(task.options)))
        for prompt, places in of.items():  # the questions of one prompt together, while it is warm
            for place in places:
                scores[place] = self._scores(task, prompt, task.questions[place].input, row.context)
            for after in dict.fromkeys(each for c in row.calibrations for each in reference(prompt, c)):
                self._read_free(task, row.context, after)
        prompts = list(of)
        numbers = {prompt: number for number, prompt in enumerate(prompts)}
        record = {"row": row.name, "seed": seed, "prompts": prompts, "of": [numbers[prompt] for prompt in shown]}
        self._write(task, record | {"scores": scores.round(4).tolist()})

    def measure_heads(self, task: Task) -> None:
        """Answer without a language model."""
        known, Q = self.vectors(task)
        for name, fit in CLASSIFIERS.items():
            if (task.name, name, 0) not in self.kept.runs:
                scores = fit(known, task.options)(Q).round(4).tolist()
                self._write(task, {"row": name, "seed": 0, "prompts": [()], "of": [0] * len(scores), "scores": scores})

    def _read_free(self, task: Task, context: Context, prompt: Ids) -> None:
        """Keep the scores of the options after inputs without content."""
        if (task.name, context, prompt) not in self.kept.free:
            free = np.stack([self._scores(task, prompt, text, context) for text in CONTENT_FREE])
            self._write(task, {"context": context, "prompt": prompt, "free": free.round(4).tolist()})

    def _scores(self, task: Task, prompt: Ids, query: str, context: Context) -> Matrix:
        found = self.llm.choose(task.prompt(prompt, query, context), task.options).scores
        return np.array([found[option] for option in task.options])

    def _write(self, task: Task, record: dict[str, object]) -> None:
        record = {"task": task.name, "data": task.digest, **record}
        with self.file.open("a") as file:
            file.write(json.dumps(record, separators=(",", ":")) + "\n")
        self.kept.add(record, task.name, min(self.n_questions, len(task.questions)))


def drop_cut_off_line(file: Path) -> None:
    """Drop the last line of a file if the process that wrote it was stopped within the line."""
    if file.exists():
        content = file.read_bytes()
        if not content.endswith(b"\n"):
            file.write_bytes(content[: content.rfind(b"\n") + 1])


def measure_all(measuring: Measuring, tasks: Sequence[Task], n_seeds: int, part: int, n_parts: int) -> None:
    """Measure what is missing."""
    items = list(work(tasks, n_seeds))
    seconds = [item.seconds(measuring.n_questions, measuring.n_shots) for item in items]
    owners = shares([item.group for item in items], seconds, n_parts)
    mine = [
        (item, cost)
        for item, cost, owner in zip(items, seconds, owners, strict=True)
        if owner == part and item.key not in measuring.kept.runs
    ]
    left = sum(cost for _, cost in mine) / 3600
    say(f"{len(mine)} of {len(items)} measurements to do here, about {left:.2f} processor hours")
    if part == 0:
        for task in tasks:
            measuring.measure_heads(task)
    for number, (item, _) in enumerate(mine, 1):
        start = time.process_time()
        measuring.measure(item)
        took = time.process_time() - start
        say(f"{number}/{len(mine)}: {item.task.name}, {item.row.name}, seed {item.seed}: {took:.0f} processor seconds")


def say(text: str) -> None:
    """Report progress; the table alone goes to stdout."""
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a BIG-bench task with options, or a folder of tasks")
    parser.add_argument("--tasks", nargs="+", help="names of tasks; all others are left out")
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--questions", type=int, default=100, help="at most 150 are there")
    parser.add_argument("--part", default="1/1", help="which share of the work: 1/2 and 2/2 for two processes")
    parser.add_argument("--report", action="store_true", help="print the table of what is there, measure nothing")
    parser.add_argument("--cost", action="store_true", help="measure what a query costs, on a quiet machine")
    parser.add_argument("--cost-questions", type=int, default=30)
    parser.add_argument("--llm", type=Path, help="folder or file of a language model; default: the packaged one")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--pack", action="store_true", help="put all rows of the folder of results into the repository")
    parser.add_argument("--picture", type=Path, help="draw score against cost")
    return parser.parse_args()


def chosen_tasks(data: Path | None, names: Sequence[str] | None) -> list[Task]:
    """Return the tasks, or those of some names."""
    tasks = tasks_of(data)
    unknown = [name for name in names or () if name not in {task.name for task in tasks}]
    if unknown:
        raise SystemExit(f"no task {unknown[0]!r}. There are {', '.join(task.name for task in tasks)}.")
    return [task for task in tasks if names is None or task.name in names]


def main() -> None:
    """Measure what is missing, and print the table."""
    args = arguments()
    tasks = chosen_tasks(args.data, args.tasks)
    part, n_parts = map(int, args.part.split("/"))
    args.results.mkdir(parents=True, exist_ok=True)
    if args.results == RESULTS:
        unpack(RESULTS)
    if args.pack:
        pack(args.results)
        return
    kept = Kept.read(args.results, tasks, args.questions)
    file = args.results / f"part-{part}-of-{n_parts}.jsonl"
    measuring = Measuring(args.results, file, kept, args.questions, args.shots, args.llm)
    costs = Costs(args.results / "cost.json")
    if args.cost:
        for task in tasks:
            found = measure_costs(
                task, measuring.vectors(task)[0], measuring.llm, measuring.embedder, args.cost_questions, args.shots
            )
            costs.keep(task, found)
    elif not args.report:
        measure_all(measuring, tasks, args.seeds, part - 1, n_parts)
    if n_parts == 1:
        report = Report(kept, tasks, args.questions)
        print(report.table(costs.of(tasks)))
        print(f"\n{costs.table(tasks)}")
        if args.picture and costs.of(tasks):
            from accuracy_picture import draw

            draw(report, costs.of(tasks), args.picture)


if __name__ == "__main__":
    main()
