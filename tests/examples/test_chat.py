"""Chats in OpenAI's form: what becomes question, answer and instruction, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from erase_core.errors import ParameterError
from erase_core.examples.example import Example, NewExample
from erase_core.examples.reading import read_examples
from erase_core.llm.prompt import Template
from hypothesis import given
from hypothesis import strategies as st
from made_examples import refused, texts

Chat = list[dict[str, Any]]
FORMAT = {"format": "openai-chat"}
HELLO: Chat = [{"role": "user", "content": "where is my parcel?"}, {"role": "assistant", "content": "delivery"}]
SYSTEM: Chat = [{"role": "system", "content": "Sort the tickets."}]


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_a_question_and_its_answer_are_an_example(pairs: list[tuple[str, str]]) -> None:
    rows = [
        {"id": i, "subject": "ann", "messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for i, (q, a) in enumerate(pairs)
    ]
    read = read_examples(rows, format="openai-chat")
    assert read.examples == [Example(i, q, a, subject="ann") for i, (q, a) in enumerate(pairs)]
    assert (read.notes, read.template) == ((), {})


def test_a_file_of_chats_is_read_as_it_is_and_by_any_table(tmp_path: Path) -> None:
    rows = [{"id": 7, "messages": HELLO, "subject": "ann"}, {"id": 9, "messages": SYSTEM + HELLO, "subject": None}]
    examples = [
        Example(7, "where is my parcel?", "delivery", subject="ann"),
        Example(9, "where is my parcel?", "delivery"),
    ]
    path = written(tmp_path, *rows)
    pd.DataFrame(rows).to_parquet(tmp_path / "chats.parquet")
    sources = [path, path.open("rb"), rows, pd.DataFrame(rows), pa.Table.from_pylist(rows)]
    sources.append(pd.read_parquet(tmp_path / "chats.parquet"))
    polars = pytest.importorskip("polars", reason="polars is not installed")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    sources += [polars.DataFrame(rows), datasets.Dataset.from_list(rows)]
    for source in sources:
        assert read_examples(source, format="openai-chat").examples == examples
    sources[1].close()
    assert read_examples(path, **FORMAT, fields={"subject": "id"}).examples[0].subject == "7"  # type: ignore[arg-type]
    assert "format='openai-chat'" in refused(path)


def test_what_was_said_before_is_part_of_the_question() -> None:
    more = [{"role": "user", "content": "and the other?"}, {"role": "assistant", "content": "also"}]
    read = read_examples([{"messages": SYSTEM + HELLO + more}], format="openai-chat").examples
    assert read == [
        NewExample(input="User: where is my parcel?\n\nAssistant: delivery\n\nUser: and the other?", output="also")
    ]


def test_content_may_be_parts_of_text() -> None:
    parts = [{"type": "text", "text": "where is "}, {"type": "text", "text": "my parcel?"}]
    read = read_examples([{"messages": [{"role": "user", "content": parts}, HELLO[1]]}], format="openai-chat").examples
    assert read == [NewExample(input="where is my parcel?", output="delivery")]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_that_all_share_is_the_instruction_of_the_template(role: str) -> None:
    shared = {"messages": [{"role": role, "content": "Sort the tickets."}, *HELLO]}
    read = read_examples([shared, shared], format="openai-chat")
    assert Template.from_dict(read.template) == Template("Sort the tickets.")
    assert [e.input for e in read.examples] == ["where is my parcel?"] * 2
    assert "system message" in read.notes[0]


@pytest.mark.parametrize("other", [HELLO, [{"role": "system", "content": "Another."}, *HELLO]])
def test_system_messages_that_differ_are_left_out_and_named(other: Chat) -> None:
    read = read_examples([{"messages": SYSTEM + HELLO}, {"messages": other}], format="openai-chat")
    assert read.examples == [NewExample(input="where is my parcel?", output="delivery")] * 2
    assert read.template == {}
    assert "differ" in read.notes[0]


CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "x"}]}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org"}}]}
BAD: dict[str, tuple[object, str]] = {
    "missing": (None, "is missing"),
    "text": ("hello", "must be a list of messages, got str"),
    "an object": ({"role": "user"}, "must be a list of messages, got dict"),
    "empty": ([], "must end with a message of the assistant"),
    "no objects": (["hello"], "must be a list of objects, got str at position 1"),
    "no answer": (HELLO[:1], "must end with a message of the assistant"),
    "a question at the end": ([*HELLO, HELLO[0]], "must end with a message of the assistant"),
    "no question": (HELLO[1:], "must have a message of the user before the assistant's last one"),
    "a tool": ([{"role": "tool", "content": "x"}, *HELLO], "message 1 has another"),
    "no role": ([{"content": "x"}, *HELLO], "message 1 has another"),
    "an odd role": ([{"role": ["user"], "content": "x"}, *HELLO], "message 1 has another"),
    "a call": ([HELLO[0], CALL], "message 2 calls a tool"),
    "a refusal": (
        [HELLO[0], {"role": "assistant", "content": None, "refusal": "no"}],
        "the content of message 2 is NoneType",
    ),
    "an image": ([IMAGE, HELLO[1]], "message 1 has a part that is not"),
    "blank": ([{"role": "user", "content": " "}, HELLO[1]], "message 1 is empty"),
    "a number": ([{"role": "user", "content": 5}, HELLO[1]], "the content of message 1 is int"),
    "not to be learned": ([HELLO[0], {**HELLO[1], "weight": 0}], "weight of the last message is 0"),
}


@pytest.mark.parametrize(("messages", "reason"), BAD.values(), ids=BAD)
def test_a_chat_that_is_no_example_is_one_bad_row(tmp_path: Path, messages: object, reason: str) -> None:
    path = written(tmp_path, {"messages": HELLO}, {"messages": messages}, {"messages": HELLO})
    read = read_examples(path, format="openai-chat", skip_bad=True)
    assert len(read.examples) == 2
    assert [(bad.line, bad.field) for bad in read.skipped] == [(2, "messages")]
    assert read.skipped[0].reason.endswith(reason) or reason in read.skipped[0].reason
    assert "parcel" not in read.skipped[0].reason


@pytest.mark.parametrize("name", ["input", "output"])
def test_input_and_output_have_no_columns_in_a_chat(name: str) -> None:
    with pytest.raises(ParameterError, match=name):
        read_examples([{"messages": HELLO}], format="openai-chat", fields={name: "x"})
