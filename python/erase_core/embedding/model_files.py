"""Name and dimension of an embedding model from its files, without loading it: enough to create a store.

This works only for folders of sentence-transformers whose files determine the dimension with certainty: a transformer
of a known type, a pooling, perhaps dense layers and a normalisation, all complete and consistent. Any other model must
be loaded, which is left to `loading` and `sentence`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from erase_core.embedding import loading

__all__ = ["Identity", "identity"]

NEEDED = ("torch", "transformers", "sentence_transformers")
WEIGHTS = "model.safetensors"
PLACES = ("models", "base.modules", "sentence_transformer.modules")
# For each type of transformer: the configuration key of the length of a token's vector, and a weight of that length.
KINDS = {
    "bert": ("hidden_size", "embeddings.word_embeddings.weight"),
    "camembert": ("hidden_size", "embeddings.word_embeddings.weight"),
    "distilbert": ("dim", "embeddings.word_embeddings.weight"),
    "modernbert": ("hidden_size", "embeddings.tok_embeddings.weight"),
    "mpnet": ("hidden_size", "embeddings.word_embeddings.weight"),
    "roberta": ("hidden_size", "embeddings.word_embeddings.weight"),
    "xlm-roberta": ("hidden_size", "embeddings.word_embeddings.weight"),
}
# Keys that the transformer's configuration may have only with these values.
TRANSFORMER = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}
POOLINGS = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
ONE_OUTPUT = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}


class Identity(NamedTuple):
    """Name and dimension of an embedding model, which a store keeps: see `Embedder`."""

    name: str
    dim: int


class _UnclearError(Exception):
    """The files do not determine the dimension with certainty."""


def identity(source: loading.Source) -> Identity | None:
    """Return the name and dimension that a model will have when it is loaded.

    Parameters
    ----------
    source : Source
        The result of `loading.find`.

    Returns
    -------
    Identity or None
        None if the model must be loaded to find out, or if its files are invalid: loading then raises the error.
    """
    if not isinstance(source.place, Path) or any(find_spec(package) is None for package in NEEDED):
        return None
    try:
        dim = _dim(source.place)
        return Identity(loading.name(source), dim)
    except (_UnclearError, OSError, ValueError, KeyError, TypeError, AttributeError):  # files in another form
        return None


def _dim(folder: Path) -> int:
    file = folder / "config_sentence_transformers.json"
    own = _json(file) if file.is_file() else {}
    _check(own.get("model_type", "SentenceTransformer") == "SentenceTransformer" and not own.get("requirements"))
    modules = _json(folder / "modules.json")
    kinds = [_kind(module["type"]) for module in modules]
    _check(kinds[:2] == ["Transformer", "Pooling"] and modules[0]["path"] == "")
    dim = _of_transformer(folder)
    for kind, module in zip(kinds[1:], modules[1:], strict=True):
        path = Path(module["path"])
        _check(not path.is_absolute() and ".." not in path.parts)
        dim = {"Pooling": _of_pooling, "Dense": _of_dense, "Normalize": _of_normalize}[kind](folder / path, dim)
    longest = own.get("truncate_dim")
    _check(longest is None or (type(longest) is int and longest > 0))
    return min(dim, longest or dim)


def _kind(reference: str) -> str:
    """Return the class name of a module. Only modules of the library itself, in all its versions, are accepted."""
    _check(reference.startswith(tuple(f"sentence_transformers.{place}." for place in PLACES)))
    return reference.rsplit(".", 1)[-1]


def _of_transformer(folder: Path) -> int:
    config, own = _json(folder / "config.json"), _json(folder / "sentence_bert_config.json")
    _check("auto_map" not in config and not _has(folder, "adapter_config.json") and _has(folder, "tokenizer.json"))
    _check(all(own[key] == value for key, value in TRANSFORMER.items() if key in own))
    _check(own.keys() <= {"max_seq_length", "do_lower_case", *TRANSFORMER})
    name, embedding = KINDS[config["model_type"]]
    dim = config[name]
    shapes = [shape for key, shape in _shapes(folder / WEIGHTS).items() if key.endswith(embedding)]
    _check(type(dim) is int and [shape[1:] for shape in shapes] == [[dim]])
    return int(dim)


def _of_pooling(folder: Path, dim: int) -> int:
    config = _json(folder / "config.json")
    _check(config.get("embedding_dimension", config.get("word_embedding_dimension")) == dim)
    if "pooling_mode" in config:
        modes = config["pooling_mode"]
        return dim if isinstance(modes, str) else len(modes) * dim
    return dim * (sum(bool(config.get(f"pooling_mode_{mode}")) for mode in POOLINGS) or 1)


def _of_dense(folder: Path, dim: int) -> int:
    config = _json(folder / "config.json")
    _check_output(config)
    _check(config["in_features"] == dim and not config.get("use_residual"))
    _check(config.get("activation_function", "torch.").startswith("torch."))
    _check(_shapes(folder / WEIGHTS)["linear.weight"] == [config["out_features"], dim])
    return int(config["out_features"])


def _of_normalize(folder: Path, dim: int) -> int:
    if _has(folder, "config.json"):
        _check_output(_json(folder / "config.json"))
    return dim


def _check_output(config: Mapping[str, Any]) -> None:
    _check(all(config.get(key) in (None, value) for key, value in ONE_OUTPUT.items()))


def _shapes(file: Path) -> dict[str, list[int]]:
    """Return the shapes of the tensors in a safetensors file. Its size must match its header."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        _check(length <= file.stat().st_size)
        tensors = json.loads(opened.read(length))
    tensors.pop("__metadata__", None)
    _check(8 + length + max(tensor["data_offsets"][1] for tensor in tensors.values()) == file.stat().st_size)
    return {name: tensor["shape"] for name, tensor in tensors.items()}


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def _check(clear: bool) -> None:
    if not clear:
        raise _UnclearError
