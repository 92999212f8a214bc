"""Where an answer ends: by the template, by a BIG-bench task, from a shell; answers that it would cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chat_server import says, serving
from erase_core import StopWarning
from erase_core.cli.app import app
from erase_core.erase import Erase
from erase_core.errors import SourceError
from erase_core.examples.example import Example
from erase_core.examples.reading import read_examples
from erase_core.llm.prompt import Prompt, Template
from small_stores import create, refused
from typer.testing import CliRunner, Result

pytest.importorskip("openai", reason="needs openai: pip install 'erase-core[openai]'")


def shell(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


MANY_LINES = [Example(i, f"question {i}", f"first {i}\nsecond {i}") for i in range(4)]


def test_answers_of_more_lines_than_the_stop_lets_through_are_warned_of(path: Path) -> None:
    with create(path, MANY_LINES) as erase:
        with pytest.warns(StopWarning, match=r"stop '\\n' is in the answers of 3 of 3 demonstrations") as caught:
            erase.ask("what?")
        assert "first" not in str(caught[0].message)
        erase.choose("what?", ["a", "b"])  # which no stop cuts


@pytest.mark.parametrize("stop", ["\n\n", "###"])
def test_a_stop_that_lets_them_through_warns_of_nothing(path: Path, stop: str) -> None:
    with create(path, MANY_LINES, template={"stop": stop}) as erase:
        assert "\n" in erase.ask("what?").text


@pytest.mark.parametrize(
    ("output", "rationale", "n_cut"),
    [("yes", None, 0), ("yes\n", None, 0), ("a\nb", None, 1), ("yes", "first.\nThen.", 1), ("yes", "first.", 0)],
)
def test_which_answers_a_stop_cuts(output: str, rationale: str | None, n_cut: int) -> None:
    example = Example(1, "in\nput", output, rationale=rationale)
    assert Prompt(Template(), (example,), "what?").n_cut_answers == n_cut


def test_a_server_answers_in_several_lines_where_the_stop_lets_it(path: Path) -> None:
    with (
        serving(says("one\ntwo\n\nthree")) as server,
        create(path, MANY_LINES, llm="m", base_url=server.url, template={"stop": "\n\n"}) as erase,
    ):
        assert erase.ask("what?").text == "one\ntwo"


def task(path: Path, **keys: object) -> Path:
    file = path / "task.json"
    file.write_text(json.dumps({"examples": [{"input": "a", "target": "b"}], **keys}))
    return file


@pytest.mark.parametrize(
    ("keys", "stop"),
    [({"stop_string": "\n\n"}, "\n\n"), ({"stop_string": "."}, "."), ({}, "\n"), ({"stop_string": None}, "\n"),
     ({"stop_string": ""}, "\n")],
)  # fmt: skip
def test_a_bigbench_task_brings_its_stop(tmp_path: Path, keys: dict[str, object], stop: str) -> None:
    assert Template.from_dict(read_examples(task(tmp_path, **keys)).template).stop == stop


@pytest.mark.parametrize("stop", [5, ["."], True, {}])
def test_a_stop_of_a_task_that_is_no_text_is_refused(tmp_path: Path, stop: object) -> None:
    refused(lambda: read_examples(task(tmp_path, stop_string=stop)), SourceError, "stop_string", "text")


def test_the_stop_of_a_task_can_be_replaced_from_a_shell(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="needs the packaged embedding model")
    file = task(tmp_path, stop_string=".", task_prefix="Say so.")
    assert shell("init", "-s", path, "--task", file, "--stop", r"\\n\t").exit_code == 0
    with Erase.open(path) as erase:
        assert erase.settings.template is not None
        assert (erase.settings.template.stop, erase.settings.template.instruction) == ("\\n\t", "Say so.")
