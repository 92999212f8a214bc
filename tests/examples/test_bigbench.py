"""BIG-bench tasks: made ones for each rule, and real ones read whole where their folder is there.

The folder is the one named by ERASE_CORE_TASKS, or ../shared/data/bbii beside the repository.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from checkout import TASKS
from erase_core.errors import ExampleError, SourceError
from erase_core.examples.example import Example, Reading
from erase_core.examples.reading import read_examples
from erase_core.llm.prompt import Prompt, Template
from hypothesis import given
from hypothesis import strategies as st
from made_examples import texts

INTENTS: dict[str, Any] = {
    "task_prefix": "Name the intent of the utterance.\n\n",
    "example_input_prefix": "",
    "example_output_prefix": "\nIntent: ",
    "few_shot_example_separator": "\n\n",
    "append_choices_to_input": False,
    "examples": [
        {"input": "Utterance: where is my parcel", "target_scores": {"shipping": 1, "refund": 0}},
        {"input": "Utterance: I want my money back", "target_scores": {"refund": 1.0, "shipping": 0.0}},
    ],
}
CHOICES = {"one": 0, "two": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


def read(folder: Path, task: dict[str, Any], **options: Any) -> Reading:
    path = folder / "task.json"
    path.write_text(json.dumps(task), "utf-8")
    return read_examples(path, **options)


def prompt(reading: Reading, query: str) -> Prompt:
    return Prompt(Template.from_dict(reading.template), tuple(cast("list[Example]", reading.examples)), query)


def test_a_task_becomes_the_prompt_that_its_prefixes_describe(folder: Path) -> None:
    reading = read(folder, INTENTS)
    assert reading.options == ("refund", "shipping")
    assert prompt(reading, "Utterance: it has not arrived").text == (
        "Name the intent of the utterance.\n\n"
        "Utterance: where is my parcel\nIntent: shipping\n\n"
        "Utterance: I want my money back\nIntent: refund\n\n"
        "Utterance: it has not arrived\nIntent:"
    )


def test_absent_prefixes_are_bigbenchs(folder: Path) -> None:
    reading = read(folder, {"examples": [{"input": "Say a.", "target": "a"}]})
    assert prompt(reading, "Say b.").text == "\nQ: Say a.\nA: a\n\nQ: Say b.\nA:"


@pytest.mark.parametrize(("target", "output"), [("a", "a"), (["b", "c"], "b")])
def test_the_target_or_the_first_of_several_is_the_output(folder: Path, target: object, output: str) -> None:
    reading = read(folder, {"examples": [{"input": "Say it.", "target": target}]})
    assert [example.output for example in reading.examples] == [output]
    assert reading.options == ()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "Pick.\n  choice: one\n  choice: two"),
        ({"append_choices_to_input": True}, "Pick.\n  choice: one\n  choice: two"),
        ({"append_choices_to_input": True, "choice_prefix": " / "}, "Pick. / one / two"),
        ({"append_choices_to_input": False}, "Pick."),
    ],
)
def test_choices_are_appended_unless_the_task_says_not_to(folder: Path, settings: dict[str, Any], text: str) -> None:
    reading = read(folder, {**settings, "examples": [{"input": "Pick.", "target_scores": CHOICES}]})
    assert [(example.input, example.output) for example in reading.examples] == [(text, "two")]


@given(st.dictionaries(texts, st.sampled_from([0, 0.5, 1]), min_size=2, max_size=5), st.data())
def test_an_example_does_not_depend_on_the_order_of_its_options(
    folder: Path, scores: dict[str, float], data: st.DataObject
) -> None:
    shuffled = dict(data.draw(st.permutations(list(scores.items()))))
    tasks = ({"examples": [{"input": "Pick.", "target_scores": each}]} for each in (scores, shuffled))
    if len(scores) > 1 and len(set(scores.values())) == 1:
        for task in tasks:
            with pytest.raises(ExampleError, match="no best option"):
                read(folder, task, skip_bad=True)
        return
    one, other = (read(folder, task) for task in tasks)
    assert one == other
    assert [scores[example.output] for example in one.examples] == [max(scores.values())]
    assert one.options == tuple(sorted(scores))


def test_options_are_those_that_all_examples_share(folder: Path) -> None:
    three = {"input": "Pick.", "target_scores": {**CHOICES, "three": 0}}
    two = {"input": "Pick.", "target_scores": CHOICES}
    free = {"input": "Say it.", "target": "one"}
    assert read(folder, {"examples": [two, two]}).options == ("one", "two")
    assert read(folder, {"examples": [two, three]}).options == ()
    assert read(folder, {"examples": [two, free]}).options == ()


BAD_EXAMPLES: dict[str, tuple[object, str | None, str]] = {
    "no answer": ({"input": "a"}, "target", "is missing, and so is target_scores"),
    "no target": ({"input": "a", "target": []}, "target", "is missing, and so is target_scores"),
    "a number as target": ({"input": "a", "target": 0.5}, "output", "must be text or an integer, got float"),
    "no input": ({"target": "a"}, "input", "is missing"),
    "blank input with choices": ({"input": " ", "target_scores": CHOICES}, "input", "is empty"),
    "no options": ({"input": "a", "target_scores": {}}, "target_scores", "must give each option a number"),
    "a list of options": ({"input": "a", "target_scores": ["b"]}, "target_scores", "must give each option a number"),
    "true as a score": (
        {"input": "a", "target_scores": {"b": True}},
        "target_scores",
        "must give each option a number",
    ),
    "NaN as a score": (
        {"input": "a", "target_scores": {"b": float("nan"), "c": 1}},
        "target_scores",
        "must give each option a number",
    ),
    "all equal": (
        {"input": "a", "target_scores": {"b": 0, "c": 0}},
        "target_scores",
        "has no best option, all scores are equal",
    ),
    "a text": ("a", None, "must be an object with named fields, got str"),
}


@pytest.mark.parametrize(("example", "field", "reason"), BAD_EXAMPLES.values(), ids=BAD_EXAMPLES)
def test_a_bad_example_is_one_bad_row(folder: Path, example: object, field: str | None, reason: str) -> None:
    good = {"input": "Pick.", "target_scores": CHOICES}
    reading = read(folder, {"examples": [good, example]}, skip_bad=True)
    assert [(row.line, row.unit, row.field, row.reason) for row in reading.skipped] == [(2, "row", field, reason)]
    assert len(reading.examples) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"task_prefix": None}, "task_prefix must be text, got NoneType"),
        ({"example_output_prefix": 3}, "example_output_prefix must be text, got int"),
        ({"append_choices_to_input": "false"}, "append_choices_to_input must be true or false, got str"),
        ({"examples": {}}, "must be a list of objects, or a BIG-bench task"),
        ({"examples": []}, "has no rows"),
    ],
)
def test_a_task_of_other_types_is_refused(folder: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(folder, {**INTENTS, **settings})
    assert words in str(caught.value)


def test_ids_and_subjects_of_a_task_are_read_under_any_name(folder: Path) -> None:
    examples = [{"nr": 4, "input": "Say a.", "target": "a", "customer": "ann"}]
    reading = read(folder, {"examples": examples}, fields={"id": "nr", "subject": "customer"})
    assert [(example.id, example.subject) for example in reading.examples] == [(4, "ann")]


def test_every_real_task_is_read_whole() -> None:
    paths = sorted(TASKS.glob("*.json"))
    if not paths:
        pytest.skip(f"no task files in {TASKS}")
    for path in paths:
        task = json.loads(path.read_text("utf-8"))
        reading = read_examples(path)
        assert len(reading.examples) == len(task["examples"])
        text = prompt(Reading(reading.examples[:2], [], template=reading.template), "a query").text
        assert text.startswith(task["task_prefix"].strip())
        assert all(f" {example.output}" in text for example in reading.examples[:2])
