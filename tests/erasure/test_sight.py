"""What the embedding model does not see is reported; and what it sees of a text is text, control tokens too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core.cli.app import app
from erase_core.embedding import loading
from erase_core.embedding.sentence import SentenceEmbedder
from erase_core.errors import EmbedderError, MissingPackageError, ParameterError
from erase_core.examples.example import Example
from erase_core.libraries import quiet
from erase_core.reports import IngestReport
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_stores import WordEmbedder, check_refused, create, fresh, new_path, seen, some
from typer.testing import CliRunner

LIMIT = 4


class Short(WordEmbedder):
    """Sees the first words of a text, and one token of its own."""

    max_tokens: Any = LIMIT

    def embed(self, texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        # As one word, since the sum of words would be the same in another order.
        return super().embed(["_".join(text.split()[: LIMIT - 1]) for text in texts])

    def count_tokens(self, texts: Sequence[str]) -> Any:
        return [len(text.split()) + 1 for text in texts]


def rows(*texts: str, first: int = 0) -> list[Example]:
    return [Example(i, text, f"answer {i}") for i, text in enumerate(texts, first)]


# ---- the report ----
words = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=6).map(" ".join)


@given(first=st.lists(words, max_size=6), second=st.lists(words, min_size=1, max_size=6))
def test_what_is_cut_and_what_looks_the_same_is_reported(first: list[str], second: list[str]) -> None:
    with new_path() as path, create(path, rows(*first), embedder=Short()) as erase:
        report = erase.ingest(rows(*second, first=len(first)))
        lengths = [len(text.split()) + 1 for text in second]
        assert report.n_truncated == sum(length > LIMIT for length in lengths)
        assert (report.longest, report.max_tokens) == (max(lengths), LIMIT)

        texts = dict(enumerate([*first, *second]))
        by_sight: dict[str, list[int]] = {}
        for i, text in texts.items():
            if len(text.split()) + 1 >= LIMIT:
                by_sight.setdefault(" ".join(text.split()[: LIMIT - 1]), []).append(i)
        groups = [group for group in by_sight.values() if len({texts[i] for i in group}) > 1]
        assert sorted(report.indistinct) == sorted(group for group in groups if group[-1] >= len(first))
        assert report.n_indistinct == sum(map(len, report.indistinct))
        assert report.to_dict()["indistinct"] == report.indistinct
        assert bool(report.unseen) == bool(report.n_truncated or report.indistinct)


def test_what_is_left_out_is_not_counted(path: Path) -> None:
    with create(path, rows("a b c d e"), embedder=Short()) as erase:
        erase.forget(0)
        report = erase.ingest([*rows("a b c d e f g"), *rows("a b", first=1)], on_forgotten="skip")
        assert (report.n_added, report.n_truncated, report.longest, report.unseen) == (1, 0, 3, "")
        report = erase.ingest([*rows("a b c d", first=2), {"id": 3, "input": "a b c d e f g"}], skip_bad=True)
        assert (report.n_truncated, report.longest) == (1, 5)


def test_counting_leaves_no_trace(path: Path) -> None:
    texts = ("a b c d", "a b c e", "b", "a b c")
    with create(path, rows(*texts), embedder=Short()) as erase:
        erase.forget([0, 3])
        found = seen(erase)
    with new_path() as other, create(other, rows(*texts)[1:3], embedder=Short()) as erase:
        assert seen(erase) == found


def test_a_model_that_does_not_count_is_not_reported(path: Path) -> None:
    def no_limit(embedder: Any) -> Any:
        embedder.max_tokens = None
        return embedder

    for number, embedder in enumerate((WordEmbedder(), no_limit(Short()))):
        with create(path / str(number), embedder=embedder) as erase:
            report = erase.ingest(rows("a b c d e", "a b c d f"))
            assert (report.n_truncated, report.longest, report.max_tokens, report.indistinct) == (0, None, None, [])
            assert report.unseen == ""


@pytest.mark.parametrize(
    ("given_counts", "words"),
    [
        ([1], "2 integers, one for each text, got 1"),
        (None, "must return integers"),
        (["a", "b"], "must return integers"),
    ],
)
def test_a_model_that_counts_wrongly_is_refused(path: Path, given_counts: Any, words: str) -> None:
    embedder = Short()
    with create(path, some(2), embedder=embedder) as erase:
        embedder.count_tokens = lambda texts: given_counts  # type: ignore[method-assign]
        check_refused(erase, lambda: erase.ingest(rows("a", "b", first=10)), EmbedderError, words)


@pytest.mark.parametrize(
    ("report", "line"),
    [
        ({}, ""),
        (
            {"n_truncated": 1, "longest": 300, "max_tokens": 256},
            "1 input is longer than the 256 tokens that the embedding model reads (the longest has 300)",
        ),
        (
            {"n_truncated": 2, "longest": 300, "max_tokens": 256, "indistinct": [[1, 2], [5, 6, 9]]},
            "2 inputs are longer than the 256 tokens that the embedding model reads (the longest has 300); "
            "5 examples differ only beyond that",
        ),
    ],
)
def test_the_line_of_a_report(report: dict[str, Any], line: str) -> None:
    assert IngestReport(1, 0, 0, 1, [], 0.0, 0.0, **report).unseen == line


@pytest.mark.parametrize("limit", [np.int64(LIMIT), np.uint8(LIMIT), np.int32(LIMIT)])
def test_a_limit_may_be_an_integer_of_numpys(path: Path, limit: Any) -> None:
    embedder = Short()
    embedder.max_tokens = limit
    with create(path, embedder=embedder) as erase:
        report = erase.ingest(rows("a b c d e", "a"))
        assert (report.n_truncated, report.max_tokens) == (1, LIMIT)
        json.dumps(report.to_dict())


def test_the_command_line_prints_one_line(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erase_core.backends.as_embedder", lambda _: Short())
    create(path, embedder="short").close()
    file = tmp_path / "rows.jsonl"
    for texts, lines in ((("a b c d e", "a b c d f", "a"), 2), (("a b",), 1)):
        file.write_text("".join(json.dumps({"input": text, "output": "yes"}) + "\n" for text in texts))
        result = CliRunner().invoke(app, ["ingest", str(file), "--store", str(path)])
        assert result.exit_code == 0, result.stderr
        assert len(result.stdout.splitlines()) == lines
        if lines == 2:
            assert result.stdout.splitlines()[1] == (
                "2 inputs are longer than the 4 tokens that the embedding model reads (the longest has 6); "
                "2 examples differ only beyond that"
            )


def test_removals_and_additions_with_long_texts_are_exact(path: Path) -> None:
    assert fresh(some(5)) == fresh(some(5))
    with create(path, rows("a b c d", "a b c e", "b"), embedder=Short()) as erase:
        assert erase.verify().ok


# ---- the packaged model ----
torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'erase-core[llm]'")
transformers = pytest.importorskip("transformers", reason="not installed: pip install 'erase-core[llm]'")
try:
    PACKAGED = loading.find(None)
except MissingPackageError as missing:
    pytest.skip(str(missing), allow_module_level=True)

PIECES = [
    "[SEP]",
    "[CLS]",
    "[PAD]",
    "[MASK]",
    "[UNK]",
    "[sep]",
    "[",
    "SEP",
    "]",
    " ",
    "parcel",
    "\0",
    "é",
    "東",
    "late?",
]
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join)
texts = texts.filter(lambda text: not any("\ud800" <= sign <= "\udfff" for sign in text))


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    return SentenceEmbedder(device="cpu")


@pytest.fixture(scope="module")
def own() -> Any:
    """The model's own tokenizer."""
    return transformers.AutoTokenizer.from_pretrained(PACKAGED.place)


def ids_of(embedder: SentenceEmbedder, text: str) -> list[int]:
    features = embedder._features([text])
    return [int(i) for i, kept in zip(features["input_ids"][0], features["attention_mask"][0], strict=True) if kept]


@given(text=texts)
def test_the_embedders_control_tokens_come_from_no_text(embedder: SentenceEmbedder, own: Any, text: str) -> None:
    ids = ids_of(embedder, text)
    special = set(own.all_special_ids) - {own.unk_token_id}
    assert [i for i in ids if i in special] == [own.cls_token_id, own.sep_token_id]
    assert (ids[0], ids[-1]) == (own.cls_token_id, own.sep_token_id)
    if not any(token in text for token in own.all_special_tokens):
        assert ids == own(text, truncation=True, max_length=embedder.max_tokens)["input_ids"]


def test_a_control_token_is_as_long_as_its_characters(embedder: SentenceEmbedder, own: Any) -> None:
    assert own.convert_ids_to_tokens(ids_of(embedder, "late [SEP] parcel")) == [
        *("[CLS]", "late", "[", "sep", "]", "parcel", "[SEP]")
    ]
    assert embedder.count_tokens(["late [SEP] parcel", "late"]) == [7, 3]


def test_features_are_those_of_the_models_own_tokenizer(embedder: SentenceEmbedder) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["where is my parcel", "", "refund " * 300, "Grüße, 東京 🙂"]
    with quiet():
        expected = SentenceTransformer(str(PACKAGED.place), device="cpu").preprocess(texts)
    found = embedder._features(texts)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.equal(found[name], values) if torch.is_tensor(values) else found[name] == values


@given(count=st.integers(1, 400))
def test_what_is_beyond_the_limit_is_not_seen(embedder: SentenceEmbedder, count: int) -> None:
    text = " ".join(["parcel"] * count)
    assert embedder.max_tokens == 256
    assert embedder.count_tokens([text]) == [count + 2]
    longer = embedder.embed([text, f"{text} please refund it"])
    assert bool((longer[0] == longer[1]).all()) == (count + 2 >= 256)


def test_a_prompt_of_the_model_counts_and_its_control_tokens_are_real(own: Any) -> None:
    prompted = SentenceEmbedder(device="cpu", prompt="query [SEP] ")
    ids = ids_of(prompted, "late [SEP]")
    assert ids.count(own.sep_token_id) == 2
    assert prompted.count_tokens(["late [SEP]"]) == [len(ids)]


def test_a_model_without_attention_sees_all(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(next(PACKAGED.place.rglob("tokenizer.json"))))  # type: ignore[union-attr]
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)])
    model.save(str(tmp_path / "static"))
    static = SentenceEmbedder(tmp_path / "static")
    assert static.max_tokens is None
    with pytest.raises(ParameterError, match="count_tokens needs a model with a limit"):
        static.count_tokens(["a"])
    # The characters of the token, not the token.
    assert (static.embed(["[SEP]"]) == static.embed(["[ SEP ]"])).all()


def test_a_whole_store_reports_what_its_model_does_not_see(path: Path, embedder: SentenceEmbedder) -> None:
    start = "where is my parcel " * 100
    with create(path, embedder=embedder) as erase:
        report = erase.ingest(rows(f"{start} in Rome?", f"{start} in Oslo?", "late?"))
    assert (report.n_truncated, report.max_tokens, report.indistinct) == (2, 256, [[0, 1]])
    assert report.longest == embedder.count_tokens([f"{start} in Rome?"])[0]


def test_a_tokenizer_in_python_is_left_as_it_is(tmp_path: Path) -> None:
    folder = shutil.copytree(PACKAGED.place, tmp_path / "copy")
    model = loading.load(loading.Source(folder, "copy"), "cpu")
    model[0].processor = transformers.ByT5Tokenizer()
    assert loading.make_plain(model) == {}
