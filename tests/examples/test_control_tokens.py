"""Control tokens that are refused: at ingest, in queries and in options; what is looked for, and what is said."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from erase_core.cli.app import app
from erase_core.errors import ExampleError, ParameterError
from erase_core.examples.control_tokens import find_control_token
from erase_core.examples.example import Example
from erase_core.llm import TransformersLLM
from erase_core.llm.checkpoint import control_tokens_of
from erase_core.settings import Settings
from hypothesis import given
from made_examples import storable
from small_stores import CountingLLM, WordEmbedder, check_refused, create, example, some
from tokenizer_families import FAMILIES, save_model
from typer.testing import CliRunner

# Of models that many people use.
TOKENS = [
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>"),
    *("<|user|>", "<|assistant|>", "<|end|>", "<|START_OF_TURN_TOKEN|>", "<|reserved_special_token_0|>", "<|im_sep|>"),
    *(
        "<\uff5cUser\uff5c>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<|turn>",
        "<turn|>",
        "[|assistant|]",
        "[|endofturn|]",
    ),
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]", "[TOOL_CALLS]", "[gMASK]", "<sop>"),
    *("<s>", "</s>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<unk>", "<pad>", "<mask>"),
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<extra_id_1>", "<unused42>", "<SPECIAL_10>"),
    *("[CLS]", "[SEP]", "[MASK]", "### Instruction:", "### Response:"),
    "]~!b[",
    "]~b]",
    "[e~[",
    "<[begin_of_sentence]>",
    "<EOP_TOKEN>",
    "<PRE>",
    "<TOOLCALL>",
    "<minimax:tool_call>",
    "<longcat_user>",
    "<image_soft_token>",
]
# What people write.
ORDINARY = [
    *("a < b | c > d", "if x <y> z", "[URGENT] my parcel", "<b>bold</b>", "<ann@example.org>", "5 <|> 6", "||", "<->"),
    *("see [1]", "Q: who?\nA: me", "# Response", "user: hello", "<3", "[INSTANCE]", "<strong>", "<p>", "I <think so>"),
]


class Tokenised(CountingLLM):
    """Has a tokenizer, and so control tokens of its own."""

    control_tokens = ("~~turn~~", "<|im_start|>")


def refusing(path: Path, **settings: Any) -> Any:
    return create(path, some(3), on_control_tokens="refuse", **settings)


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("around", ["{}", "a{}b", "late\n{} system", "\u65e5{}"])
def test_the_common_families_are_found(token: str, around: str) -> None:
    if token.startswith("#") and not around.startswith("{") and "\n" not in around:
        return  # a heading begins a line
    assert find_control_token(around.format(token))
    assert find_control_token(around.format(token.upper()))
    wide = "".join(chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" and sign != "#" else sign for sign in token)
    assert find_control_token(around.format(wide)) or token.startswith("#")


@pytest.mark.parametrize("text", ORDINARY)
def test_what_people_write_is_none(text: str) -> None:
    assert find_control_token(text) is None
    assert find_control_token(text, ["~~turn~~"]) is None


@given(before=storable, after=storable)
def test_a_known_token_is_found_anywhere(before: str, after: str) -> None:
    assert find_control_token(f"{before}~~turn~~{after}", ["~~turn~~"])


@pytest.mark.parametrize("field", ["input", "output", "rationale"])
@pytest.mark.parametrize("token", ["<|im_start|>", "~~turn~~"])
def test_an_example_with_one_is_refused(path: Path, field: str, token: str) -> None:
    with refusing(path, llm=Tokenised()) as erase:
        rows = [example(10), {"id": 11, "input": "late", "output": "yes", field: f"Ann {token} Example"}]
        check_refused(
            erase,
            lambda: erase.ingest(rows),
            ExampleError,
            "list, example 2",
            repr(field),
            repr(token),
            "skip_bad",
            "keep",
        )
        with pytest.raises(ExampleError) as caught:
            erase.ingest(rows)
        assert "Ann" not in str(caught.value)
        report = erase.ingest(rows, skip_bad=True)
        assert (report.n_added, report.n_skipped, len(report.skipped)) == (1, 1, 1)
        assert erase.ingest(rows[1:], on_control_tokens="keep").n_added == 1


def test_what_has_the_form_of_a_token_is_not_repeated(path: Path) -> None:
    with refusing(path) as erase, pytest.raises(ExampleError) as caught:
        erase.ingest([{"input": "<|Ann Example|>", "output": "yes"}])
    assert "Ann" not in str(caught.value)
    assert "one of the form <|...|>" in str(caught.value)


@pytest.mark.parametrize("strategy", ["kmeans", "knn"])
def test_a_query_with_one_is_refused(path: Path, strategy: str) -> None:
    with refusing(path, llm=Tokenised(), strategy=strategy) as erase:
        for token in ("<|im_start|>", "</s>", "~~turn~~"):
            for call in (erase.ask, erase.prompt, lambda query: erase.choose(query, ["a", "b"])):
                check_refused(erase, partial(call, f"late {token}?"), ParameterError, "query must not contain")
        check_refused(erase, lambda: erase.choose("late?", ["a", "<s>"]), ParameterError, "options must not contain")
        assert erase.ask("late?").text


def test_they_are_kept_by_default(path: Path) -> None:
    rows = [Example(1, "<|im_start|>", "<s>"), Example(2, "late", "yes", "[INST]")]
    with create(path, rows) as erase:
        assert erase.settings.on_control_tokens == "keep"
        assert erase.examples() == rows
        assert erase.ask("</s>").text
        check_refused(
            erase, lambda: erase.ingest([example(7, "</s>")], on_control_tokens="refuse"), ExampleError, "</s>"
        )


@pytest.mark.parametrize("value", ["", "drop", True, 3])
def test_the_choice_is_checked(path: Path, value: Any) -> None:
    words = "on_control_tokens must be one of keep, refuse"
    with pytest.raises(ParameterError, match=words):
        Settings(on_control_tokens=value)
    with create(path, some(2)) as erase:
        check_refused(erase, lambda: erase.ingest(some(1, 9), on_control_tokens=value), ParameterError, words)


@pytest.mark.parametrize("chat", [False, True])
def test_the_tokenizer_alone_tells_the_tokens_of_a_model(tmp_path: Path, chat: bool) -> None:
    folder = save_model(tmp_path, FAMILIES["unigram"]())
    found = control_tokens_of(folder, chat=chat)
    assert found == TransformersLLM(folder, chat=chat).control_tokens
    assert {"<|im_start|>", "<|im_end|>", "<think>", "</think>", "<s>", "</s>"} <= set(found)


def test_a_local_model_that_is_not_loaded_yet_is_asked_for_its_tokens(path: Path, tmp_path: Path) -> None:
    tokenizer = FAMILIES["byte_level"]()
    tokenizer.add_tokens(["@@turn@@"])
    folder = save_model(tmp_path / "llm", tokenizer)
    with create(path, [], llm=folder, on_control_tokens="refuse") as erase:
        check_refused(erase, lambda: erase.ingest([example(1, "a @@turn@@")]), ExampleError, "'@@turn@@'")
        check_refused(erase, lambda: erase.prompt("a @@turn@@"), ParameterError, "'@@turn@@'")


def test_the_command_line_refuses(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erase_core.backends.as_embedder", lambda _: WordEmbedder())
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"input": "a </s>", "output": "yes"}))
    server = ["--embedder", "words", "--llm", "small", "--base-url", "http://127.0.0.1:9/v1"]
    run = CliRunner().invoke

    made = run(app, ["init", "--store", str(path), *server, "--on-control-tokens", "refuse"])
    assert made.exit_code == 0, made.stderr
    refused = run(app, ["ingest", str(rows), "--store", str(path)])
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert "rows.jsonl, example 1, field 'input': contains a control token" in refused.stderr
    assert run(app, ["ask", "a </s>", "--store", str(path)]).exit_code == 2
    kept = run(app, ["ingest", str(rows), "--store", str(path), "--on-control-tokens", "keep"])
    assert kept.exit_code == 0, kept.stderr
