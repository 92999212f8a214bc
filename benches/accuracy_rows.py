"""The rows of the table of docs/accuracy.md, and the tasks: which demonstrations each row shows for a question.

A row is fitted to examples and then selects by the vector of a question. Its selection is a function of the examples,
the seed and the vector, so a removal is a fit without the example.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from erase_core import QKMeans
from erase_core.embedding.sentence import SentenceEmbedder
from erase_core.evaluate.peers import classifiers, selections
from erase_core.evaluate.tasks.loading import DEMO, distinct, template_of
from erase_core.evaluate.tasks.task import labels_of
from erase_core.examples.example import Example
from erase_core.examples.reading import read_examples
from erase_core.llm.prompt import Context, Prompt, Template
from erase_core.selection import SELECTORS
from erase_core.settings import Strategy
from measure import Matrix
from numpy.typing import NDArray
from sklearn.cluster import KMeans

DESK = "support desk"
# So many are held out of a task, or half of it if it is small. Examples do not depend on how many are asked.
HELD_OUT = 150
# What is known to work well comes first, so that an interrupted run has it.
FIRST = (DESK, "intent_recognition")

Ids = tuple[int, ...]
Calibration = Literal["prompt", "blocks", "none"]


@dataclass(frozen=True)
class Task:
    """Examples, whose ids are their positions, and questions with their right answers."""

    name: str
    examples: list[Example]
    questions: list[Example]
    options: tuple[str, ...]
    template: Template

    @property
    def digest(self) -> str:
        """A hash of all texts. What was measured with others is not used."""
        texts = [[(e.input, e.output) for e in part] for part in (self.examples, self.questions)]
        return hashlib.sha256(repr((texts, self.options, self.template)).encode()).hexdigest()[:16]

    def prompt(self, ids: Ids, query: str, context: Context = "joint") -> Prompt:
        """Return a prompt that shows examples."""
        return Prompt(self.template, tuple(self.examples[id_] for id_ in ids), query, context)

    def vectors(self, folder: Path, embed: Callable[[], SentenceEmbedder]) -> tuple[Known, Matrix]:
        """Return the examples with their vectors, and the vectors of the questions; computed once and kept."""
        file = folder / f"vectors-{self.digest}.npz"
        if not file.exists():
            parts = [embed().embed([e.input for e in part]) for part in (self.examples, self.questions)]
            # Two processes may be here at the same time.
            own = file.with_name(f"{file.stem}-{np.random.default_rng().integers(2**32)}.npz")
            np.savez(own, examples=parts[0], questions=parts[1])
            own.replace(file)
        kept = np.load(file)
        labels = [example.output for example in self.examples]
        return Known(list(range(len(labels))), kept["examples"], labels), kept["questions"]


def support_desk() -> Task:
    """Return the task that the package ships."""
    examples, questions = (_numbered(DEMO / name) for name in ("examples.jsonl", "questions.jsonl"))
    options = tuple(sorted({example.output for example in examples}))
    return Task(DESK, examples, _shuffled(questions), options, Template())


def tasks_of(data: Path | None) -> list[Task]:
    """Return the support desk, and the task or all tasks of a folder that have one fixed set of options."""
    files = [] if data is None else sorted(data.glob("*.json")) if data.is_dir() else [data]
    tasks = [support_desk()]
    for file in files:
        reading = read_examples(file)
        if not reading.options:
            continue
        template = template_of(reading)
        every = _shuffled(_numbered(file))
        n = min(HELD_OUT, len(every) // 2)
        examples = [Example(i, e.input, e.output) for i, e in enumerate(every[n:])]
        tasks.append(Task(file.stem, examples, every[:n], reading.options, template))
    return sorted(tasks, key=lambda task: (FIRST.index(task.name) if task.name in FIRST else len(FIRST), task.name))


def _numbered(file: Path) -> list[Example]:
    """Read a file, each input once: a question must not be among the examples."""
    return [Example(i, e.input, e.output) for i, e in enumerate(distinct(read_examples(file)))]


def _shuffled(examples: list[Example]) -> list[Example]:
    return [examples[i] for i in np.random.default_rng(0).permutation(len(examples)).tolist()]


class Known(NamedTuple):
    """What rows are fitted to: ids, vectors and labels of examples."""

    ids: list[int]
    X: Matrix
    labels: list[str]

    def without(self, id_: int) -> Known:
        """Return the same without one example."""
        keep = [place for place, other in enumerate(self.ids) if other != id_]
        return self.among(keep)

    def among(self, places: Sequence[int]) -> Known:
        """Return the examples at some places."""
        return Known([self.ids[i] for i in places], self.X[list(places)], [self.labels[i] for i in places])


class Fitted(NamedTuple):
    """A fitted row: its selection by a vector, and all prompts or windows that are kept warm."""

    select: Callable[[Matrix], Ids]
    warm: list[Ids]


Fit = Callable[[Known, int, int], Fitted]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Parameters
    ----------
    name : str
    fit : callable
        Takes the examples, the seed and the number of shots.
    drawn : bool, default=False
        Whether the selection depends on the seed.
    per_query : bool, default=False
        Whether it depends on the query.
    context : {"joint", "windows"}, default="joint"
    calibrations : tuple of {"prompt", "blocks", "none"}, default=("prompt",)
        Where the content-free inputs are put: after the same prompt or windows; after each window alone; after no
        demonstrations. The first that costs a query nothing is the one in the picture.
    n_prompts : int, default=0
        How many prompts are kept warm; 0 for rows that have none.
    """

    name: str
    fit: Fit
    drawn: bool = False
    per_query: bool = False
    context: Context = "joint"
    calibrations: tuple[Calibration, ...] = ("prompt",)
    n_prompts: int = 0


def clustered(known: Known, k: int, seed: int) -> QKMeans:
    """Return the clustering that a store has."""
    return selections.clustered(known.ids, known.X, min(k, len(known.ids)), seed)


def _shared(ids: Sequence[int]) -> Fitted:
    shown = tuple(ids)
    return Fitted(lambda _: shown, [shown])


def nothing(known: Known, seed: int, n_shots: int) -> Fitted:
    """No demonstrations."""
    return _shared(())


def by_strategy(strategy: Strategy, known: Known, seed: int, n_shots: int) -> Fitted:
    """One prompt, selected by a strategy of the package."""
    model = clustered(known, n_shots, seed)._model
    return _shared([id_ for id_ in SELECTORS[strategy].select(model, n_shots, seed, None) if isinstance(id_, int)])


def by_scikit_learn(known: Known, seed: int, n_shots: int) -> Fitted:
    """Nearest to each centre of scikit-learn's k-means, run to convergence from its best of ten starts."""
    peer = KMeans(n_shots, n_init=10, random_state=seed).fit(known.X)
    return _shared([known.ids[i] for i in peer.transform(known.X).argmin(axis=0).tolist()])


def by_label(known: Known, seed: int, n_shots: int) -> Fitted:
    """One k-means for each label, with as many clusters as the label is dealt shots."""
    shots = dealt(Counter(known.labels), n_shots, seed)
    hands = []
    for label, count in shots.items():
        part = known.among([i for i, other in enumerate(known.labels) if other == label])
        hands.append([id_ for id_ in clustered(part, count, seed).exemplars_ if isinstance(id_, int)])
    return _shared([hand[turn] for turn in range(n_shots) for hand in hands if turn < len(hand)])


def dealt(counts: Counter[str], n_shots: int, seed: int) -> dict[str, int]:
    """Deal shots to labels in turn: the largest first, and equal ones in an order that the seed draws.

    A label gets at most as many as it has examples; labels without a shot are left out.
    """
    names = sorted(counts)
    drawn = dict(zip(names, np.random.default_rng(seed).permutation(len(names)).tolist(), strict=True))
    order = sorted(names, key=lambda name: (-counts[name], drawn[name]))
    shots = dict.fromkeys(order, 0)
    left = min(n_shots, counts.total())
    while left:
        for name in order:
            if left and shots[name] < counts[name]:
                shots[name] += 1
                left -= 1
    return {name: count for name, count in shots.items() if count}


def routed(n_prompts: int, nearest_last: bool, known: Known, seed: int, n_shots: int) -> Fitted:
    """A prompt for each cluster: the examples nearest to its centre."""
    model = clustered(known, n_prompts, seed)
    step = -1 if nearest_last else 1
    prompts = [tuple(id_ for id_ in near[::step] if isinstance(id_, int)) for near in model.nearest(n_shots)]
    return Fitted(lambda vector: prompts[int(model.predict(vector[None])[0])], list(dict.fromkeys(prompts)))


def neighbours(n: int | None, warm: bool, known: Known, seed: int, n_shots: int) -> Fitted:
    """The examples nearest to the query, the nearest last: `n`, or as many as shots."""
    find = _nearest(known, n or n_shots)
    return Fitted(find, [(id_,) for id_ in known.ids] if warm else [])


def with_tail(n: int, known: Known, seed: int, n_shots: int) -> Fitted:
    """The prompt of `kmeans`, and then neighbours that are not in it. Each is a window."""
    (head,) = by_strategy("kmeans", known, seed, n_shots).warm
    find = _nearest(known, n)

    def select(vector: Matrix) -> Ids:
        tail = find(vector)
        return (*(id_ for id_ in head if id_ not in tail), *tail)

    return Fitted(select, [(id_,) for id_ in known.ids])


def _nearest(known: Known, n: int) -> Callable[[Matrix], Ids]:
    model = clustered(known, 1, 0)

    def find(vector: Matrix) -> Ids:
        return tuple(model.kneighbors(vector[None], min(n, len(known.ids)))[1][0, ::-1].tolist())

    return find


def _rows() -> list[Row]:
    drawn = partial(Row, drawn=True)
    windows = partial(Row, per_query=True, context="windows")
    return [
        Row("none", nothing, n_prompts=1),
        drawn("random", partial(by_strategy, "random"), n_prompts=1),
        drawn("kmeans", partial(by_strategy, "kmeans"), n_prompts=1),
        drawn("scikit-learn's k-means", by_scikit_learn, n_prompts=1),
        drawn("by label", by_label, n_prompts=1),
        *(drawn(f"routed, {n}", partial(routed, n, True), per_query=True, n_prompts=n) for n in (4, 8, 16, 32)),
        drawn("nearest first, routed 16", partial(routed, 16, False), per_query=True, n_prompts=16),
        *(
            windows(f"windows, {n}", partial(neighbours, n, True), calibrations=("blocks", "none", "prompt"))
            for n in (1, 3, 5, 8, 16)
        ),
        windows("kmeans + 3, windows", partial(with_tail, 3), drawn=True, calibrations=("blocks", "none")),
        Row("knn", partial(neighbours, None, False), per_query=True, calibrations=("none",)),
    ]


ROWS = _rows()

# Without a language model: scores of shape (n_questions, n_options).
Scores = NDArray[np.float64]
Classify = Callable[[Matrix], Scores]


def by_classifier(make: Callable[[int], classifiers.Classifier], known: Known, options: Sequence[str]) -> Classify:
    """The scores of a classifier of the evaluation."""
    classifier = make(len(options))
    examples = [Example(id_, "", label) for id_, label in zip(known.ids, known.labels, strict=True)]
    classifier.fit(known.ids, known.X, labels_of(examples, options))
    return classifier.scores


CLASSIFIERS: dict[str, Callable[[Known, Sequence[str]], Classify]] = {
    "nearest mean (no language model)": partial(by_classifier, classifiers.NearestMean),
    "vote of 8 neighbours (no language model)": partial(by_classifier, classifiers.Vote),
    "logistic regression (no language model)": partial(by_classifier, classifiers.LogisticRegression),
}
