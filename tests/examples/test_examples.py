"""What a row must hold to be an example, and ids that agree: the same whatever the rows come from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from erase_core.errors import ExampleError
from erase_core.examples.example import FIELDS, BadRow, Example, NewExample, Reading
from erase_core.examples.reading import read_examples
from hypothesis import given
from hypothesis import strategies as st
from made_examples import Rows, example_lists, rows, texts

NAN = float("nan")
GOOD: dict[str, Any] = {"input": "Is ice cold?", "output": "yes"}


class Word(str, Enum):  # noqa: UP042 - a StrEnum would show itself as its value
    """A text that shows itself as another."""

    COLD = "cold"


def fault(*rows: object) -> BadRow:
    """The one row that is refused, by both ways of treating it."""
    reading = read_examples(rows, skip_bad=True)
    assert len(reading.skipped) == 1
    assert len(reading.examples) == len(rows) - 1
    with pytest.raises(ExampleError) as caught:
        read_examples(rows)
    assert str(caught.value).startswith(f"{reading.skipped[0]}. ")
    return reading.skipped[0]


# ---- values ----
BAD_VALUES: dict[str, tuple[object, str]] = {
    "empty": ("", "is empty"),
    "blank": (" \t\n\u00a0", "is empty"),
    "of 5000 digits": (10**5000, "has too many digits"),
    "a float": (0.5, "must be text or an integer, got float"),
    "a bool": (True, "must be text or an integer, got bool"),
    "bytes": (b"yes", "must be text or an integer, got bytes"),
    "a list": (["yes"], "must be text or an integer, got list"),
    "a date": (pd.Timestamp(0), "must be text or an integer, got Timestamp"),
    "NUL": ("a\0b", "contains a NUL character"),
    "a lone surrogate": ("ab\ud800", "contains half of a surrogate pair at character 3"),
}
MISSING = {
    "None": None,
    "NaN": NAN,
    "decimal NaN": Decimal("NaN"),
    "signalling NaN": Decimal("sNaN"),
    "float32 NaN": np.float32("nan"),
    "NA": pd.NA,
    "NaT": pd.NaT,
}
BAD_IDS: dict[str, tuple[object, str]] = {
    "empty": ("", "is empty"),
    "a bool": (True, "must be an integer or text, got bool"),
    "a numpy bool": (np.True_, "must be an integer or text, got bool"),
    "half a float": (0.5, "must be an integer or text, got float"),
    "an infinite float": (float("inf"), "must be an integer or text, got float"),
    "half a decimal": (Decimal("0.5"), "must be an integer or text, got Decimal"),
    "an infinite decimal": (Decimal("-Infinity"), "must be an integer or text, got Decimal"),
    "a decimal of a billion digits": (Decimal("1E+999999999"), "must be an integer or text, got Decimal"),
    "a decimal too large": (Decimal(2**63), "must be an integer from -2**63 to 2**63 - 1"),
    "a list": ([1], "must be an integer or text, got list"),
    "too large": (2**63, "must be an integer from -2**63 to 2**63 - 1"),
    "too small": (-(2**63) - 1, "must be an integer from -2**63 to 2**63 - 1"),
    "of 5000 digits": (10**5000, "must be an integer from -2**63 to 2**63 - 1"),
    "NUL": ("\0", "contains a NUL character"),
    "a lone surrogate": ("\udc80", "contains half of a surrogate pair at character 1"),
}


@pytest.mark.parametrize("column", ["input", "output", "rationale", "subject"])
@pytest.mark.parametrize(("value", "reason"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_texts_are_refused_unless_they_can_be_stored(column: str, value: object, reason: str) -> None:
    assert fault(GOOD, {**GOOD, column: value}) == BadRow("tuple", 2, column, reason, "row")


@pytest.mark.parametrize(("value", "reason"), BAD_IDS.values(), ids=BAD_IDS)
def test_ids_are_64_bit_integers_or_texts(value: object, reason: str) -> None:
    bad = fault(GOOD, {**GOOD, "id": value})
    assert (bad.line, bad.field) == (2, "id")
    assert bad.reason.rstrip("_") == reason  # numpy's bool has a name of its own before numpy 2


@pytest.mark.parametrize("value", MISSING.values(), ids=MISSING)
def test_what_stands_for_nothing_is_missing(value: object) -> None:
    absent = dict.fromkeys(["id", "rationale", "subject"], value)
    assert read_examples([{**GOOD, **absent}]).examples == [NewExample(input=GOOD["input"], output=GOOD["output"])]
    for column in ("input", "output"):
        assert fault(GOOD, {**GOOD, column: value}) == BadRow("tuple", 2, column, "is missing", "row")


@pytest.mark.parametrize(
    ("value", "id_"),
    [
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (7.0, 7),
        (-(2.0**53) + 1, -(2**53) + 1),
        (np.int16(7), 7),
        (np.uint64(7), 7),
        (np.float32(2**24 - 1), 2**24 - 1),
        (np.float16(-(2**11) + 1), -(2**11) + 1),
        (Decimal("7.00"), 7),
        (Decimal("7E+3"), 7000),
        (Decimal(2**63 - 1), 2**63 - 1),
        (" ", " "),
        ("7", "7"),
        (np.str_("seven"), "seven"),
    ],
    ids=repr,
)
def test_an_id_becomes_a_plain_integer_or_text(value: object, id_: int | str) -> None:
    read = read_examples([{**GOOD, "id": value}]).examples[0].id
    assert (read, type(read)) == (id_, type(id_))


FLOATS: dict[str, tuple[Any, int]] = {
    "float": (float, 53),
    "float64": (np.float64, 53),
    "float32": (np.float32, 24),
    "float16": (np.float16, 11),
    "longdouble": (np.longdouble, int(np.finfo(np.longdouble).nmant) + 1),
}


@pytest.mark.parametrize(("kind", "bits"), FLOATS.values(), ids=FLOATS)
@given(data=st.data())
def test_an_id_in_a_float_is_the_integer_that_went_into_it_or_is_refused(
    kind: Any, bits: int, data: st.DataObject
) -> None:
    most = min(2**63 - 1, int(np.finfo(kind).max))
    magnitudes = st.one_of(st.integers(0, most), st.integers(-3, 3).map(lambda step: min(2**bits + step, most)))
    integer = data.draw(magnitudes) * data.draw(st.sampled_from([1, -1]))
    value = kind(integer)
    if abs(integer) < 2**bits:
        assert read_examples([{**GOOD, "id": value}]).examples[0].id == integer
    else:
        bad = fault(GOOD, {**GOOD, "id": value})
        assert (bad.line, bad.field) == (2, "id")
        assert f"exact only below 2**{bits}" in bad.reason


@pytest.mark.parametrize("value", [42, np.int64(42), np.uint8(42), 42.0, np.float32(42), Decimal(42)], ids=repr)
def test_a_number_as_subject_is_its_text(value: object) -> None:
    assert read_examples([{**GOOD, "subject": value}]).examples[0].subject == "42"


@pytest.mark.parametrize("value", [0.5, np.float32(2**24), 2.0**53, Decimal("0.5"), True, float("inf")], ids=repr)
def test_a_number_as_subject_is_whole_and_exact(value: object) -> None:
    bad = fault(GOOD, {**GOOD, "subject": value})
    assert (bad.line, bad.field) == (2, "subject")
    assert bad.reason.startswith("must be text or an integer, got ")


@given(st.integers(-(10**40), 10**40))
def test_integers_are_the_texts_that_they_are_in_csv(number: int) -> None:
    row = {"input": number, "output": number, "rationale": number, "subject": number}
    assert read_examples([row]).examples == [NewExample(**dict.fromkeys(FIELDS[1:], str(number)))]


@pytest.mark.parametrize("value", [np.str_("cold"), Word.COLD])
def test_a_text_becomes_a_plain_one(value: str) -> None:
    example = read_examples([dict.fromkeys(["input", "output", "rationale", "subject"], value)]).examples[0]
    for text in (example.input, example.output, example.rationale, example.subject):
        assert type(text) is str
        assert text == "cold"


@pytest.mark.parametrize("row", [None, 3, "text", ["question", "answer"], np.zeros(2)], ids=repr)
def test_a_row_has_named_fields(row: object) -> None:
    reason = f"must be an object with named fields, got {type(row).__name__}"
    assert fault(GOOD, row) == BadRow("tuple", 2, None, reason, "row")


def test_any_mapping_is_a_row_and_its_other_fields_are_ignored() -> None:
    row: Mapping[str, object] = MappingProxyType({**GOOD, "score": NAN, "tags": ["a"], "inputs": 3})
    assert read_examples([row]).examples == [NewExample(input=GOOD["input"], output=GOOD["output"])]


# ---- ids together ----
AT_ODDS: dict[str, tuple[list[object], int, str]] = {
    "one without": ([1, 2, None], 3, "is missing, but row 1 has one"),
    "the first without": ([None, 2, 3], 1, "is missing, but row 2 has one"),
    "text among integers": ([1, "2", 3], 2, "is text, but the one of row 1 is an integer"),
    "integer among texts": (["1", "2", 3], 3, "is an integer, but the one of row 1 is text"),
    "twice": ([5, 6, 5], 3, "must be unique, but row 1 has the same"),
    "twice as a float": ([5, 6, 6.0], 3, "must be unique, but row 2 has the same"),
    "twice as text": (["a", "b", "b"], 3, "must be unique, but row 2 has the same"),
}


@pytest.mark.parametrize(("ids", "line", "reason"), AT_ODDS.values(), ids=AT_ODDS)
def test_ids_agree(ids: list[object], line: int, reason: str) -> None:
    assert fault(*({**GOOD, "id": id_} for id_ in ids)) == BadRow("tuple", line, "id", reason, "row")


@given(st.lists(st.one_of(st.none(), st.integers(0, 3), st.sampled_from(["a", "b"])), min_size=1, max_size=8))
def test_what_is_kept_agrees_and_reads_again_without_faults(ids: list[object]) -> None:
    reading = read_examples([{**GOOD, "id": id_} for id_ in ids], skip_bad=True)
    kept = [example.id for example in reading.examples]
    assert len(kept) + len(reading.skipped) == len(ids)
    assert len({type(id_) for id_ in kept}) == 1
    assert kept[0] is None or len(set(kept)) == len(kept)
    assert read_examples(reading.examples) == Reading(reading.examples, [])


# ---- bad rows ----
def test_a_bad_row_says_where_and_what() -> None:
    assert str(BadRow("tickets.jsonl", 3, "output", "is empty")) == "tickets.jsonl, line 3, field 'output': is empty"
    assert str(BadRow("list", 3, None, "is odd", "row")) == "list, row 3: is odd"


@given(example_lists(), st.data())
def test_skipping_bad_rows_is_leaving_them_out(examples: list[Example], data: st.DataObject) -> None:
    broken = data.draw(st.lists(st.booleans(), min_size=len(examples), max_size=len(examples)))
    column = data.draw(st.sampled_from(["input", "output", "subject"]))
    given_rows: Rows = [{**row, column: 0.5} if bad else row for row, bad in zip(rows(examples), broken, strict=True)]
    if all(broken):
        for skip_bad in (True, False):  # nothing is no success
            with pytest.raises(ExampleError, match="row 1"):
                read_examples(given_rows, skip_bad=skip_bad)
        return
    reading = read_examples(given_rows, skip_bad=True)
    assert reading.examples == [example for example, bad in zip(examples, broken, strict=True) if not bad]
    assert [row.line for row in reading.skipped] == [i + 1 for i, bad in enumerate(broken) if bad]
    if any(broken):
        with pytest.raises(ExampleError) as caught:
            read_examples(given_rows)
        message = str(caught.value)
        assert message.startswith(str(reading.skipped[0]))
        assert re.findall(r"\(and (\d+) more bad rows?\)", message) == [str(sum(broken) - 1)] * (sum(broken) > 1)
        assert "\n" not in message
    else:
        assert read_examples(given_rows) == reading


def test_faults_of_rows_and_of_ids_are_listed_in_the_order_of_the_source() -> None:
    ids: list[object] = [1, 1, True, 2, 2]
    reading = read_examples([{**GOOD, "id": id_} for id_ in ids], skip_bad=True)
    assert [row.line for row in reading.skipped] == [2, 3, 5]


# ---- names ----
@given(example_lists(), st.permutations(FIELDS))
def test_fields_may_have_any_names_even_those_of_other_fields(examples: list[Example], names: list[str]) -> None:
    fields = dict(zip(FIELDS, names, strict=True))
    renamed = [{fields[name]: value for name, value in row.items()} for row in rows(examples)]
    assert read_examples(renamed, fields=fields).examples == examples


@given(texts, texts, texts)
def test_a_column_that_is_given_to_one_field_is_not_read_for_another(first: str, second: str, third: str) -> None:
    row = {"subject": first, "output": second, "customer": third}
    assert read_examples([row], fields={"input": "subject"}).examples == [NewExample(input=first, output=second)]
    both = {"input": "subject", "subject": "customer"}
    assert read_examples([row], fields=both).examples == [NewExample(input=first, output=second, subject=third)]


@given(example_lists(least=2))
def test_an_example_has_its_fields_under_their_own_names_whatever_columns_are_called(examples: list[Example]) -> None:
    fields = {"input": "id", "output": "subject"}
    assert read_examples(examples, fields=fields).examples == examples
    same = [Example(7, e.input, e.output, e.rationale, e.subject) for e in examples]
    reading = read_examples(same, fields=fields, skip_bad=True)
    assert reading.examples == same[:1]
    assert {row.field for row in reading.skipped} == {"id"}


def test_a_fault_names_the_column_as_the_source_does() -> None:
    rows = [{"question": "", "output": "yes"}, {"question": "a", "output": "yes"}]
    reading = read_examples(rows, fields={"input": "question"}, skip_bad=True)
    assert reading.skipped == [BadRow("list", 1, "question", "is empty", "row")]
