"""Models as a caller names them, or brings them: found, loaded, and what they return checked."""

from __future__ import annotations

import os
from dataclasses import replace
from os import PathLike
from typing import Any, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from erase_core.embed import Embedder, SentenceEmbedder
from erase_core.errors import EmbedderError, ParameterError
from erase_core.examples import counted, unstorable
from erase_core.llm import LLM, OpenAILLM, TransformersLLM
from erase_core.parameters import MAX_DIM
from erase_core.sentence_model import PACKAGED
from erase_core.settings import Settings

__all__ = ["Models", "as_embedder", "as_given", "checked_vectors", "is_name", "name_of"]

# What a model in half precision may be off by, and what the clustering takes (1.5 %).
NORM_TOLERANCE = 0.015


def is_name(model: object) -> TypeGuard[str | PathLike[str]]:
    """Whether a model is given by name or folder, not as an object."""
    return isinstance(model, (str, PathLike))


def name_of(name: str, model: object) -> str | None:
    """Return the name of a model that is given by name; None for one that is an object, or for the packaged one."""
    if is_name(model):
        # A folder is the same one wherever the store is opened from.
        return os.path.abspath(model) if os.path.exists(model) else os.fspath(model)
    if model is not None and not hasattr(model, "name"):
        raise ParameterError(f"{name} must be a name, a folder, a model or None, got {model!r}")
    return None


def as_given(name: str, model: object) -> Any:
    """Return a model as the caller has given it: its name, the object, or None."""
    named = name_of(name, model)
    return model if named is None else named


def as_embedder(model: str | PathLike[str] | Embedder | None) -> Embedder:
    """Return an embedding model: the packaged one for None."""
    if model is None or is_name(model):
        return SentenceEmbedder(name_of("embedder", model))
    return _described(cast("Embedder", model))


def _described(embedder: Embedder) -> Embedder:
    """Check what an embedder of the caller's says of itself, which the store keeps."""
    name, dim = embedder.name, getattr(embedder, "dim", None)
    fault = f"is {name!r}" if not isinstance(name, str) or not name.strip() else unstorable(name)
    if fault:
        raise EmbedderError(f"the name of the embedding model must be text that can be stored, but it {fault}")
    if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool) or not 1 <= dim <= MAX_DIM:
        raise EmbedderError(f"dim of the embedding model {name} must be an integer from 1 to {MAX_DIM}, got {dim!r}")
    return embedder


def as_llm(settings: Settings) -> LLM:
    """Return the language model that settings name: the packaged one if they name none."""
    if settings.base_url is not None:
        return OpenAILLM(settings.llm or "", base_url=settings.base_url)
    return TransformersLLM(settings.llm, chat=settings.chat)


class Models:
    """The models that a store works with, loaded when they are needed.

    Parameters
    ----------
    settings : Settings
        Which name them.
    identity : str
        Of the embedding model that the store was built with.
    dim : int
        Its dimensions.
    """

    def __init__(self, settings: Settings, identity: str, dim: int) -> None:
        self._settings, self._identity, self._dim = settings, identity, dim
        self._embedder: Embedder | None = None
        self._llm: LLM | None = None
        # By name or as objects, as the caller has given them; None for those of the settings.
        self.given_embedder: str | Embedder | None = None
        self.given_llm: str | LLM | None = None

    @property
    def _dimensions(self) -> str:
        return counted(self._dim, "dimension")

    @property
    def loaded(self) -> tuple[str | Embedder | None, str | LLM | None]:
        """Both models, those that are loaded as objects; for a handle on the same store in this process."""
        return self._embedder or self.given_embedder, self._llm or self.given_llm

    @property
    def embedder(self) -> Embedder:
        """The embedding model.

        Raises
        ------
        EmbedderError
            It cannot be loaded, or is not the one that the store was built with.
        """
        if self._embedder is None:
            if self._settings.embedder is None and not self._identity.startswith(f"{PACKAGED}@"):
                raise EmbedderError(
                    f"the store was built with the embedding model {self._identity} ({self._dimensions}), which "
                    "was given as an object; give the one of that name again, Erase.open(path, embedder=...); the "
                    "command line cannot do it"
                )
            self.embed_by(as_embedder(self._settings.embedder))
        return cast("Embedder", self._embedder)

    def embed_by(self, embedder: Embedder) -> None:
        """Use an embedding model.

        Raises
        ------
        EmbedderError
            It is not the one that the store was built with.
        """
        if (embedder.name, embedder.dim) != (self._identity, self._dim):
            raise EmbedderError(
                f"the store was built with the embedding model {self._identity} ({self._dimensions}), "
                f"not with {embedder.name} ({embedder.dim}); vectors of two models cannot be compared; pass the first "
                "as embedder=, or make a new store"
            )
        self._embedder = embedder

    @property
    def llm(self) -> LLM:
        """The language model.

        Raises
        ------
        LLMError
            It cannot be loaded.
        """
        if self._llm is None:
            self._llm = as_llm(self._settings)
        return self._llm

    def answer_by(self, llm: str | PathLike[str] | LLM | None) -> None:
        """Use a language model; the one that the settings name for None."""
        name = name_of("llm", llm)
        self.given_llm = as_given("llm", llm)
        self._llm = cast("LLM | None", llm) if name is None else as_llm(replace(self._settings, llm=name))

    @property
    def llm_name(self) -> str:
        """Name of the language model that is used."""
        return self._llm.name if self._llm is not None else self._settings.llm or "packaged SmolLM2-135M-Instruct"

    def forget(self) -> None:
        """Have the language model, if there is one, overwrite what it keeps of prompts."""
        if self._llm is not None:
            self._llm.forget()


def checked_vectors(embedder: Embedder, texts: list[str], progress: bool = False) -> NDArray[np.float32]:
    """Return the vectors of texts, in an array that is nobody else's, so that it may be overwritten."""
    given = embedder.embed(texts, progress=progress)
    try:
        # A caller's own embedder may keep what it gives away; ours does not.
        ours = isinstance(embedder, SentenceEmbedder) and given.flags.c_contiguous
        vectors = given if ours else np.array(given, dtype=np.float32, order="C")
    except (TypeError, ValueError) as error:
        raise EmbedderError(f"the embedding model {embedder.name} gave no vectors: {error}") from error
    if vectors.shape != (len(texts), embedder.dim):
        raise EmbedderError(
            f"the embedding model {embedder.name} gave an array of shape {vectors.shape} for "
            f"{counted(len(texts), 'text')}; it must be ({len(texts)}, {embedder.dim})"
        )
    if not np.isfinite(vectors).all():
        raise EmbedderError(f"the embedding model {embedder.name} gave a vector that is not finite")
    _check_norms(embedder, vectors)
    return vectors


def _check_norms(embedder: Embedder, vectors: NDArray[np.float32]) -> None:
    """Check that vectors are of unit norm, on which the scale of the clustering rests, or zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    (wrong,) = np.nonzero((np.abs(norms - 1) > NORM_TOLERANCE) & (norms > 0))
    if len(wrong):
        raise EmbedderError(
            f"the embedding model {embedder.name} gave vectors that are not of unit norm: {len(wrong)} of "
            f"{counted(len(norms), 'vector')}, the first of norm {norms[wrong[0]]:.4g}; have `embed` return "
            "vectors / np.linalg.norm(vectors, axis=1, keepdims=True)"
        )
