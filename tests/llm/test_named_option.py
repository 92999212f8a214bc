"""Which option an answer names: the one that it is, and never one that it merely contains."""

from __future__ import annotations

import pytest
from erase_core.llm.named import named, named_in_json
from hypothesis import given
from hypothesis import strategies as st

LETTERS = list("ABCD")
YES_NO = ["yes", "no"]

IS_AN_OPTION = [
    ("yes", YES_NO, "yes"),
    (" Yes. \n", YES_NO, "yes"),
    ("NO!", YES_NO, "no"),
    ("“no.”", YES_NO, "no"),
    ('"no".', YES_NO, "no"),
    ("**yes**", YES_NO, "yes"),
    ("`yes`", YES_NO, "yes"),
    ("- yes", YES_NO, "yes"),
    ("\uff59\uff45\uff53", YES_NO, "yes"),  # full width
    ("The answer is: yes!", YES_NO, "yes"),
    ("Answer: no", YES_NO, "no"),
    ("They paid twice. So the answer is no.", YES_NO, "no"),
    ("not_known", ["not known", "no"], "not known"),
    ("not-known", ["not known", "no"], "not known"),
    ("partial refund", ["refund", "partial refund"], "partial refund"),
    ("Partial  refund.", ["partial refund", "refund"], "partial refund"),
    ("5.", ["5", "0.5"], "5"),
    ("0.5", ["5", "0.5"], "0.5"),
    ("-5", ["5", "-5"], "-5"),
    ("C++", ["c", "C", "C++"], "C++"),
    ("C", ["c", "C", "C++"], "C"),
    ("Yes", ["yes", "Yes"], "Yes"),
    ("a b", ["A B", "A"], "A B"),
    ("A", LETTERS, "A"),
    ("b", LETTERS, "B"),
    ("(C)", LETTERS, "C"),
    ("(D) Dublin", LETTERS, "D"),
    ("A) Athens", LETTERS, "A"),
    ("B. Berlin", LETTERS, "B"),
    ("C: Cork is the capital", LETTERS, "C"),
    ("Option D.", LETTERS, "D"),
    ("Option D", LETTERS, "D"),
    ("The correct answer is (C).", LETTERS, "C"),
    ("Answer: B) Berlin", LETTERS, "B"),
    ("I", list("HIJ"), "I"),
    ("[B]", LETTERS, "B"),
    ("**B)** Berlin", LETTERS, "B"),
    ("(B) is correct.", LETTERS, "B"),
    ("My answer is B.", LETTERS, "B"),
    ("The correct option is B", LETTERS, "B"),
    ("The answer is $\\boxed{B}$.", LETTERS, "B"),
    ("\\boxed{\\text{B}}", LETTERS, "B"),
    ("**Answer:** yes", YES_NO, "yes"),
    ("Answer:yes", YES_NO, "yes"),
    ("The answer is **yes**.", YES_NO, "yes"),
    ("* yes", YES_NO, "yes"),
    ("(no)", YES_NO, "no"),
    ("```text\nyes\n```", YES_NO, "yes"),
    ("yes</s>", YES_NO, "yes"),
    ("<answer>yes</answer>", YES_NO, "yes"),
    ("no<|im_end|>\n", YES_NO, "no"),
    ("Sentiment: Positive", ["positive", "negative"], "positive"),
    ("The category is refund.", ["refund", "other"], "refund"),
    ("\N{MINUS SIGN}5", ["5", "-5"], "-5"),
]

IS_NONE = [
    ("As a language model, I cannot answer.", LETTERS),
    ("A language model has no opinion", LETTERS),
    ("A) or B)", LETTERS),
    ("A or B", LETTERS),
    ("A, B", LETTERS),
    ("A: B", LETTERS),
    ("A) x\nB) y\nC) z", LETTERS),
    ("not (A)", LETTERS),
    ("No answer: A) is wrong", LETTERS),
    ("A) Athens, or (B) Berlin", LETTERS),
    ("A.M.", LETTERS),
    ("E) Essen", LETTERS),
    ("I think so", list("HIJ")),
    ("A) Athens", ["A", "none"]),
    ("1,000", ["1", "1000"]),
    ("1 000", ["1", "1000"]),
    ("1.", ["1,0", "10"]),
    ("3.5", ["3", "4"]),
    ("0.5", ["5", "7"]),
    (".5", ["5", "7"]),
    ("-5", ["2", "5"]),
    ("- 5", ["2", "5"]),
    ("+5", ["2", "5"]),
    ("5!", ["2", "5"]),
    ("5%", ["2", "5"]),
    ("5\N{SUPERSCRIPT TWO}", ["5", "52"]),
    ("1/2", ["1", "2"]),
    ("1\N{VULGAR FRACTION ONE HALF}", ["1", "11/2", "1 1/2"]),
    ("I have no idea.", YES_NO),
    ("yes or no", YES_NO),
    ("yes, no", YES_NO),
    ("yes\nno", YES_NO),
    ("- yes\n- no", YES_NO),
    ("yes?", YES_NO),
    ("yes...", YES_NO),
    ("not yes", YES_NO),
    ("The answer is not yes", YES_NO),
    ("I doubt that the answer is yes", YES_NO),
    ("nobody", YES_NO),
    ("This is not a refund.", ["refund", "other"]),
    ("unrefundable", ["refund", "other"]),
    ("refund (partial)", ["refund", "other"]),
    ("YES", ["yes", "Yes"]),
    ("c#", ["c", "C", "C++"]),
    ("A) is wrong", LETTERS),
    ("A) Incorrect", LETTERS),
    ("A: wrong. B is right", LETTERS),
    ("A: not B", LETTERS),
    ("A. I cannot answer this", LETTERS),
    ("A. I think the answer is B.", LETTERS),
    ("A: Berlin", LETTERS),  # "A:" as in "Q: ... A: ..."
    ("A) to D", LETTERS),
    ("A) None of B-D", LETTERS),
    ("B) but C is better", LETTERS),
    ("C. S. Lewis", LETTERS),
    ("B) perhaps?", LETTERS),
    ("The answer is A. I mean B.", LETTERS),
    ("The answer is B. The answer is C.", LETTERS),
    ("The answer is yes. No, the answer is no.", YES_NO),
    ("(yes) or (no)", YES_NO),
    ("**yes** or **no**", YES_NO),
    ("2**3**4", ["234", "2"]),
    ("No label: positive", ["positive", "negative"]),
    ("", YES_NO),
    (".", YES_NO),
    ("*", ["**"]),
]


@pytest.mark.parametrize(("text", "options", "option"), IS_AN_OPTION)
def test_an_answer_that_is_an_option_names_it(text: str, options: list[str], option: str) -> None:
    assert named(text, options) == option
    assert named(text, options[::-1]) == option


@pytest.mark.parametrize(("text", "options"), IS_NONE)
def test_an_answer_that_is_no_option_names_none(text: str, options: list[str]) -> None:
    assert named(text, options) is None
    assert named(text, options[::-1]) is None


CAPITALS = "Which is the capital of Germany?\nA) Athens\nB) Berlin\nC) None of the above\nD) Berlin, I think"


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("B) Berlin", "B"),
        ("B. berlin.", "B"),
        ("**B)** Berlin", "B"),
        ("The answer is (B) Berlin.", "B"),
        ("B) Berlin is the capital of Germany.", "B"),
        ("C) None of the above", "C"),
        ("D) Berlin, I think", "D"),
        ("A: Athens", "A"),
        ("A) Berlin", None),
        ("A: Berlin", None),
        ("B) Bonn", None),
        ("B) Berlin, not Athens", None),
        ("A) Athens is wrong", None),
        ("A) Athens, but rather (B)", None),
        ("A) is wrong", None),
    ],
)
def test_what_follows_a_letter_is_what_the_query_has_after_it(text: str, option: str | None) -> None:
    assert named(text, LETTERS, CAPITALS) == option
    assert named(text, LETTERS[::-1], CAPITALS) == option


option = st.text(min_size=1, max_size=8).filter(lambda text: text == text.strip() and bool(text))
some_options = st.lists(option, min_size=1, max_size=6, unique=True)


@given(options=some_options, data=st.data())
def test_an_option_as_it_stands_names_itself(options: list[str], data: st.DataObject) -> None:
    chosen = data.draw(st.sampled_from(options))
    assert named(f" {chosen}\n", options) == chosen


@given(options=some_options, text=st.text(max_size=20))
def test_what_is_named_is_an_option_and_does_not_depend_on_their_order(options: list[str], text: str) -> None:
    assert named(text, options) in (*options, None)
    assert named(text, options) == named(text, options[::-1])


words = st.text(st.characters(categories=["Ll"]), min_size=2, max_size=8)


@given(word=words, more=words)
def test_an_option_within_other_words_is_not_named(word: str, more: str) -> None:
    for text in (
        f"{more} {word}",
        f"{word} {more}",
        f"{more}{word}",
        f"not {word}",
        f"{word}, {more}",
        f"{word}.{more}",
    ):
        assert named(text, [word]) is None


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ('"yes"', "yes"),
        (' {"answer": "no"}\n', "no"),
        ('{\n  "answer" : "no"\n}', "no"),
        ('"\\u0079es"', "yes"),
        ('```json\n{"answer": "no"}\n```', "no"),
        ("yes", None),
        ('"maybe"', None),
        ('{"answer": "no", "why": "yes"}', None),
        ('["yes"]', None),
        ('{"answer": "ye', None),
        ("[" * 100_000, None),
        ("null", None),
    ],
)
def test_an_option_in_json(text: str, option: str | None) -> None:
    assert named_in_json(text, YES_NO) == option
