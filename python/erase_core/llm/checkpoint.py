"""Loads a language model: finds it by name, and loads its weights and tokenizer. A GGUF file is converted once.

The converted file is kept in a cache folder. It contains only public weights, never anything of a prompt.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from erase_core import checks
from erase_core.errors import LLMError, MissingPackageError, ParameterError
from erase_core.examples.example import unstorable
from erase_core.libraries import gguf_progress, quiet
from erase_core.llm.chat import template_text
from erase_core.llm.packaged import INSTALL, packaged_model
from erase_core.progress import bar
from erase_core.tokenizing import control_tokens

DTYPES = ("float32", "bfloat16", "float16")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A causal language model in memory, ready to run."""

    model: Any
    tokenizer: Any
    name: str


def load(model: str | Path | None, device: str | None, dtype: str) -> Checkpoint:
    """Load a model; see `TransformersLLM` for the parameters.

    Raises
    ------
    MissingPackageError, ParameterError, LLMError
    """
    _check_packages(model)
    checks.choice("dtype", dtype, DTYPES)
    place = _torch_device(device)
    name, source = _source(model)
    tokenizer = _load_tokenizer(name, source)
    weights = _load_weights(name, source, dtype, place)
    return Checkpoint(weights, tokenizer, f"{name}@{_digest(weights)}")


def control_tokens_of(model: str | Path | None, *, chat: bool) -> tuple[str, ...]:
    """Return the control tokens of a model. Only the tokenizer is loaded.

    Raises
    ------
    MissingPackageError, ParameterError, LLMError
    """
    _check_packages(model)
    tokenizer = _load_tokenizer(*_source(model))
    template = getattr(tokenizer, "chat_template", None) if chat else None
    return tuple(control_tokens(tokenizer, template_text(template)))


def _check_packages(model: str | Path | None) -> None:
    if find_spec("torch") is None or find_spec("transformers") is None:
        missing = MissingPackageError.of("torch and transformers", "llm")
        if model is None:
            raise MissingPackageError(f"{missing} For the default model, run also `{INSTALL}`.")
        raise missing


def _source(model: str | Path | None) -> tuple[str, str | Path]:
    """Return a model's name, and the folder or hub id from which transformers loads it."""
    path = packaged_model() if model is None else _local(model)
    if path is None:
        return str(model), str(model)
    return (path.resolve().name, path) if path.is_dir() else (path.stem, _converted(path))


def torch_dtype(name: str | None) -> Any:
    """Return a type of torch by its name."""
    import torch

    return None if name is None else getattr(torch, name)


def _torch_device(device: str | None) -> Any:
    import torch

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ParameterError(f"device must be available to torch, got {device!r}: {_line(error)}") from None
    return place


def _local(model: str | Path) -> Path | None:
    """Return the folder or GGUF file of a model; None if the model is on the hub."""
    if not isinstance(model, (str, Path)) or not str(model).strip():
        raise ParameterError(f"model must be a folder, a .gguf file, a hub id or None, got {model!r}")
    path = Path(model).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        return path
    if path.is_file():
        raise LLMError(f"{model} is neither a folder nor a .gguf file. Give the folder of the model.")
    is_hub_id = isinstance(model, str) and model.count("/") <= 1 and not model.startswith((".", "/", "~"))
    if path.suffix == ".gguf" or not is_hub_id:
        raise LLMError(f"no model at {model}: no such file or folder")
    return None


def _load_tokenizer(name: str, source: str | Path) -> Any:
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(source)
            tokenizer("a")  # some tokenizers load without a vocabulary, and fail only here
    except Exception as error:
        raise LLMError(_explain(name, source, "tokenizer", error)) from error
    return tokenizer


def _load_weights(name: str, source: str | Path, dtype: str, place: Any) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            return AutoModelForCausalLM.from_pretrained(source, dtype=torch_dtype(dtype)).to(place).eval()
    except Exception as error:
        raise LLMError(_explain(name, source, "model", error)) from error


def _explain(name: str, source: str | Path, part: str, error: Exception) -> str:
    if isinstance(source, str):
        return (
            f"cannot load the {part} of {name} from the hub or its local cache: {_line(error)}. Check the name and the "
            "network, or download the model and give its folder."
        )
    advice = (
        "Delete that folder, and it will be made again."
        if source.parent == cache_folder()
        else "Give a folder with config.json, the weights and the tokenizer's files."
    )
    return f"cannot load the {part} of {name} from {source}: {_line(error)}. {advice}"


def cache_folder() -> Path:
    """Return the folder of converted models: $ERASE_CORE_CACHE, or erase-core in the platform's cache folder."""
    if chosen := os.environ.get("ERASE_CORE_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "erase-core"


def _converted(gguf: Path) -> Path:
    """Return the folder of a converted GGUF file. The file is converted first if necessary."""
    with gguf.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise LLMError(f"{gguf} is not a GGUF file, or its download is incomplete. Download it again.")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")
    folder = cache_folder() / digest.hexdigest()
    if reason := unstorable(str(folder)):  # the libraries that write there accept only names in UTF-8
        raise LLMError(
            f"cannot write the conversion of {gguf} to {folder.parent}: the name {reason}. Set ERASE_CORE_CACHE to a "
            "folder whose name is in UTF-8."
        )
    if folder.is_dir():
        return folder
    if missing := [package for package in ("gguf", "accelerate") if find_spec(package) is None]:
        raise MissingPackageError(f"a GGUF file needs {' and '.join(missing)}. Run `pip install 'erase-core[llm]'`.")
    _log.info("converting %s, once: %s", gguf, folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="unfinished-", ignore_cleanup_errors=True) as made:
            _convert(gguf, Path(made) / "model")
            _rename(Path(made) / "model", folder)
    except OSError as error:
        raise LLMError(
            f"cannot write the conversion of {gguf} to {folder.parent}: {_line(error)}. Free disk space, or set "
            "ERASE_CORE_CACHE to another folder."
        ) from error
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # Otherwise weights may stay quantised if a kernel for them is installed, and quantised weights cannot be saved.
    unpacked = GgufConfig(dequantize=True)
    where = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    with quiet(), gguf_progress(partial(bar, f"Converting {gguf.name}, once")):
        try:
            tokenizer = AutoTokenizer.from_pretrained(**where)
            model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, quantization_config=unpacked)
        except Exception as error:
            raise LLMError(
                f"cannot read {gguf}: {_line(error)}. Use a complete file of an architecture that transformers knows."
            ) from error
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _rename(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process has made it meanwhile
            raise


def _digest(model: Any) -> str:
    """Return a short hash of the names, shapes and some entries of all weights. It changes when a model is trained."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().flatten()
        some = flat[:: max(1, flat.numel() // 64)].float().cpu().numpy()
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(some.astype("<f4").tobytes())
    return digest.hexdigest()[:12]


def _line(error: BaseException) -> str:
    """Return the first line of a library's error, at most 200 characters, without punctuation at its end."""
    text = " ".join(str(error).strip().split("\n")[0].split()) or type(error).__name__
    return text.rstrip(".:") if len(text) <= 200 else text[:199] + "…"
