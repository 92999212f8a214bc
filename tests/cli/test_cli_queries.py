"""`erase ask` and `erase choose` with many questions, of a file or of standard input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chat_server import by_request, says, serving
from command_line import check_refused, erase, json_of
from erase_core.erase import Erase
from small_models import make_model
from small_stores import ONE_PROMPT, WordEmbedder, create, some

QUESTIONS = ["where is my parcel", "late, again", "Grüße"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    llm = make_model(folder / "llm", "llama")
    create(folder / "store", some(9), llm=llm, options=["yes", "no"]).close()
    return folder / "store"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "questions.txt"
    path.write_bytes(f"{QUESTIONS[0]}\r\n\n{QUESTIONS[1]}\n  \n{QUESTIONS[2]}".encode())
    return path


def test_each_line_is_the_result_of_its_question(store: Path, file: Path) -> None:
    for command, options in (("choose", ()), ("choose", ("a", "b", "c")), ("ask", ("--max-tokens", 3))):
        queries = erase(command, *options, "--queries", file, "--store", store)
        single = [erase(command, question, *options, "--store", store).stdout for question in QUESTIONS]
        assert (queries.exit_code, queries.stdout) == (0, "".join(single)), queries.stderr


def test_each_line_of_json_is_the_result_of_its_question(store: Path, file: Path) -> None:
    result = erase("choose", "--queries", file, "--store", store, "--json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["query"] for each in found] == QUESTIONS
    for each in found:
        single = json_of("choose", each["query"], "--store", store)
        assert each.keys() == {"query", *single}
        assert each["option"] == single["option"]
        assert each["scores"] == pytest.approx(single["scores"], abs=1e-4)


def test_questions_come_from_standard_input(store: Path, file: Path) -> None:
    from_file = erase("choose", "--queries", file, "--store", store)
    from_input = erase("choose", "--queries", "-", "--store", store, input=file.read_bytes())
    assert (from_input.exit_code, from_input.stdout) == (0, from_file.stdout)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("command", ["ask", "choose"])
def test_no_questions_have_no_results(store: Path, command: str, as_json: bool) -> None:
    result = erase(command, "--queries", "-", "--store", store, *(["--json"] if as_json else []), input=" \n\n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_answers_that_are_cut_off_are_counted(store: Path, file: Path) -> None:
    result = erase("ask", "--queries", file, "--max-tokens", 1, "--store", store)
    assert "3 of 3 answers were cut off after 1 tokens" in result.stderr


def test_a_server_is_sent_several_at_a_time(tmp_path: Path, file: Path) -> None:
    pytest.importorskip("openai", reason="needs openai: pip install 'erase-core[openai]'")
    echo = by_request(lambda request: says(f"about {len(request['messages'])}"))
    with serving(echo) as server:
        Erase.create(
            tmp_path / "store",
            **ONE_PROMPT,
            embedder=WordEmbedder(),
            llm="m",
            base_url=server.url,
        ).close()
        result = erase("ask", "--queries", file, "--parallel", 3, "--store", tmp_path / "store")
    assert (result.exit_code, result.stdout) == (0, "about 1\n" * 3)
    assert sorted(request["messages"][-1]["content"] for request in server.requests) == sorted(QUESTIONS)


@pytest.mark.parametrize("command", ["ask", "choose"])
def test_wrong_usage(store: Path, file: Path, command: str) -> None:
    check_refused(erase(command, "--store", store), 2, "QUERY", "--queries")
    check_refused(erase(command, "--queries", "no file", "--store", store), 2, "--queries", "no file")
    check_refused(erase(command, "--queries", file, "--parallel", 0, "--store", store), 2, "parallel")
    file.write_bytes(b"\xff")
    check_refused(erase(command, "--queries", file, "--store", store), 2, "UTF-8")
    file.write_text("late\n" + "a secret " * 200)
    said = check_refused(erase(command, "--queries", file, "--store", store), 10, "queries[1]", "tokens")
    assert "secret" not in said


def test_a_question_beside_a_file_of_questions_is_refused(store: Path, file: Path) -> None:
    check_refused(erase("ask", "what?", "--queries", file, "--store", store), 2, "one of the two")
