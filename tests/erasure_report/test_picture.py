"""The picture: a function of the examples that stay and of how many went, on axes that do not depend on the data."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import fromstring

import numpy as np
import pytest
from command_line import needs_embedder
from erase_core import Erase, read_examples, report_erasure
from erase_core.demo.run import DATA
from erase_core.embedding.projection import principal_axes
from erase_core.embedding.sentence import SentenceEmbedder
from erase_core.erasure_report.picture import AXES_FILE, GRID, ClusterPicture, svg_of
from hypothesis import given, settings
from hypothesis import strategies as st
from small_stores import create, new_path, some

SETTINGS = (
    {"strategy": "kmeans"},
    {"strategy": "routed", "n_prompts": 4},
    {"projection": 3},
    {"projection": np.eye(8)},
)


def picture_of(erase: Erase, request: int | list[int] = 999) -> ClusterPicture:
    picture = report_erasure(erase, request).picture
    assert picture is not None
    return picture


@given(gone=st.sets(st.integers(0, 39), min_size=1, max_size=39), which=st.sampled_from(range(len(SETTINGS))))
@settings(max_examples=12, deadline=None)
def test_a_store_that_never_had_them_gives_the_same_picture(gone: set[int], which: int) -> None:
    """By ==, whatever was removed, and in whatever order the examples came. Only the number of empty marks differs."""
    given_, going = some(40), sorted(gone)
    staying = [each for each in given_ if each.id not in gone]
    options = SETTINGS[which]
    with new_path() as path, create(path, given_, **options) as erase, new_path() as other:
        erase.forget(list(going))
        with create(other, staying[::-1], **options) as fresh:
            after, never = picture_of(erase, list(going)), picture_of(fresh)
    assert after == never
    assert svg_of(after, len(gone)) == svg_of(never, len(gone))
    assert svg_of(after, None) == svg_of(never, None)


def test_the_panel_of_before_has_what_stays_where_it_is_now_and_a_mark_for_each_that_went(path: Path) -> None:
    with create(path, some(40)) as erase:
        erase.forget([3, 4, 5])
        picture = picture_of(erase, [3])
    root = fromstring(svg_of(picture, 3))
    before, after = (root.find(f"*[@id='{name}']") for name in ("before", "after"))
    assert before is not None
    assert after is not None

    def circles(group: object, *, filled: bool) -> list[tuple[str | None, ...]]:
        found = group.findall("circle")  # type: ignore[attr-defined]
        dots = [each for each in found if (each.get("fill-opacity") is not None) == filled]
        return [tuple(each.get(name) for name in ("cx", "cy", "r")) for each in dots]

    assert circles(before, filled=True) == circles(after, filled=True)
    assert len(circles(before, filled=False)) == 3
    # Nothing of the clusters: one colour for all.
    assert len({each.get("fill") for each in before.findall("circle") if each.get("fill-opacity")}) == 1


@given(n=st.integers(1, 10**6))
def test_empty_marks_depend_on_their_number_alone_and_are_not_too_many(n: int) -> None:
    picture = ClusterPicture("random", (2,), ((0, 0, 0, 1), (9, 9, 0, 1)), ((5, 5),))
    marks = [each for each in fromstring(svg_of(picture, n)).iter("circle") if each.get("fill") == "none"]
    assert len(marks) == min(n, 60)
    assert f"{n} removed" in svg_of(picture, n)


def test_all_examples_are_in_the_picture(path: Path) -> None:
    with create(path, some(50)) as erase:
        picture = picture_of(erase)
    assert sum(count for *_, count in picture.dots) == sum(picture.sizes) == 50
    assert all(0 <= place < GRID for first, second, *_ in picture.dots for place in (first, second))


def test_the_state_before_is_shown_only_while_it_is_known(path: Path) -> None:
    with create(path, some(20)) as erase:
        erase.forget([1, 2])
        assert report_erasure(erase, 1).is_newest
        assert "Before: 20 examples" in report_erasure(erase, 1).to_html()
        erase.ingest(some(3, 100))
        report = report_erasure(erase, 1)
        assert not report.is_newest
        assert "Before:" not in report.to_html()
        assert "Now: 21 examples" in report.to_html()
        erase.forget(3)
        assert not report_erasure(erase, 1).is_newest
        # Of several removals, none has a known state before.
        assert not report_erasure(erase, [1, 3]).is_newest
        assert report_erasure(erase, 3).is_newest


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_examples_have_a_picture_too(path: Path, count: int) -> None:
    with create(path, some(count + 1)) as erase:
        erase.forget(0)
        report = report_erasure(erase, 0)
    assert report.picture is not None
    assert sum(report.picture.sizes) == count
    assert f"After: {count} example" in report.to_html()


def test_there_is_no_picture_where_none_is_wanted_or_what_is_to_go_would_be_in_it(path: Path) -> None:
    with create(path, some(20)) as erase:
        erase.forget(1)
        assert "<svg" in report_erasure(erase, 1).to_html()
        assert "<svg" not in report_erasure(erase, 1, picture=False).to_html()
        assert "<svg" not in report_erasure(erase, [1, 2]).to_html()


@pytest.mark.slow
@needs_embedder
def test_the_axes_of_the_packaged_model_are_those_of_public_texts() -> None:
    """The questions of the demo, which are no examples of anyone's store."""
    texts = [example.input for example in read_examples(DATA / "questions.jsonl").examples]
    axes = principal_axes(SentenceEmbedder().embed(texts), 2)
    shipped = np.load(AXES_FILE)
    assert shipped.shape == axes.shape
    # Another processor embeds in another order of sums.
    assert np.abs(np.abs(shipped @ axes.T) - np.eye(2)).max() < 1e-3
