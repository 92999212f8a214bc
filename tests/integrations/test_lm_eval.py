"""lm-evaluation-harness: the sampler in real runs, what it refuses, and what is kept of a removed text."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from canary_stores import GONE, canary_store, query
from erase_core import Erase
from erase_core.errors import ParameterError
from erase_core.integrations.lm_eval import sampler_of
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.caching import cache
from lm_eval.tasks import TaskManager
from reachable import canary, holders
from small_stores import refused

SHOT = re.compile(r"Q: (.+)\nA: (.+)\n\n")


class Echo(LM):  # type: ignore[misc]  # lm_eval has no type hints
    """Answers with the answer of the last demonstration. Keeps the prompts if asked."""

    def __init__(self, *, keeps: bool = True) -> None:
        super().__init__()
        self.keeps, self.prompts = keeps, list[str]()

    def generate_until(self, requests: list[Instance]) -> list[str]:
        return [self._shots(request)[-1][1] for request in requests]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        likely = [request.args[1].strip() == self._shots(request)[-1][1] for request in requests]
        return [(0.0 if each else -1.0, each) for each in likely]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        raise NotImplementedError

    def _shots(self, request: Instance) -> list[tuple[str, str]]:
        if self.keeps:
            self.prompts.append(request.args[0])
        return SHOT.findall(request.args[0]) or [("", "none")]


def documents(**options: Any) -> Any:
    """Two questions, of which the first is near the example that is removed."""
    rows = [{"input": query(i), "output": f"answer {i}"} for i in range(2)]
    return datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)})


def task(erase: Erase, **changes: Any) -> dict[str, Any]:
    return {
        "task": "desk",
        "custom_dataset": documents,
        "test_split": "test",
        "fewshot_split": "test",
        "doc_to_text": "Q: {{input}}\nA:",
        "doc_to_target": "{{output}}",
        "num_fewshot": erase.settings.n_shots,
        "fewshot_config": {"sampler": sampler_of(erase)},
        "output_type": "generate_until",
        "generation_kwargs": {"until": ["\n"]},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        **changes,
    }


def run(config: Any, model: LM, **options: Any) -> dict[str, Any]:
    manager = TaskManager(include_defaults=False, include_path=options.pop("include_path", None))
    results: dict[str, Any] | None = simple_evaluate(
        model, tasks=[config], task_manager=manager, bootstrap_iters=0, **options
    )
    assert results is not None
    return results


def shown(model: Echo) -> list[list[tuple[str, str]]]:
    return [SHOT.findall(prompt) for prompt in model.prompts]


def expected(erase: Erase) -> list[list[tuple[str, str]]]:
    return [[(each.input, each.output) for each in erase.demonstrations(query(i))] for i in range(2)]


@pytest.fixture
def erase(path: Path) -> Iterator[Erase]:
    with canary_store(path) as erase:
        yield erase


# ---- what is shown ----
def test_each_document_has_its_demonstrations_before_and_after_a_removal(erase: Erase) -> None:
    for _ in range(2):
        model = Echo()
        results = run(task(erase), model)
        assert shown(model) == expected(erase)
        assert results["n-samples"]["desk"]["effective"] == 2
        erase.forget(subject=GONE, on_missing="skip")
    assert canary(0) not in str(model.prompts)


def test_the_score_is_that_of_the_demonstrations(path: Path) -> None:
    """The model answers with the last answer that it is shown, which is right for one of two documents."""
    with canary_store(path, n_shots=1) as erase:
        erase.forget(subject=GONE)
        erase.ingest([{"id": 90, "input": f"{query(0)} please", "output": "answer 0"}])
        last = [erase.demonstrations(query(i))[-1].output for i in range(2)]
        assert last[0] == "answer 0"
        score = sum(last[i] == f"answer {i}" for i in range(2)) / 2
        assert run(task(erase), Echo())["results"]["desk"]["exact_match,none"] == score == 0.5


def test_a_multiple_choice_has_them_too(path: Path) -> None:
    options = ["refund", "delivery"]
    with canary_store(path, n_shots=1) as erase:
        erase.forget([each.id for each in erase.examples()])
        erase.ingest([{"input": f"{query(i)} please", "output": options[i]} for i in range(2)])

        def rows(**_: Any) -> Any:
            asked = [{"input": query(i), "output": options[i]} for i in range(2)]
            return datasets.DatasetDict({"test": datasets.Dataset.from_list(asked)})

        accuracy = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
        config = task(erase, custom_dataset=rows, doc_to_choice=options, metric_list=[accuracy])
        config |= {"output_type": "multiple_choice"}
        del config["generation_kwargs"]
        assert run(config, Echo())["results"]["desk"]["acc,none"] == 1.0


TASK_FILE = """
task: desk
custom_dataset: !function desk_store.documents
test_split: test
fewshot_split: test
doc_to_text: "Q: {{input}}\\nA:"
doc_to_target: "{{output}}"
num_fewshot: 2
fewshot_config:
  sampler: !function desk_store.sampler
output_type: generate_until
generation_kwargs:
  until: ["\\n"]
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""
PROGRAM = """
import datasets
from canary_stores import UnrecordedEmbedder, query
from erase_core import Erase
from erase_core.integrations.lm_eval import sampler_of

erase = Erase.open({path!r}, embedder=UnrecordedEmbedder())
sampler = sampler_of(erase)

def documents(**_):
    rows = [{{"input": query(i), "output": f"answer {{i}}"}} for i in range(2)]
    return datasets.DatasetDict({{"test": datasets.Dataset.from_list(rows)}})
"""


def test_a_task_file_names_the_sampler(erase: Erase, path: Path, tmp_path: Path) -> None:
    (tmp_path / "desk.yaml").write_text(TASK_FILE)
    (tmp_path / "desk_store.py").write_text(PROGRAM.format(path=str(path)))
    model = Echo()
    run("desk", model, include_path=str(tmp_path))
    assert shown(model) == expected(erase)
    sys.modules[str(tmp_path / "desk_store")].erase.close()


def test_keys_are_those_of_fields(erase: Erase) -> None:
    sampler = sampler_of(erase, fields={"input": "question", "output": "answer"})()
    shown = sampler.sample(2, {"question": query(0)})
    assert [list(each) for each in shown] == [["id", "question", "answer", "rationale"]] * 2
    assert [each["question"] for each in shown] == [each.input for each in erase.demonstrations(query(0))]


def test_the_question_is_a_key_or_what_a_function_returns(erase: Erase) -> None:
    named, made = sampler_of(erase, query="text")(), sampler_of(erase, query=lambda document: document["text"][1:])()
    assert named.sample(2, {"text": query(0)}) == made.sample(2, {"text": f"#{query(0)}"})


def test_the_document_itself_is_not_among_its_demonstrations(erase: Erase) -> None:
    erase.ingest([{"id": 90, "input": query(0), "output": "the answer"}])
    assert 90 in [each.id for each in erase.demonstrations(query(0))]
    shown = sampler_of(erase)().sample(2, {"input": query(0)})
    assert [each["id"] for each in shown] == [each.id for each in erase.demonstrations(query(0)) if each.id != 90]


def test_no_document_is_needed_if_all_get_the_same_prompt(path: Path) -> None:
    with canary_store(path, strategy="kmeans") as erase:
        model = Echo()
        split = {"sampler": sampler_of(erase), "split": None, "samples": [{"input": "", "output": ""}]}
        run(task(erase, fewshot_split=None, fewshot_config=split), model)
        assert shown(model) == [[(each.input, each.output) for each in erase.demonstrations()]] * 2


# ---- what is refused ----
def test_what_does_not_fit_is_refused(erase: Erase) -> None:
    refused(lambda: run(task(erase, num_fewshot=5), Echo()), ParameterError, "5", "num_fewshot=2")
    other = {"sampler": sampler_of(erase), "samples": [{"input": "", "output": ""}]}
    without = task(erase, fewshot_split=None, fewshot_config=other)
    refused(lambda: run(without, Echo()), ParameterError, "fewshot_split")
    unnamed = task(erase, fewshot_config={"sampler": sampler_of(erase, query="question")})
    refused(lambda: run(unnamed, Echo()), ParameterError, "'question'", "input, output")
    refused(lambda: sampler_of("store"), ParameterError, "Erase.open")  # type: ignore[arg-type]
    refused(lambda: sampler_of(erase, fields={"question": "input"}), ParameterError, "'question'")
    assert run(task(erase, num_fewshot=0), Echo())["n-samples"]["desk"]["effective"] == 2


# ---- what is left of a removed text ----
def test_after_a_removal_nothing_holds_the_text_but_samples(erase: Erase) -> None:
    """The harness itself keeps nothing. Its result has the prompts, if it logs samples, as it does unless told not."""
    needle, config = canary(0), task(erase)
    results = run(config, Echo(keeps=False), log_samples=False)
    logged = run(config, Echo(keeps=False))
    assert needle in json.dumps(logged["samples"], default=str)
    erase.forget(subject=GONE)
    assert holders(needle) != []
    del logged["samples"]
    assert holders(needle) == []
    assert results["results"]["desk"].keys() == logged["results"]["desk"].keys()


def test_the_cache_of_requests_keeps_showing_what_was_forgotten_until_it_is_deleted(
    erase: Erase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it must be off, as it is by default."""
    monkeypatch.setattr(cache, "PATH", str(tmp_path / "cache"))
    run(task(erase), Echo())
    assert not (tmp_path / "cache").exists()
    run(task(erase), Echo(), cache_requests=True)
    erase.forget(subject=GONE)
    stale, renewed = Echo(), Echo()
    run(task(erase), stale, cache_requests=True)
    assert canary(0) in str(stale.prompts)
    assert canary(0).encode() in b"".join(file.read_bytes() for file in (tmp_path / "cache").iterdir())
    cache.delete_cache()
    assert list((tmp_path / "cache").iterdir()) == []
    run(task(erase), renewed, cache_requests=True)
    assert canary(0) not in str(renewed.prompts)
