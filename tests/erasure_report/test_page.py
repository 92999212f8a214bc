"""The page: sound HTML that needs nothing else, with all facts, escaped, and steps that can be followed."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from erase_core import Erase, report_erasure, traces_of
from erase_core.erasure_report.facts import ErasureReport
from erase_core.receipts.receipt import Receipt
from erase_core.receipts.signing import Signer
from processes import HANG
from receipts_by_hand import new_keys
from small_stores import WordEmbedder, create, example, some

VOID = {"meta", "input", "link", "br", "hr", "img"}
EVIL = "<script>alert('x')</script>&\"'<img src=//evil/x>"


class Strict(HTMLParser):
    """Refuses what is not closed, closed twice or given twice, and collects elements, text and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open, f"<{tag}/> is closed in itself outside of SVG"
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.open)

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def named(self, *tags: str) -> Iterator[tuple[str, dict[str, str | None]]]:
        return ((tag, attributes) for tag, attributes in self.elements if tag in tags)


def parsed(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def reports(path: Path) -> dict[str, ErasureReport]:
    """A report of each verdict, by its verdict."""
    with create(path, some(20)) as erase:
        traces = traces_of(erase, [1, 2])
        removal = erase.forget([1, 2])
        made = [
            report_erasure(erase, [1, 2], removal=removal, traces=traces),
            report_erasure(erase, 3),
            report_erasure(erase, 99),
        ]
        (path / "left").write_text("parcel number 77 of somebody")
        made += [report_erasure(erase, 1, absent=["parcel number 77 of somebody"], folders=path)]
        return {report.verdict: report for report in made}


def test_every_page_is_sound_and_says_its_verdict(path: Path) -> None:
    words = {
        "forgotten": "✓ Forgotten",
        "not forgotten": "✗ NOT forgotten",
        "problems": "✗ Removed, but a check found something",
        "unknown": "? Nothing is known",
    }
    made = reports(path)
    assert set(made) == set(words)
    for verdict, report in made.items():
        page = parsed(report.to_html())
        assert [each for each, said in words.items() if said in page.text] == [verdict]
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        for _, attributes in page.elements:
            for reference in ("aria-labelledby", "for"):
                assert attributes.get(reference, ids[0]) in ids
        for _, attributes in page.named("a"):
            assert (attributes["href"] or "").removeprefix("#") in ids


def test_a_page_can_be_read_by_everyone(path: Path) -> None:
    """Language, headings without gaps, heads of tables, a text for the picture, a label for each box."""
    page = parsed(reports(path)["forgotten"].to_html())
    assert page.elements[0] == ("html", {"lang": "en"})
    levels = [int(tag[1]) for tag, _ in page.named("h1", "h2", "h3")]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(attributes.get("scope") in ("row", "col") for _, attributes in page.named("th"))
    [(_, svg)] = page.named("svg")
    assert svg["role"] == "img"
    assert "Left, before: the same examples, and 2 empty marks" in page.text
    boxes = [attributes["id"] for _, attributes in page.named("input")]
    assert boxes == [attributes["for"] for _, attributes in page.named("label")]
    assert len(boxes) > 5


def test_colours_have_contrast() -> None:
    """WCAG 2: at least 4.5 to 1 for text on its ground."""
    from erase_core.erasure_report import page as module

    style = (Path(module.__file__).parent / module.TEMPLATE).read_text()
    named = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", style))

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    pairs = [("ink", "pale"), *((name, f"{name}-pale") for name in ("good", "bad", "care"))]
    pairs += [("ink", f"{name}-pale") for name in ("good", "bad", "care")]
    grounds = [(named[text], named[ground]) for text, ground in pairs]
    grounds += [(named[text], "#ffffff") for text in ("ink", "soft", "good", "bad", "care")]
    for text, ground in grounds:
        assert (light(ground) + 0.05) / (light(text) + 0.05) >= 4.5, (text, ground)


def test_a_page_needs_nothing_else_and_runs_nothing(path: Path) -> None:
    for report in reports(path).values():
        source = report.to_html()
        page = parsed(source)
        policies = [a["content"] for _, a in page.named("meta") if a.get("http-equiv") == "Content-Security-Policy"]
        assert len(policies) == 1
        assert {"default-src 'none'", "style-src 'unsafe-inline'", "img-src data:"} <= set(str(policies[0]).split("; "))
        assert not list(
            page.named("script", "link", "iframe", "object", "embed", "form", "base", "img", "image", "use")
        )
        for tag, attributes in page.elements:
            assert not {name for name in attributes if name.startswith("on") or name in ("src", "srcset", "style")}, tag
            assert (attributes.get("href") or "#").startswith("#")
        assert "url(" not in source
        assert "@import" not in source
        assert "http:" not in source.replace("http://www.w3.org", "")


def test_all_facts_of_a_receipt_are_on_the_page(path: Path, tmp_path: Path) -> None:
    """But for hashes of rows, tokens and commitments, which the receipt's file has: of these, how many."""
    keys = new_keys(tmp_path)
    with create(path, some(20), signing_key=keys.private, public_keys=[keys.public]) as erase:
        erase.forget([1, 2])
        erase.forget(3)
        report = report_erasure(erase, [1, 3])
    page = html.unescape(report.to_html())
    for receipt in report.receipts:
        assert f"{receipt.number}:{receipt.hash}" in page
        for each in fields(Receipt):
            value = getattr(receipt, each.name)
            if each.name in ("commitment_before", "commitment_after"):
                assert value not in page
            elif each.name in ("rows", "tokens"):
                assert not [hash_ for hash_ in value if hash_ in page]
                assert re.search(rf"\b{len(value)}\b", parsed(report.to_html()).text)
            else:
                for fact in value.values() if isinstance(value, dict) else [value]:
                    assert (f"{fact[:10]} at {fact[11:19]} UTC" if each.name == "time" else str(fact)) in page
    assert set(report.public_keys) == {Signer(keys.private).public_key}


def test_texts_from_elsewhere_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / EVIL.replace("/", "\u2215") / "\u202estore\x1b[31m"
    embedder = WordEmbedder(EVIL)
    with create(path, [example(i, subject=f"about {i % 3}") for i in range(8)], embedder=embedder) as erase:
        erase.forget(subject="about 1")
        (path / "<b>about 1").write_text("about 1")
        report = report_erasure(erase, subject="about 1", folders=path)
    source = report.to_html()
    page = parsed(source)
    assert report.verdict == "problems"
    assert "<script>alert" in page.text
    assert not list(page.named("script", "img", "b"))
    assert "\x1b" not in source
    assert "\u202e" not in source


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.skipif(not all(map(shutil.which, ("openssl", "sha256sum"))), reason="needs openssl and sha256sum")
def test_the_steps_can_be_followed_and_fail_when_a_receipt_is_changed(tmp_path: Path, signed: bool) -> None:
    """Each command of the page, in a shell, shows what the page says that it must show."""
    keys, path = new_keys(tmp_path), tmp_path / "a store's folder"
    key: dict[str, Any] = {"signing_key": keys.private} if signed else {}
    with create(path, some(20), receipts=tmp_path / "its receipts", **key) as erase:
        erase.forget([1, 2])
        erase.forget(3)
        report = report_erasure(erase, [1, 3])
    shutil.copy(keys.public_file, tmp_path / "public.pem")
    page = html.unescape(report.to_html())
    assert len(report.steps) == (5 if signed else 4)

    def done(command: str) -> str:
        assert command in page
        python = f"{sys.executable} -m erase_core.cli.app"
        shell = f'erase() {{ {python} "$@"; }}; {command}'
        run = subprocess.run(
            ["bash", "-c", shell], cwd=tmp_path, input="", capture_output=True, text=True, timeout=HANG, check=False
        )
        return run.stdout

    for step in report.steps:
        assert step.expected in done(step.command), step
        assert step.expected in page
    newest = tmp_path / "its receipts" / "00000002.json"
    newest.write_bytes(newest.read_bytes().replace(b'"ids"', b'"subject"'))
    for step in (report.steps[-4], report.steps[-1]):
        assert step.expected not in done(step.command), step


def test_the_order_of_the_request_does_not_matter(path: Path) -> None:
    with create(path, some(20)) as erase:
        erase.forget([5, 1, 3])
        pages = [report_erasure(erase, ids).to_html() for ids in ([1, 3, 5], [5, 3, 1], [3, 3, 1, 5])]
    same = [re.sub(r"Made on .*? UTC", "", page) for page in pages]
    assert same[0] == same[1] == same[2]


def test_the_embedding_model_is_not_needed_for_a_page(path: Path) -> None:
    """A store whose embedder was given as an object can be reported on without it."""
    with create(path, some(20)) as erase:
        erase.forget(1)
    with Erase.open(path) as erase:
        assert report_erasure(erase, 1).verdict == "forgotten"
