"""The facade and the examples that go in and out of it: numbers, BIG-bench tasks, exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from erase_core.errors import DataError, IdKindError, ParameterError, StoreError
from erase_core.examples.example import Example
from erase_core.examples.reading import read_examples
from erase_core.llm.prompt import Template
from small_stores import check_refused, create, example, new_path, reopened, seen, some


def test_examples_are_numbered_as_far_as_numbers_go(path: Path) -> None:
    erase = create(path, [example(2**63 - 3)])
    row = {"input": "a", "output": "b"}
    check_refused(erase, lambda: erase.ingest([row] * 3), DataError, "2**63 - 1", "id")
    erase.ingest([row] * 2)
    check_refused(erase, lambda: erase.ingest([row]), DataError, "2**63 - 1", "id")


@pytest.mark.parametrize(("stored", "given", "wanted"), [(1, "a", "an integer"), ("a", 1, "text")])
def test_ids_of_the_other_kind_are_refused_with_the_kind_to_give(
    path: Path, stored: Any, given: Any, wanted: str
) -> None:
    erase = create(path, [example(stored)])
    check_refused(
        erase, lambda: erase.ingest([example(given)]), IdKindError, f"Give every example an id that is {wanted}."
    )


def test_a_tasks_template_and_options_are_taken_at_the_creation_or_not_at_all(path: Path) -> None:
    scores = [{"input": f"task {i}", "target_scores": {"yes": i % 2, "no": 1 - i % 2}} for i in range(4)]
    task = path.parent / "task.json"
    task.write_text(json.dumps({"example_input_prefix": "In: ", "example_output_prefix": "Out: ", "examples": scores}))
    erase = create(path, some(3))
    # What an ingest brought besides examples would stay when they are forgotten.
    erase.ingest(task)
    assert erase.prompt("who").template == Template()
    check_refused(erase, lambda: erase.choose("who"), ParameterError, "options")
    reading = read_examples(task)
    with new_path() as other, create(other, template=reading.template, options=reading.options) as with_them:
        with_them.ingest(task)
        assert with_them.choose("who").scores.keys() == {"yes", "no"}
        assert with_them.prompt("who").text.endswith("In: who\nOut:")
        assert with_them.settings == reopened(other).settings


@pytest.mark.parametrize("ids", [range(8), [str(i) for i in range(8)]], ids=["integers", "texts"])
def test_an_export_is_what_makes_the_same_store(path: Path, ids: Any) -> None:
    lines = 'one\r\ntwo\u2028three \U0001f600 "four" \\ five'
    examples = [Example(i, f"{i} {lines}", lines, lines if k % 2 else None, "ann") for k, i in enumerate(ids)]
    erase = create(path, examples)
    file = path.parent / "export.jsonl"
    assert erase.export(file) == 8
    with new_path() as other, create(other) as again:
        again.ingest(file)
        assert seen(again) == seen(erase)
    before = file.read_bytes()
    check_refused(erase, lambda: erase.export(file), StoreError, str(file), "Choose another file.")
    assert file.read_bytes() == before
