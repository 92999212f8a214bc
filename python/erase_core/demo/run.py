"""The steps of the demo: ingest, answer, forget a customer, prove it. Printing is left to `screen`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from erase_core import checks
from erase_core.demo.outcome import Outcome, Rebuilt, Score
from erase_core.demo.screen import Screen
from erase_core.embedding.sentence import Embedder, SentenceEmbedder
from erase_core.erase import Erase
from erase_core.examples.example import AnyExample
from erase_core.examples.reading import read_examples
from erase_core.llm import LLM, TransformersLLM
from erase_core.progress import waiting
from erase_core.settings import GivenSettings
from erase_core.verify.forms import forms_of_text
from erase_core.verify.search import search

__all__ = ["Outcome", "Score", "run_demo"]

DATA = Path(__file__).parent
# How demonstrations are selected and read, by the names in the table. None: there are none. The last is the default.
SELECTIONS: dict[str, GivenSettings | None] = {
    "none": None,
    "a random draw, the same for all": {"strategy": "random"},
    "nearest to the centres, the same for all (ERASE)": {"strategy": "kmeans"},
    "nearest to the centres, a prompt for each region": {"strategy": "routed"},
    "nearest to the question, in one prompt": {"strategy": "knn", "context": "joint"},
    "nearest to the question, each by itself (default)": {},
}
DEFAULT = next(reversed(SELECTIONS))


class Remembering:
    """An embedder with a cache for examples. A vector depends only on its text, so the cache changes no result."""

    def __init__(self, embedder: SentenceEmbedder) -> None:
        self.name, self.dim, self._embedder = embedder.name, embedder.dim, embedder
        self._known: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        """Return the vectors of texts."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update(zip(new, self._embedder.embed(new, progress=progress), strict=True))
        return np.stack([self._known[text] for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of queries."""
        return self._embedder.embed_queries(texts)


class Demo:
    """The steps of the demo, with shared data and models.

    Parameters
    ----------
    folder : Path
        Folder for the stores.
    n_shots, seed : int
    screen : Screen
    """

    def __init__(self, folder: Path, n_shots: int, seed: int, screen: Screen) -> None:
        self.folder, self.n_shots, self.seed, self.screen = folder, n_shots, seed, screen
        self.examples = read_examples(DATA / "examples.jsonl").examples
        self.options = sorted({example.output for example in self.examples})
        with waiting("Loading the models; the first time, this takes half a minute longer"):
            self.embedder = SentenceEmbedder()
            self.llm: LLM = TransformersLLM()
        self.remembering = Remembering(self.embedder)

    def new_store(self, folder: Path, settings: GivenSettings | None = None, embedder: Embedder | None = None) -> Erase:
        """Create a store."""
        common: GivenSettings = {
            "n_shots": self.n_shots,
            "seed": self.seed,
            "options": self.options,
            "embedder": embedder or self.remembering,
            "llm": self.llm,
        }
        given: GivenSettings = {**common, **(settings or {})}
        return Erase.create(folder, **given)

    def score(self, main: Erase, selection: str, questions: Sequence[AnyExample]) -> Score:
        """Answer questions with one selection of demonstrations, and measure the time of a query that is not the first.

        What the language model keeps of demonstrations is computed before, so that it is not part of the time.
        """
        settings = SELECTIONS[selection]
        with ExitStack() as stack:
            if selection == DEFAULT:
                store = main
            else:
                store = stack.enter_context(self.new_store(self.folder / selection, settings))
                if settings is not None:
                    store.ingest(self.examples)
            if store.settings.strategy == "routed" or selection == DEFAULT:
                for question in self.screen.track(questions, f"Reading: {selection}"):
                    store.choose(question.input)
            n_right, seconds = 0, []
            for question in self.screen.track(questions, f"Asking: {selection}"):
                start = perf_counter()
                n_right += store.choose(question.input).option == question.output
                seconds.append(perf_counter() - start)
        return Score(selection, n_right, len(questions), median(seconds))

    def rebuild(self, main: Erase, subject: str, questions: Sequence[str]) -> Rebuilt:
        """Build a store that never contained the subject, with newly computed vectors, and compare the two stores."""
        survivors = [example for example in self.examples if example.subject != subject]
        answered = main.choose(questions[0])
        self.llm.forget()
        start = perf_counter()
        with self.new_store(self.folder / "rebuilt", embedder=self.embedder) as other:
            other.ingest(survivors, progress=True)
            seconds = perf_counter() - start
            digest = other.status().digest
            return Rebuilt(
                digest=digest,
                digests_equal=digest == main.status().digest,
                prompts_equal=other.prompt_many(questions) == main.prompt_many(questions),
                scores_equal=other.choose(questions[0]).scores == answered.scores,
                seconds=seconds,
            )


def run_demo(
    folder: Path | None = None, *, n_questions: int = 25, n_shots: int = 10, seed: int = 0, quiet: bool = False
) -> Outcome:
    """Run the demo and print its results.

    Parameters
    ----------
    folder : Path or None, default=None
        Folder to keep the store in. None: a temporary folder, deleted at the end.
    n_questions : int, default=25
        Size of the sample of test questions, at most 140.
    n_shots, seed : int
        See `Settings`. The seed also draws the sample of questions.
    quiet : bool, default=False
        Print nothing.

    Raises
    ------
    ParameterError
        `n_questions` is out of range.
    EraseError
        A model or the store cannot be used.
    """
    checks.supported("the demo")
    start = perf_counter()
    pool = read_examples(DATA / "questions.jsonl").examples
    questions = random.Random(seed).sample(pool, checks.integer("questions", n_questions, 1, len(pool)))
    screen = Screen(quiet=quiet)
    with TemporaryDirectory(prefix="erase-demo-") as temporary, ExitStack() as stack:
        demo = Demo(Path(temporary), n_shots, seed, screen)
        main = stack.enter_context(demo.new_store(folder or demo.folder / "store"))
        screen.ingested(main.ingest(demo.examples, progress=not quiet), main.status())
        asked = [question.input for question in questions]
        screen.demonstrations(asked[0], main.demonstrations(asked[0]))

        scores = [demo.score(main, selection, questions) for selection in SELECTIONS]
        screen.scores(scores, demo.llm.name)

        before = main.demonstrations(asked[0])
        subject = next(shown.subject for shown in reversed(before) if shown.subject is not None)
        gone = [example for example in demo.examples if example.subject == subject]
        forgotten = main.forget(subject=subject)
        screen.forgotten(subject, forgotten, before, main.demonstrations(asked[0]))

        verification = main.verify(absent=[example.input for example in gone])
        n_traces = _traces(Path(main.status().folder), gone)
        rebuilt = demo.rebuild(main, subject, asked)
        status = main.status()
        outcome = Outcome(
            folder=status.folder,
            n_shots=n_shots,
            seed=seed,
            model=demo.llm.name,
            scores=scores,
            subject=subject,
            forgotten=forgotten,
            n_traces=n_traces,
            verification=verification,
            rebuilt=rebuilt,
            bytes=status.bytes,
            seconds=perf_counter() - start,
        )
        screen.proof(outcome)
    return outcome


def _traces(folder: Path, gone: Sequence[AnyExample]) -> int:
    """Return how many of the forgotten texts are in a file of a folder."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return len({finding.number for finding in search(files, [forms_of_text(example.input) for example in gone])})
