"""What model servers say, without a server: thoughts, surrogates, refusals, their words for too long a prompt."""

from __future__ import annotations

import json
from typing import Any

import pytest
from erase_core.llm.answers import cleaned, one_line, read_reply, without_thoughts
from erase_core.llm.choosing import WAYS, Way, label_scores
from erase_core.llm.model_list import context_length_in
from erase_core.llm.server_errors import refusal_in
from hypothesis import given
from hypothesis import strategies as st


def body(content: object, reason: str = "stop", **message: object) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content, **message}, "finish_reason": reason}]}


# Thoughts


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("<think>yes or no? yes</think>no", "no"),
        ("<think>\nyes\n</think>\n\nno\n", "no"),
        ("yes, since</think>\n\nno", "no"),  # the prompt opened the thoughts
        ("<think>yes</think><think>yes</think>no", "no"),
        ("<think>a <think>b</think> yes</think>no", "no"),
        ("<THINKING>yes</THINKING>no", "no"),
        ("<thought>yes</thought>no", "no"),
        ("<reasoning>yes</reasoning>no", "no"),
        ("[THINK]yes[/THINK]no", "no"),
        ("◁think▷yes◁/think▷no", "no"),
        ("<seed:think>yes</seed:think>no", "no"),
        ("<|channel|>analysis<|message|>yes<|end|><|start|>assistant<|channel|>final<|message|>no", "no"),
        ("<reflection>yes</reflection>no", "no"),
        ("<scratchpad>yes</scratchpad>no", "no"),
        ("<longcat_think>yes</longcat_think>no", "no"),
        ('<think budget="9">yes</think>no', "no"),
        ("<unused94>thought\nyes<unused95>no", "no"),
        ("<|channel>thought\nyes<channel|>no", "no"),
        ("<|begin_of_thought|>yes<|end_of_thought|>\n<|begin_of_solution|>no<|end_of_solution|>", "no"),
        ("<|START_THINKING|>yes<|END_THINKING|><|START_RESPONSE|>no<|END_RESPONSE|>", "no"),
        ("<|START_THINKING|>yes", ""),
        ("<think>yes</think>\n<answer>\nno\n</answer>", "no"),
        ("<think>yes</think><answer>no", "no"),  # cut off
        ("<|channel|>analysis<|message|>yes<|end|><|start|>assistant<|channel|>final<|message|>no<|return|>", "no"),
        ("Well. <think>yes</think>", "Well."),
        ("<think>yes", ""),  # they do not end
        ("<think>yes</think>", ""),
        ("<think></think>no", "no"),
        ("</think>no", "no"),
    ],
)
def test_thoughts_are_no_part_of_an_answer(said: str, text: str) -> None:
    assert without_thoughts(said) == (text, True)


@pytest.mark.parametrize(
    "said", ["no", "<answer>no</answer>", "a < b > c", "I think no", "<b>no</b>", "think>", "", "1 </ 2"]
)
def test_what_has_no_thoughts_is_left_as_it_is(said: str) -> None:
    assert without_thoughts(f" {said}\n") == (said, False)


@given(thought=st.text(max_size=30), answer=st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20))
def test_the_answer_follows_its_thoughts_whatever_they_are(thought: str, answer: str) -> None:
    assert without_thoughts(f"<think>{thought}</think>{answer}") == (answer, True)
    assert without_thoughts(f"{thought}</think>{answer}") == (answer, True)


@pytest.mark.parametrize(
    "field", ["reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks"]
)
def test_thoughts_beside_the_content_are_noticed_and_not_read(field: str) -> None:
    reply = read_reply(body("", **{field: "yes"}))
    assert (reply.text, reply.thought) == ("", True)
    assert read_reply(body("no", **{field: "yes"})).text == "no"
    assert not read_reply(body("no", "stop", **{field: None})).thought


# Content, refusals, ends


def test_parts_of_a_content_are_joined_and_thoughts_among_them_left_out() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "yes"}]}, {"type": "text", "text": "n"}]
    assert read_reply(body([*parts, {"type": "text", "text": "o"}])).text == "no"
    assert read_reply(body([{"type": "output_text", "text": "no"}])).text == "no"
    assert read_reply(body([{"text": "no"}])).text == "no"
    assert read_reply(body(parts[:1])).thought
    assert read_reply(body([{"type": "image_url", "image_url": "x"}, "yes", None, 3])).text == ""


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (body(None, refusal="I cannot."), "refused to answer ('I cannot.')"),
        (body([{"type": "refusal", "refusal": "I cannot."}]), "refused to answer ('I cannot.')"),
        (body("yes", "refusal"), "refused to answer"),
        (body("yes", "content_filter"), "content filter"),
        (body(None, "tool_calls", tool_calls=[{}]), "requested a tool"),
        (body(None, "stop", tool_calls=[{}]), "requested a tool"),
    ],
)
def test_a_refusal_is_a_problem(answer: object, words: str) -> None:
    assert words in str(read_reply(answer).problem)


@pytest.mark.parametrize("reason", ["length", "MAX_TOKENS", "model_length"])
def test_an_answer_that_is_cut_off_says_so(reason: str) -> None:
    reply = read_reply(body("yes it", reason))
    assert (reply.text, reply.cut_off, reply.problem) == ("yes it", True, None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
shapes = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(
            st.fixed_dictionaries(
                {}, optional=dict.fromkeys(("message", "finish_reason", "logprobs", "error"), json_values)
            )
            | json_values,
            max_size=2,
        ),
        **dict.fromkeys(("usage", "error", "detail", "object", "data"), json_values),
    },
)


@given(said=shapes | json_values, status=st.sampled_from([200, 400, 422, 500]))
def test_any_json_at_all_is_read(said: object, status: int) -> None:
    said = cleaned(said)
    reply, refusal = read_reply(said), refusal_in(said, status)
    assert reply.text == reply.text.strip()
    assert refusal is not None or status == 200
    if refusal is not None:
        assert refusal.remedy
        assert not (refusal.is_too_long and refusal.refuses_temperature)
    context = context_length_in(said, "m")
    assert context is None or context > 0


# Half a character


@given(said=st.recursive(st.text(st.characters(), max_size=8), lambda inner: st.lists(inner, max_size=3)))
def test_whatever_a_server_says_can_be_encoded_once_it_is_cleaned(said: object) -> None:
    json.dumps(cleaned(said), ensure_ascii=False).encode()


def test_cleaning_leaves_whole_characters_and_marks_halves() -> None:
    said = json.loads('{"\\ud83d": ["\\ud83d\\ude00 yes", "\\ude00\\ud83d", 1, null]}')
    assert cleaned(said) == {"\ufffd": ["\U0001f600 yes", "\ufffd\ufffd", 1, None]}


def test_words_for_an_error_are_one_short_printable_line() -> None:
    assert one_line("a\n\tb\x1b[31m\u2028c") == "a b [31m c"
    assert len(one_line("word " * 100)) == 100


# Errors

# Of OpenAI, vLLM, SGLang, TGI, llama.cpp and its Python server, Ollama, LM Studio, and other providers.
WORDS = [
    (400, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."),
    (400, "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens."),
    (400, "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens"),
    (400, "The decoder prompt (length 21535) is longer than the maximum model length of 16384."),
    (400, "The prompt (total length 25938) is too long to fit into the model (context length 4096)."),
    (
        400,
        "'max_tokens' is too large: 8192. This model's maximum context length is 8192 tokens and your request has 10",
    ),
    (400, "Input prompt (35247 tokens) is too long and exceeds limit of 1000"),
    (400, "The input (61709 tokens) is longer than the model's context length (40960 tokens)."),
    (400, "Requested token count exceeds the model's maximum context length of 8192 tokens."),
    (422, "Input validation error: `inputs` must have less than 1024 tokens. Given: 1062"),
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 1244 `inputs` tokens"),
    (400, "request (1831 tokens) exceeds the available context size (1024 tokens), try increasing it"),
    (400, "the request exceeds the available context size. try increasing the context size or enable context shift"),
    (500, "Context size has been exceeded."),
    (500, "input is too large to process. increase the physical batch size"),
    (400, "Requested tokens (2285) exceed context window of 2048"),
    (400, "the input length exceeds the context length"),
    (500, "input exceeds maximum context length"),
    (
        400,
        "Trying to keep the first 5000 tokens when context the overflows. However, the model has context length 4096",
    ),
    (400, "prompt is too long: 210000 tokens > 200000 maximum"),
    (400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
    (400, "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"),
    (400, "too many tokens: total number of tokens in the prompt cannot exceed 4081"),
    (400, "Input is too long for requested model."),
    (400, "Please reduce the length of the messages or completion."),
    (400, "The prompt is too long: 5000, model maximum context length: 4096"),
    (400, "prompt length (5000) exceeds maximum input length (4096)"),
    (400, "Range of input length should be [1, 30720]"),
    (400, "inputs tokens + max_tokens must be <= 4097"),
    (400, "Total tokens of image and text exceed max message tokens"),
    (400, "Token count exceeds the limit"),
    (400, "messages too long"),
]
TOO_LONG: list[tuple[int, object]] = [
    *((status, {"error": {"message": words, "type": "invalid_request_error"}}) for status, words in WORDS),
    *((status, {"object": "error", "message": words, "code": status}) for status, words in WORDS),
    *((status, {"error": words, "error_type": "validation"}) for status, words in WORDS),
    *((status, {"detail": words}) for status, words in WORDS),
    *((200, {"error": {"message": words, "code": status}}) for status, words in WORDS),
    (400, {"error": {"message": "too many", "code": "context_length_exceeded"}}),
    (400, {"error": {"message": "it does not fit", "type": "exceed_context_size_error"}}),
    (400, [{"error": {"code": 400, "message": "The input token count (9) exceeds the maximum number of tokens (8)."}}]),
    (422, {"object": "error", "message": {"detail": [{"loc": ["body"], "msg": "prompt is too long"}]}}),
    (413, None),
    (413, {"error": {"message": "Payload Too Large"}}),
    (200, {"choices": [{"error": {"message": "context length exceeded", "code": 400}}]}),
    (422, {"detail": [{"loc": ["body", "messages"], "msg": "prompt is too long", "input": "secret"}]}),
]

NOT_TOO_LONG = [
    (
        400,
        {"error": {"message": "max_tokens is too large: 100000. This model supports at most 4096 completion tokens"}},
    ),
    (429, {"error": {"message": "Rate limit reached: too many tokens per minute, limit 6000"}}),
    (400, {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model."}}),
    (404, {"error": {"message": "The model `small` does not exist"}}),
    (401, {"error": {"message": "Incorrect API key provided"}}),
    (400, {"error": {"message": "Invalid schema for response_format 'answer'"}}),
    (500, {"error": {"message": "CUDA out of memory"}}),
    (500, None),
    (200, {"error": {"message": "Provider returned error", "code": 502}}),
]


@pytest.mark.parametrize(("status", "said"), TOO_LONG)
def test_a_prompt_that_is_too_long_is_known_by_any_servers_words(status: int, said: object) -> None:
    refusal = refusal_in(said, status)
    assert refusal is not None
    assert refusal.is_too_long
    assert "secret" not in refusal.message


@pytest.mark.parametrize(
    ("status", "words", "remedy"),
    [
        (400, "System role not supported", "without an instruction"),
        (400, "Conversation roles must alternate user/assistant/user/assistant/...", "without an instruction"),
        (400, "filtered due to the prompt triggering Azure's content management policy", "content filter"),
        (402, "Insufficient credits", "credit"),
        (422, "no such parameter", "parameters"),
        (503, "Loading model", "Wait"),
    ],
)
def test_the_remedy_fits_the_words(status: int, words: str, remedy: str) -> None:
    refusal = refusal_in({"error": {"message": words}}, status)
    assert refusal is not None
    assert remedy in refusal.remedy


@pytest.mark.parametrize(("status", "said"), NOT_TOO_LONG)
def test_other_errors_are_not_a_prompt_that_is_too_long(status: int, said: object) -> None:
    refusal = refusal_in(said, status)
    assert refusal is not None
    assert not refusal.is_too_long


@pytest.mark.parametrize("said", [body("yes"), {**body("yes"), "error": None}, {}, [], None, 3, {"choices": []}])
def test_an_answer_is_not_an_error(said: object) -> None:
    assert refusal_in(said) is None


@pytest.mark.parametrize(
    ("message", "about"),
    [
        ("Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.", {"max_tokens"}),
        ("Unsupported value: 'temperature' does not support 0.0 with this model.", {"temperature"}),
        ("Input validation error: `temperature` must be strictly positive", {"temperature"}),
        ("max_tokens is too large: 100000. This model supports at most 4096 completion tokens", set()),
        ("max_tokens must be at least 1", set()),
        ("The model does not exist", set()),
    ],
)
def test_a_parameter_that_is_refused_is_known(message: str, about: set[str]) -> None:
    refusal = refusal_in({"error": {"message": message, "type": "invalid_request_error"}}, 400)
    assert refusal is not None
    refused = {"max_tokens": refusal.refuses_max_tokens, "temperature": refusal.refuses_temperature}
    assert {name for name, is_refused in refused.items() if is_refused} == about


# Ways of choosing


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_what_is_sent_for_a_choice_holds_the_query_and_every_option(way: Way) -> None:
    options = ["delivery", "refund", "A", "\N{GREEK SMALL LETTER ALPHA}"]
    question = way.question("the query", options)
    sent = json.dumps([way.fields(options), question], ensure_ascii=False)
    assert question.startswith("the query")
    assert all(f"{option}" in sent for option in options)
    assert way.max_tokens(options) >= 1


def test_a_grammar_holds_any_option_as_one_literal() -> None:
    for option in ('a "quoted" one', "two\nlines", "back\\slash"):
        (literal,) = [json.loads(part) for part in grammar_of([option]).removeprefix("root ::= ").split(" | ")]
        assert literal == option


def grammar_of(options: list[str]) -> str:
    (fields,) = [way.fields(options) for way in WAYS if "grammar" in way.name]
    assert fields is not None
    return str(fields["grammar"])


def test_more_options_than_letters_are_not_asked_for_by_letters() -> None:
    (way,) = [way for way in WAYS if way.name == "logprobs"]
    assert way.fields([str(number) for number in range(20)]) is not None
    assert way.fields([str(number) for number in range(21)]) is None


def test_letters_are_scored_by_the_first_token() -> None:
    options = ["delivery", "refund", "other"]
    scores, bounded = label_scores({"B": -0.1, " B": -3.0, "(A": -4.0, "Sure": -5.0}, options)
    assert bounded == ("other",)
    assert max(scores, key=scores.__getitem__) == "refund"
    assert -0.1 < scores["refund"] < 0  # both ways to write it
    assert (scores["delivery"], scores["other"]) == (-4.0, -5.0)


@pytest.mark.parametrize(
    "first",
    [
        {},
        {"As": -0.1, "A": -3.0},  # it says something else: "As a language model ..."
        {"refund": -0.1, "delivery": -2.0},
        {"D": -0.01},
    ],
)
def test_a_first_token_that_is_no_letter_chooses_nothing(first: dict[str, float]) -> None:
    assert label_scores(first, ["delivery", "refund", "other"]) == ({}, ())


def test_options_that_are_letters_are_their_own_letters() -> None:
    assert label_scores({"C": -0.1, "A": -4.0}, ["C", "A"]) == ({"C": -0.1, "A": -4.0}, ())


def test_scores_are_json_whatever_a_server_calls_impossible() -> None:
    scores, bounded = label_scores({"A": -0.001, "B": float("-inf")}, ["yes", "no"])
    json.dumps(scores, allow_nan=False)
    assert bounded == ("no",)


# The list of models


@pytest.mark.parametrize(
    ("listed", "context"),
    [
        ({"data": [{"id": "m", "meta": {"n_ctx": 1024, "n_ctx_train": 8192}}]}, 1024),
        ({"data": [{"id": "file.gguf", "meta": {"n_ctx": 1024}}]}, 1024),  # the only one, by whatever name
        ({"data": [{"id": "other", "max_model_len": 1}, {"id": "m", "max_model_len": 4096}]}, 4096),
        ({"data": [{"id": "other", "aliases": ["m"], "context_length": 77}, {"id": "x"}]}, 77),
        ({"data": [{"id": "other", "max_model_len": 1}, {"id": "another", "max_model_len": 2}]}, None),
        ({"data": [{"id": "m", "max_model_len": True}]}, None),
        ({"data": [{"id": "m", "max_model_len": 0}]}, None),
        ({"data": [{"id": "m"}]}, None),
        ({"data": "m"}, None),
        (None, None),
    ],
)
def test_the_context_that_a_server_lists(listed: object, context: int | None) -> None:
    assert context_length_in(listed, "m") == context
