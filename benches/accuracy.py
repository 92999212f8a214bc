"""How well a small model answers with demonstrations by each strategy: the table of docs/accuracy.md.

    make accuracy                                shipped support-desk data
    make accuracy DATA=intent_recognition.json   a BIG-bench task with options

Examples and test questions are split once; seeds are those of the strategies. Beside them: no examples, and those
nearest to the centres of scikit-learn's KMeans (Auto-CoT's way). Times are of a warm query.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import erase_core
import numpy as np
from erase_core import QKMeans
from erase_core.embedding.sentence import SentenceEmbedder
from erase_core.examples.example import Example
from erase_core.examples.reading import read_examples
from erase_core.llm import LLM, TransformersLLM
from erase_core.llm.prompt import Prompt, Template
from erase_core.selection import SELECTORS
from erase_core.settings import Strategy
from measure import Matrix
from sklearn.cluster import KMeans

DEMO = Path(erase_core.__file__).with_name("demo")
Choose = Callable[[str, Matrix], Sequence[Example]]


def split(data: Path | None, n_questions: int) -> tuple[list[Example], list[Example], tuple[str, ...], Template]:
    """Return examples, test questions, options and template; integer ids by position."""
    if data is None:
        examples, questions = (
            [example for example in read_examples(DEMO / name).examples if isinstance(example, Example)]
            for name in ("examples.jsonl", "questions.jsonl")
        )
        return examples, questions[:n_questions], tuple(sorted({e.output for e in examples})), Template()
    reading = read_examples(data)
    order = np.random.default_rng(0).permutation(len(reading.examples)).tolist()
    every = [Example(i, e.input, e.output) for i, e in enumerate(reading.examples)]
    chosen = [every[i] for i in order]
    template = Template.from_dict({**reading.template, "instruction": ""})
    return chosen[n_questions:], chosen[:n_questions], reading.options, template


def by_strategy(strategy: Strategy, examples: list[Example], X: Matrix, seed: int, n_shots: int) -> Choose:
    """One of ours."""
    ids = [example.id for example in examples if example.id is not None]
    model = QKMeans(n_shots, max_norm=1.0, random_state=seed).fit(X, ids=ids)  # type: ignore[arg-type]
    known = dict(zip(ids, examples, strict=True))
    selector = SELECTORS[strategy]
    if selector.per_query:
        return lambda _, vector: [known[id_] for id_ in selector.select(model._model, n_shots, seed, vector)]
    shared = [known[id_] for id_ in selector.select(model._model, n_shots, seed, None)]
    return lambda _, vector: shared


def by_scikit_learn(examples: list[Example], X: Matrix, seed: int, n_shots: int) -> Choose:
    """Nearest to the centres of scikit-learn's KMeans, run to convergence from its best of ten starts."""
    peer = KMeans(n_shots, n_init=10, random_state=seed).fit(X)
    shared = [examples[int(i)] for i in peer.transform(X).argmin(axis=0)]
    return lambda _, vector: shared


def accuracy(
    llm: LLM, choose: Choose, questions: list[Example], vectors: Matrix, options: Sequence[str], template: Template
) -> tuple[float, float]:
    """Share of right answers, and the median seconds of a query."""
    right, seconds = 0, []
    for question, vector in zip(questions, vectors, strict=True):
        prompt = Prompt(template, tuple(choose(question.input, vector)), question.input)
        start = time.perf_counter()
        right += llm.choose(prompt, options).option == question.output
        seconds.append(time.perf_counter() - start)
    return right / len(questions), statistics.median(seconds)


def interval(values: list[float], n_questions: int) -> str:
    """Mean with a 95 % interval: over seeds, or over questions where there is one value."""
    mean = statistics.mean(values)
    if len(values) > 1:
        half = 1.96 * statistics.stdev(values) / len(values) ** 0.5
        return f"{mean:.3f} ± {half:.3f} ({min(values):.2f} to {max(values):.2f})"
    return f"{mean:.3f} ± {1.96 * (mean * (1 - mean) / n_questions) ** 0.5:.3f}"


def cost_of_demonstrations(
    choose: Choose, questions: list[Example], options: Sequence[str], template: Template
) -> float:
    """Time of a warm query with demonstrations over that of one without: two models, in turns."""
    shared = tuple(choose("", np.empty(0, dtype=np.float32)))
    pairs = [(TransformersLLM(), shared, []), (TransformersLLM(), (), [])]  # type: ignore[var-annotated]
    for question in questions:
        for llm, demonstrations, times in pairs:
            start = time.perf_counter()
            llm.choose(Prompt(template, demonstrations, question.input), options)
            times.append(time.perf_counter() - start)
    # The first finds cold caches.
    with_them, without = (statistics.median(times[1:]) for _, _, times in pairs)
    return float(with_them / without)


def main() -> None:
    """Print the table, write results/accuracy.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a BIG-bench task with options")
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--questions", type=int, default=150)
    args = parser.parse_args()
    examples, questions, options, template = split(args.data, args.questions)
    embedder, llm = SentenceEmbedder(), TransformersLLM()
    X = embedder.embed([example.input for example in examples])
    vectors = embedder.embed_queries([question.input for question in questions])
    makers: dict[str, Callable[[int], Choose]] = {
        "no examples": lambda seed: lambda _, vector: (),
        "knn": lambda seed: by_strategy("knn", examples, X, seed, args.shots),
        "kmeans": lambda seed: by_strategy("kmeans", examples, X, seed, args.shots),
        "scikit-learn's k-means": lambda seed: by_scikit_learn(examples, X, seed, args.shots),
        "random": lambda seed: by_strategy("random", examples, X, seed, args.shots),
    }
    print(
        f"{len(examples)} examples, {len(questions)} questions, {len(options)} options, {args.shots} shots, {llm.name}"
    )
    print("\n| demonstrations | accuracy | seeds | seconds a query |\n|---|---|---|---|", flush=True)
    results = {}
    for name, maker in makers.items():
        # The first two do not depend on the seed.
        seeds = 1 if name in ("no examples", "knn") else args.seeds
        runs = [accuracy(llm, maker(seed), questions, vectors, options, template) for seed in range(seeds)]
        found, seconds = [run[0] for run in runs], statistics.median(run[1] for run in runs)
        results[name] = {"accuracy": found, "seconds": seconds}
        print(f"| {name} | {interval(found, len(questions))} | {seeds} | {seconds:.3f} |", flush=True)
    ratio = cost_of_demonstrations(makers["kmeans"](0), questions[:40], options, template)
    print(f"\na warm query with {args.shots} demonstrations takes {ratio:.2f} times one without")
    folder = Path(__file__).with_name("results")
    folder.mkdir(exist_ok=True)
    (folder / "accuracy.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
