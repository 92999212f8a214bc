"""What a model's files say of it is what the loaded model says, or they say nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from erase_core import Erase
from erase_core.backends import identified
from erase_core.embedding import loading
from erase_core.embedding.model_files import Identity, identity
from erase_core.embedding.sentence import SentenceEmbedder
from erase_core.errors import EmbedderError, MissingPackageError
from erase_core.libraries import quiet
from small_stores import parts_of

os.environ["HF_HUB_OFFLINE"] = "1"
torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'erase-core[llm]'")
pytest.importorskip("sentence_transformers", reason="not installed: pip install 'erase-core[llm]'")
try:
    PACKAGED = loading.find(None)
except MissingPackageError as missing:
    pytest.skip(str(missing), allow_module_level=True)

KINDS = ("bert", "camembert", "distilbert", "modernbert", "mpnet", "roberta", "xlm-roberta")
OTHERS = ("albert", "electra", "deberta-v2")
DIM = 24


def _transformer(kind: str, folder: Path) -> None:
    import transformers

    size: dict[str, Any] = {"vocab_size": 30522, "max_position_embeddings": 64, "pad_token_id": 0}
    names = ("dim", "n_layers", "n_heads", "hidden_dim") if kind == "distilbert" else ()
    names = names or ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    size |= dict(zip(names, (DIM, 1, 2, 32), strict=True))
    if kind in ("albert", "electra"):
        size["embedding_size"] = 16  # which is not what comes out
    if kind == "modernbert":
        size |= {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    torch.manual_seed(0)
    with quiet():
        config = transformers.AutoConfig.for_model(kind, **size)
        transformers.AutoModel.from_config(config).save_pretrained(folder)


def make(folder: Path, *, kind: str = "bert", modes: Any = "mean", dense: tuple[int, ...] = (), **own: Any) -> Path:
    """Write a model as the library does: a transformer, a pooling, dense layers and a normalisation."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules.dense import Dense
    from sentence_transformers.base.modules.normalize import Normalize
    from sentence_transformers.base.modules.transformer import Transformer
    from sentence_transformers.sentence_transformer.modules.pooling import Pooling

    raw = folder.with_name("raw")
    shutil.copytree(
        PACKAGED.place, raw, ignore=shutil.ignore_patterns("*.safetensors", "1_*", "modules.json", "*bert*")
    )
    _transformer(kind, raw)
    with quiet():
        modules: list[Any] = [Transformer(str(raw), max_seq_length=42), Pooling(DIM, modes)]
        width = DIM * (1 if isinstance(modes, str) else len(modes))
        for out in dense:
            modules.append(Dense(width, out))
            width = out
        SentenceTransformer(modules=[*modules, Normalize()], device="cpu", **own).save(
            str(folder), create_model_card=False
        )
    return folder


def loaded(folder: Path | None) -> Identity:
    """What the model says itself."""
    embedder = SentenceEmbedder(folder, device="cpu")
    return Identity(embedder.name, embedder.dim)


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


# ---- where they say it ----
def test_the_packaged_model() -> None:
    assert identity(PACKAGED) == loaded(None)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_transformer(kind: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "model", kind=kind)
    assert identity(loading.find(folder)) == loaded(folder)


SHAPES: list[tuple[dict[str, Any], int]] = [
    ({}, DIM),
    ({"modes": "cls"}, DIM),
    ({"modes": ("mean", "max", "cls")}, 3 * DIM),
    ({"dense": (16,)}, 16),
    ({"modes": ("mean", "max"), "dense": (50, 12)}, 12),
    ({"truncate_dim": 10}, 10),
    ({"truncate_dim": 1000}, DIM),
    ({"dense": (16,), "truncate_dim": 5}, 5),
    ({"prompts": {"q": "query: "}, "default_prompt_name": "q"}, DIM),
]


@pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)
def test_every_shape(shape: dict[str, Any], dim: int, tmp_path: Path) -> None:
    folder = make(tmp_path / "model", **shape)
    found = identity(loading.find(folder))
    assert found == loaded(folder)
    assert found is not None
    assert found.dim == dim


def test_the_files_of_older_versions(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", modes="cls")
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = json.loads((folder / "modules.json").read_text())
    old = [
        module | {"type": f"sentence_transformers.models.{kind}"} for module, kind in zip(modules, kinds, strict=True)
    ]
    (folder / "modules.json").write_text(json.dumps(old))
    mean_and_max = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False, "pooling_mode_max_tokens": True}
    (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": DIM} | mean_and_max))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20, "do_lower_case": False}))
    (folder / "config_sentence_transformers.json").unlink()
    shutil.rmtree(folder / "2_Normalize", ignore_errors=True)
    found = identity(loading.find(folder))
    assert found == loaded(folder)
    assert found is not None
    assert found.dim == 2 * DIM


# ---- where they do not ----
@pytest.mark.parametrize("kind", OTHERS)
def test_of_other_transformers_nothing_is_said(kind: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "model", kind=kind)
    assert identity(loading.find(folder)) is None
    assert identified(folder)[0] == loaded(folder)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _module(folder: Path, number: int, **changes: Any) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[number] |= changes
    (folder / "modules.json").write_text(json.dumps(modules))


UNCLEAR: dict[str, Callable[[Path], object]] = {
    "no modules": lambda folder: (folder / "modules.json").unlink(),
    "modules that are no JSON": lambda folder: (folder / "modules.json").write_text("[{"),
    "a module of one's own": lambda folder: _module(folder, 1, type="my_package.Pooling"),
    "an unknown module": lambda folder: _module(folder, 1, type="sentence_transformers.models.CNN"),
    "a module elsewhere": lambda folder: _module(folder, 1, path="../1_Pooling"),
    "code of the model's own": lambda folder: edit(folder / "config.json", auto_map={"AutoModel": "x.Y"}),
    "another width than the weights have": lambda folder: edit(folder / "config.json", hidden_size=48),
    "another width in the pooling": lambda folder: edit(folder / "1_Pooling/config.json", embedding_dimension=48),
    "another task": lambda folder: edit(folder / "sentence_bert_config.json", transformer_task="fill-mask"),
    "an unknown setting": lambda folder: edit(folder / "sentence_bert_config.json", surprise=1),
    "another kind of model": lambda folder: edit(
        folder / "config_sentence_transformers.json", model_type="SparseEncoder"
    ),
    "requirements": lambda folder: edit(folder / "config_sentence_transformers.json", requirements={"torch": ">=99"}),
    "a length that is none": lambda folder: edit(folder / "config_sentence_transformers.json", truncate_dim=0),
    "a dense layer of another width": lambda folder: edit(folder / "2_Dense/config.json", in_features=23),
    "a dense layer of its own output": lambda folder: edit(folder / "2_Dense/config.json", module_output_name="x"),
    "a residual": lambda folder: edit(folder / "2_Dense/config.json", use_residual=True),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "weights cut short": lambda folder: _cut(folder / "model.safetensors"),
    "weights that are none": lambda folder: (folder / "model.safetensors").write_bytes(b"none"),
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "an adapter": lambda folder: (folder / "adapter_config.json").write_text("{}"),
}


@pytest.mark.parametrize("how", UNCLEAR)
def test_of_what_is_unclear_or_damaged_nothing_is_said(how: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "model", dense=(16,))
    assert identity(loading.find(folder)) is not None
    UNCLEAR[how](folder)
    assert identity(loading.find(folder)) is None


def test_of_a_model_on_the_hub_nothing_is_said() -> None:
    assert identity(loading.find("someone/some-model")) is None


# ---- a store ----
def test_a_store_is_made_without_the_model_and_works_with_it(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", truncate_dim=10)
    with Erase.create(tmp_path / "store", embedder=folder, n_shots=2, strategy="kmeans") as erase:
        assert parts_of(erase).backends._embedder is None
        assert erase.status().embedder == loaded(folder).name
        erase.ingest([{"input": "a parcel", "output": "yes"}, {"input": "a refund", "output": "no"}])
        assert len(erase.demonstrations()) == 2
    with Erase.create(tmp_path / "other", embedder=SentenceEmbedder(folder), n_shots=2, strategy="kmeans") as erase:
        assert (parts_of(erase).backends._identity, parts_of(erase).backends._dim) == loaded(folder)


def test_a_model_that_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "model")
    with Erase.create(tmp_path / "store", embedder=folder) as erase:
        edit(folder / "config_sentence_transformers.json", truncate_dim=7)
        with pytest.raises(EmbedderError, match="built with"):
            erase.ingest([{"input": "a parcel", "output": "yes"}])
        assert erase.status().n_examples == 0


def test_a_model_that_cannot_be_loaded_makes_no_store(tmp_path: Path) -> None:
    folder = make(tmp_path / "model")
    _cut(folder / "model.safetensors")
    with pytest.raises(EmbedderError):
        Erase.create(tmp_path / "store", embedder=folder)
    assert not (tmp_path / "store").exists()
