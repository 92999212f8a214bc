"""The search of bytes: what is there is found, wherever it begins; what is not there is not."""

from __future__ import annotations

import random
from io import BytesIO

import numpy as np
import pytest
from erase_core.errors import ParameterError
from erase_core.scan import searching
from erase_core.scan.directions import Directions
from erase_core.scan.searching import Searcher
from erase_core.verify.forms import forms_of_text, forms_of_vector
from erase_core.verify.needles import PIECE, Needles
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

TEXT = "Zoë Ångström, 7 Élysée Street, owes 4711 €"


def vectors(seed: int, count: int = 3, dim: int = 48) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


@given(st.lists(st.binary(min_size=4, max_size=300), min_size=1, max_size=20), st.integers(0, 2**32), st.booleans())
def test_many_byte_strings_are_found_as_one_by_one(needles: list[bytes], seed: int, all_present: bool) -> None:
    """The first place of each whole string is that of `bytes.find`; a string is also found by any of its pieces."""
    rng = random.Random(seed)
    present = needles if all_present else [needle for needle in needles if rng.random() < 0.5]
    content = b"".join(rng.randbytes(rng.randrange(20)) + needle for needle in present)
    found = {place.which: place for place in Needles(needles).find(bytearray(content + b"behind"), len(content))}
    for which, needle in enumerate(needles):
        offset = content.find(needle)
        if offset >= 0:
            assert (found[which].offset, found[which].whole) == (offset, True)
        elif len(needle) <= PIECE:
            assert which not in found
        elif which in found:
            assert not found[which].whole


@given(st.integers(0, PIECE), st.integers(0, 40))
def test_a_piece_of_a_long_byte_string_is_found(before: int, gap: int) -> None:
    """As a database splits a value: the first 128 bytes that follow a multiple of 128 are in one piece."""
    needle = random.Random(1).randbytes(5 * PIECE)
    content = b"." * before + needle[PIECE : 2 * PIECE + gap]
    (place,) = Needles([needle]).find(content, len(content))
    assert place == (0, before, False)


@pytest.mark.parametrize("form", forms_of_text(TEXT))
@pytest.mark.parametrize("offset", [0, 1, 3, 4093, 4096, 8191, 12_289])
def test_a_text_is_found_in_every_encoding_at_every_offset(
    form: str, offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one part that is searched ends and the next begins."""
    monkeypatch.setattr(searching, "PART", 4096)
    searcher = Searcher([TEXT], [], [])
    searcher.stream(BytesIO(b"." * offset + forms_of_text(TEXT)[form] + b"." * 5000), "here")
    finding = searcher.findings["here", ("text", 1), form]
    assert (finding.offset, finding.whole) == (offset, True)


@pytest.mark.parametrize("form", forms_of_vector(vectors(0)[0]))
def test_a_vector_is_found_in_every_encoding_at_every_alignment(form: str) -> None:
    vector = vectors(0)[0]
    for offset in range(9):
        searcher = Searcher([], [], [vectors(5)[0], vector])
        searcher.stream(BytesIO(b"\xc3" * offset + forms_of_vector(vector)[form] + b"\xc3"), "here")
        finding = searcher.findings["here", ("vector", 2), form]
        assert (finding.offset, finding.whole) == (offset, True)
        assert {target for _, target, _ in searcher.findings} == {("vector", 2)}


@given(st.integers(0, 2**32), st.floats(1e-3, 1e3), st.integers(0, 7), st.sampled_from([8, 13, 32, 33, 100, 384]))
def test_a_vector_of_the_same_direction_is_found(seed: int, scale: float, shift: int, dim: int) -> None:
    """With any norm, and rounded in any way: no component differs by more than a millionth of the largest."""
    rng = np.random.default_rng(seed)
    wanted = rng.normal(size=(4, dim))
    noise = rng.uniform(-1e-6, 1e-6, dim) * np.abs(wanted[2]).max()
    stored = ((wanted[2] + noise) * scale).astype("<f4").tobytes()
    content = rng.bytes(shift + 40) + stored + rng.bytes(64)
    found = list(Directions(list(wanted)).find(content, len(content)))
    assert (2, shift + 40, True) in found
    assert len(found) == 1


@given(st.integers(0, 2**32), st.sampled_from([8, 32, 384]))
def test_no_other_direction_is_found(seed: int, dim: int) -> None:
    """Neither its opposite, nor a vector that differs by a thousandth, nor one with two components swapped."""
    rng = np.random.default_rng(seed)
    wanted = rng.normal(size=dim)
    near = wanted + 1e-3 * np.abs(wanted).max() * rng.choice([-1, 1], dim)
    others = [-wanted, near, np.roll(wanted, 1)[::-1], *rng.normal(size=(20, dim))]
    content = np.asarray(others, "<f4").tobytes()
    assert list(Directions([wanted]).find(content, len(content))) == []


def test_what_repeats_is_not_found_by_chance() -> None:
    """Zeros, runs of one value, and text are not the direction of any vector."""
    wanted = [np.eye(1, 64)[0], np.ones(64), np.repeat([1.0, 2.0], 32), *vectors(3)]
    content = bytes(4096) + np.ones(999, "<f4").tobytes() + TEXT.encode() * 99
    assert list(Directions(wanted).find(content, len(content))) == []


def test_nothing_is_found_across_two_values() -> None:
    searcher = Searcher([TEXT], [], [])
    half = len(TEXT) // 2
    searcher.values([("a", TEXT[:half].encode()), ("a", TEXT[half:].encode())])
    assert searcher.findings == {}


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(0, 30))
def test_the_offset_of_a_value_is_counted_from_its_beginning(others: list[bytes], before: int) -> None:
    searcher = Searcher([TEXT], [], [])
    searcher.values([("a", each) for each in [*others, b"\xff" * before + TEXT.encode(), *others]])
    assert searcher.findings["a", ("text", 1), "UTF-8"].offset == before


def test_a_whole_text_counts_more_than_a_piece_of_it() -> None:
    long = random.Random(2).randbytes(200).hex()
    searcher = Searcher([long], [], [])
    searcher.values([("a", long[:150].encode()), ("b", long[:150].encode()), ("b", long.encode())])
    wholes = {place: finding.whole for (place, _, form), finding in searcher.findings.items() if form == "UTF-8"}
    assert wholes == {"a": False, "b": True}


@pytest.mark.parametrize("size", [512, 4096, 2**20])
def test_only_what_is_nearly_uniform_looks_compressed_or_encrypted(size: int) -> None:
    rng = np.random.default_rng(size)
    searcher = Searcher([TEXT], [], [])
    assert searcher.stream(BytesIO(rng.bytes(size)), "random")
    plain = {
        "text": (TEXT.encode() * size)[:size],
        "float32": rng.normal(size=size // 4).astype("<f4").tobytes(),
        "float64": rng.normal(size=size // 8).tobytes(),
        "float16": rng.normal(size=size // 2).astype("<f2").tobytes(),
        "bytes": rng.normal(0, 40, size=size).clip(-128, 127).astype(np.int8).tobytes(),
        "zeros": bytes(size),
    }
    assert [name for name, content in plain.items() if searcher.stream(BytesIO(content), name)] == []


def test_what_would_be_found_everywhere_is_refused() -> None:
    with pytest.raises(ParameterError, match="at least 4 bytes"):
        Searcher(["abc"], [], [])
    with pytest.raises(ParameterError, match="zeros"):
        Searcher([], [], [np.zeros(8)])
