"""Which stored subject is meant by one that is asked for: the law of the normal form, and of what is found."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import permutations

import pytest
from erase_core.erasure.request import Match, Request
from erase_core.examples.spelling import normalised
from hypothesis import given
from hypothesis import strategies as st
from small_stores import create, example, new_path, parts_of

# Some whose other case is more than one letter, or several, and accents.
LETTERS = "aAe\u00c9sS\u00df\u017fiI\u0130\u0131kK\u212a\u00c5\u212b\u03a3\u03c3\u03c2 \t7-\u0345\u03b1\u1fb3\u0301"
NAMES = st.text(st.sampled_from(LETTERS), max_size=6)
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\x0b", "\x1c", "\x85", "\u00a0", "\u1680", "\u2003", "\u2009", "\u2028"]
SPACES += ["\u202f", "\u205f", "\u3000", "\u2800"]
NOT_SHOWN = ["\u200b", "\u200c", "\u200d", "\u200e", "\u2060", "\ufeff", "\u00ad", "\u034f", "\ufe0f"]
NOT_SHOWN += ["\U000e0041", "\x07", "\x7f"]
# Unlike to a reader, or to a machine that reads them.
UNLIKE = ["customer-7", "customer-70", "customer 7", "customer7", "customer_7", "custom\u0435r-7", "customer-\uff17"]
UNLIKE += ["cust\u00f6mer-7", "customer-\u00b2", "customer-2", "\u2163", "IV", "caf\u00e9", "cafe"]


@given(name=st.one_of(NAMES, st.text(max_size=8)))
def test_a_normal_form_is_its_own(name: str) -> None:
    form = normalised(name)
    assert normalised(form) == form
    assert form == " ".join(form.split())


@given(name=st.one_of(NAMES, st.text(max_size=8)), data=st.data())
def test_what_cannot_be_told_apart_has_one_form(name: str, data: st.DataObject) -> None:
    for form in ("NFC", "NFD"):
        assert normalised(unicodedata.normalize(form, name)) == normalised(name)
    # Not without NFD: folding makes a letter of the mark U+0345, behind which other marks may stand (Unicode, D145).
    assert normalised(unicodedata.normalize("NFD", name).casefold()) == normalised(name)
    end, middle = data.draw(st.sampled_from(SPACES)), data.draw(st.sampled_from(NOT_SHOWN))
    assert normalised(end + name + end * 2) == normalised(name)
    place = data.draw(st.integers(0, len(name)))
    assert normalised(unicodedata.normalize("NFD", name)) == normalised(name)
    assert normalised(middle + name + middle) == normalised(name)
    if not (place < len(name) and unicodedata.combining(name[place])):
        assert normalised(name[:place] + middle + name[place:]) == normalised(name)


@given(left=NAMES.filter(str.strip), right=NAMES.filter(str.strip))
def test_spaces_between_words_are_one(left: str, right: str) -> None:
    forms = {normalised(left + space + right) for space in SPACES if not unicodedata.combining(right[0])}
    assert len(forms) <= 1


@pytest.mark.parametrize(
    "alike",
    [
        ("Ann Smith", "ann smith", "ANN  SMITH ", "\u200bAnn\u00a0Smith", "ann\tsmith\n"),
        ("caf\u00e9", "cafe\u0301", "CAFE\u0301", "CAF\u00c9", "ca\u200bf\u00e9"),
        ("\ufb01n", "FIN"),
        ("stra\u00dfe", "STRASSE", "stra\u1e9ee"),
        ("\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "\u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3"),
        ("\uac00", "\u1100\u1161"),
        ("\u212bngstr\u00f6m", "\u00c5ngstro\u0308m", "a\u030angstr\u00f6m"),
        ("customer-7", "Customer-7", "customer\u2060-7", "\ufeffcustomer-7"),
        ("", " ", "\u200b", "\u2800\u3000"),
    ],
    ids=lambda alike: ascii(alike[0]),
)
def test_alike(alike: Sequence[str]) -> None:
    assert {normalised(name) for name in alike} == {normalised(alike[0])}


@pytest.mark.parametrize(("one", "other"), permutations(UNLIKE, 2), ids=ascii)
def test_unlike(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


SUBJECTS = st.sampled_from(["ann", "Ann", " ann", "a\u200bnn", "bob", "Bob", "cem", "caf\u00e9", "cafe\u0301"])
MATCHES: list[Match] = ["exact", "normalised"]


@given(
    stored=st.lists(st.one_of(st.none(), SUBJECTS), min_size=1, max_size=10),
    wanted=st.lists(SUBJECTS, min_size=1, unique=True),
)
def test_what_is_found_is_what_was_asked_for(stored: Sequence[str | None], wanted: list[str]) -> None:
    ids_of = {subject: [i for i, each in enumerate(stored) if each == subject] for subject in {*stored} - {None}}
    forms = {normalised(subject) for subject in wanted}
    alike = {subject for subject in ids_of if subject is not None and normalised(subject) in forms}
    examples = [example(i, subject=each) for i, each in enumerate(stored)]
    with new_path() as path, create(path, examples) as erase, parts_of(erase).store.reading() as reads:
        exact, wide = (Request(None, wanted, "skip", match).resolve(reads) for match in MATCHES)
        there = {subject: reads.ids_about(subject) for subject in wanted}
    assert there == {subject: ids_of.get(subject, []) for subject in wanted}
    assert exact.subjects == [subject for subject in wanted if subject in ids_of]
    assert exact.n_missing == len([subject for subject in wanted if subject not in ids_of])
    assert exact.n_similar == len(alike - set(wanted))
    assert set(wide.subjects or ()) == alike
    assert wide.n_missing == len([subject for subject in wanted if normalised(subject) not in map(normalised, alike)])
    assert wide.n_similar == 0
    for found in (exact, wide):
        subjects = found.subjects or []
        assert len(set(subjects)) == len(subjects)
        assert found.ids == [id_ for subject in subjects for id_ in ids_of[subject]]
