"""The two models of a store: found by name or given as objects, loaded when needed, their vectors checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from inspect import signature
from os import PathLike
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from erase_core.checks import MAX_DIM
from erase_core.embedding import loading
from erase_core.embedding.loading import PACKAGED
from erase_core.embedding.model_files import Identity, identity
from erase_core.embedding.sentence import Embedder, SentenceEmbedder
from erase_core.errors import EmbedderError, LLMError, ParameterError, first_line
from erase_core.examples.example import counted, unstorable
from erase_core.llm import LLM, OpenAILLM, ServerOptions, TransformersLLM, checkpoint
from erase_core.llm.protocol import contexts_of
from erase_core.llm.server_options import check_key
from erase_core.settings import Settings, is_name, name_of

__all__ = ["Access", "Backends", "as_embedder", "as_given", "checked_vectors", "identified", "query_vectors"]

# The norms of a model in half precision may be off by this much. The clustering tolerates 1.5 %, too.
NORM_TOLERANCE = 0.015


def as_given(name: str, model: object) -> Any:
    """Return the name of a model given by name or folder; otherwise the object itself, or None."""
    named = name_of(name, model)
    return model if named is None else named


def as_embedder(model: str | PathLike[str] | Embedder | None) -> Embedder:
    """Return an embedding model. None: the packaged model."""
    if model is None or is_name(model):
        return SentenceEmbedder(name_of("embedder", model))
    return _described(cast("Embedder", model))


def _refuse_class(name: str, model: object) -> None:
    if isinstance(model, type):
        raise ParameterError(
            f"{name} must be a model, got the class {model.__name__}. Give an object: {model.__name__}(...)."
        )


def _described(embedder: Embedder) -> Embedder:
    """Check name, dim and `embed` of an embedder given by the caller. The store keeps the first two."""
    name, dim = embedder.name, getattr(embedder, "dim", None)
    _refuse_class("embedder", embedder)
    fault = f"is {name!r}" if not isinstance(name, str) or not name.strip() else unstorable(name)
    if fault:
        raise EmbedderError(f"name of the embedding model must be text that can be stored, but it {fault}")
    if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool) or not 1 <= dim <= MAX_DIM:
        raise EmbedderError(f"dim of the embedding model {name} must be an integer from 1 to {MAX_DIM}, got {dim!r}")
    _check_takes(embedder, "embed", "texts, *, progress=False", progress=False)
    if _embeds_queries(embedder):
        _check_takes(embedder, "embed_queries", "texts")
    return embedder


def _check_takes(embedder: Embedder, method: str, parameters: str, **options: bool) -> None:
    try:
        signature(getattr(embedder, method)).bind([], **options)
    except (AttributeError, TypeError) as error:
        raise EmbedderError(
            f"the embedding model {embedder.name} must have a method {method}({parameters}): {error}. See `Embedder`."
        ) from None
    except ValueError:  # a method without a readable signature
        pass


def _embeds_queries(embedder: Embedder) -> bool:
    """Whether an embedder has an `embed_queries` that belongs to its `embed`.

    If a class redefines only `embed`, the inherited `embed_queries` may embed in another way. And one that is found by
    `__getattr__` is of an embedder within, whose vectors `embed` may change.
    """
    for place in (embedder, *type(embedder).__mro__):
        defined = getattr(place, "__dict__", ())
        if "embed" in defined or "embed_queries" in defined:
            return "embed_queries" in defined
    return False


def identified(model: str | PathLike[str] | Embedder | None) -> tuple[Identity, Embedder | None]:
    """Return name and dimension of an embedding model, and the model itself if it had to be loaded to find out."""
    if model is None or is_name(model):
        found = identity(loading.find(name_of("embedder", model)))
        if found is not None:
            return found, None
    embedder = as_embedder(model)
    return Identity(str(embedder.name), int(embedder.dim)), embedder  # NumPy types would be stored as bytes


def as_llm(settings: Settings, api_key: str | None = None) -> LLM:
    """Return the language model that the settings name, or the packaged model."""
    if settings.base_url is not None:
        options = {option.name: getattr(settings.server, option.name) for option in fields(settings.server)}
        return OpenAILLM(settings.llm or "", base_url=settings.base_url, api_key=api_key, **options)
    return TransformersLLM(settings.llm, chat=settings.chat)


@dataclass(frozen=True, slots=True)
class Access:
    """Access to a model server: given by the caller, never kept by a store.

    Parameters
    ----------
    api_key : str or None, default=None
        The server's key. It is not part of the repr.
    server : ServerOptions, mapping or None, default=None
        Options that replace those of the store: all of them, or some as a mapping.
    """

    api_key: str | None = field(default=None, repr=False)
    server: ServerOptions | Mapping[str, object] | None = None

    def merged_with(self, settings: Settings) -> ServerOptions:
        """Return the server options of a store. Those that the caller gives replace them.

        Raises
        ------
        ParameterError
            An option is invalid, or the store's model is not at a server.
        """
        check_key(self.api_key)
        if settings.base_url is None:
            for name in ("api_key", "server"):
                if getattr(self, name) is not None:
                    raise ParameterError(f"{name} is for a server, but the store has no base_url. Leave it out.")
        return settings.server if self.server is None else ServerOptions.of(self.server, settings.server)


def _check_methods(llm: LLM) -> None:
    """Check that a language model of the caller's has what `LLM` has."""
    _refuse_class("llm", llm)
    methods = ("count_tokens", "generate", "choose", "forget")
    missing = [name for name in methods if not callable(getattr(llm, name, None))]
    missing += [] if hasattr(llm, "context_length") else ["context_length"]
    if missing:
        raise LLMError(f"the language model {llm.name} must have {', '.join(missing)}. See `LLM`.")


class Backends:
    """The embedding model and the language model of a store, loaded when needed.

    Parameters
    ----------
    settings : Settings
        The settings of the store, which name the models.
    identity : str
        Name of the embedding model that the store was built with.
    dim : int
        Length of its vectors.
    access : Access
        Key and options for the model server, if the settings name a server.
    """

    def __init__(self, settings: Settings, identity: str, dim: int, access: Access) -> None:
        self._settings = replace(settings, server=access.merged_with(settings))
        self._identity, self._dim = identity, dim
        self.access = access
        self._embedder: Embedder | None = None
        self._llm: LLM | None = None
        self._control_tokens: tuple[str, ...] | None = None
        # As given by the caller, by name or as objects; None for the models of the settings.
        self.given_embedder: str | Embedder | None = None
        self.given_llm: str | LLM | None = None
        # Whether the language model may have other users, in this process.
        self._is_shared = False

    @property
    def server(self) -> ServerOptions:
        """Options for requests to the model server: those of the store, and those that the caller gave instead."""
        return self._settings.server

    @property
    def _dimensions(self) -> str:
        return counted(self._dim, "dimension")

    def share(self) -> tuple[str | Embedder | None, str | LLM | None]:
        """Return both models, as objects if they are loaded, for another handle on the same store in this process."""
        self._is_shared = True
        return self._embedder or self.given_embedder, self._llm or self.given_llm

    @property
    def embedder(self) -> Embedder:
        """The embedding model.

        Raises
        ------
        EmbedderError
            The model cannot be loaded, or is not the one that the store was built with.
        """
        if self._embedder is None:
            if self._settings.embedder is None and not self._identity.startswith(f"{PACKAGED}@"):
                raise EmbedderError(
                    f"the store was built with the embedding model {self._identity} ({self._dimensions}), which "
                    "was given as an object. Pass that object to Erase.open(path, embedder=...); the command line "
                    "cannot open this store."
                )
            self.embed_by(as_embedder(self._settings.embedder))
        return cast("Embedder", self._embedder)

    def embed_by(self, embedder: Embedder) -> None:
        """Use an embedding model.

        Raises
        ------
        EmbedderError
            The model is not the one that the store was built with.
        """
        if (embedder.name, embedder.dim) != (self._identity, self._dim):
            raise EmbedderError(
                f"the store was built with the embedding model {self._identity} ({self._dimensions}), "
                f"not with {embedder.name} ({embedder.dim}), and vectors of two models cannot be compared. Pass the "
                "first model as embedder=, or create a new store."
            )
        self._embedder = embedder

    @property
    def llm(self) -> LLM:
        """The language model.

        Raises
        ------
        LLMError
            The model cannot be loaded.
        """
        if self._llm is None:
            self._llm = self._checked(as_llm(self._settings, self.access.api_key))
        return self._llm

    def answer_by(self, llm: str | PathLike[str] | LLM | None) -> None:
        """Use a language model. None: the model of the settings."""
        name = name_of("llm", llm)
        self._is_shared = name is None and llm is not None
        self.given_llm = as_given("llm", llm)
        if name is not None:
            self._llm = self._checked(as_llm(replace(self._settings, llm=name), self.access.api_key))
        elif llm is not None:
            _check_methods(cast("LLM", llm))
            self._llm = self._checked(cast("LLM", llm))
        else:
            self._llm = None

    def _checked(self, llm: LLM) -> LLM:
        """Return a language model if it can read demonstrations as the settings say."""
        context = self._settings.context
        if context in ("auto", *contexts_of(llm)):
            return llm
        why = getattr(llm, "why_no_windows", "") or f'it does not have "{context}" among its `contexts`'
        raise LLMError(
            f"the language model {llm.name} cannot read {context}: {why}. Use another model, or create a store with "
            'context="auto" or "joint" from `erase export`.'
        )

    @property
    def llm_name(self) -> str:
        """Name of the language model in use."""
        return self._llm.name if self._llm is not None else self._settings.llm or "packaged SmolLM2-135M-Instruct"

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Control tokens of the language model. Empty if its tokenizer is not available, as for a server.

        Raises
        ------
        LLMError, MissingPackageError
            The tokenizer cannot be loaded.
        """
        if self._llm is not None:
            return tuple(getattr(self._llm, "control_tokens", ()))
        if self._settings.base_url is not None:
            return ()
        if self._control_tokens is None:  # load only the tokenizer: ingesting does not need the language model
            self._control_tokens = checkpoint.control_tokens_of(self._settings.llm, chat=self._settings.chat)
        return self._control_tokens

    def forget(self, ids: Collection[int | str] | None, shown: Collection[int | str]) -> None:
        """Make the language model, if it is loaded, overwrite what it keeps of prompts.

        Parameters
        ----------
        ids : collection of int or str, or None
            Only of prompts that showed one of these examples, if the model can distinguish them. None: of all.
        shown : collection of int or str
            All examples that this handle has shown. If the model was given as an object, so that other handles may use
            it too, all prompts are those that showed one of these.

        Raises
        ------
        LLMError
            It failed to do so.
        """
        if self._llm is None:
            return
        forget_examples = getattr(self._llm, "forget_examples", None)
        if ids is None and self._is_shared and forget_examples is not None:
            ids = shown
        try:
            if ids is None or forget_examples is None:
                self._llm.forget()
            elif ids:
                forget_examples(ids)
        except Exception as error:  # of a model of the caller's
            raise LLMError(
                f"the language model {self._llm.name} could not overwrite what it keeps of prompts: "
                f"{first_line(error)}. End this process."
            ) from error


def checked_vectors(embedder: Embedder, texts: list[str], progress: bool = False) -> NDArray[np.float32]:
    """Return the checked vectors of texts, in an array that nothing else references, so it may be overwritten."""
    return _checked(embedder, "embed", embedder.embed(texts, progress=progress), len(texts))


def query_vectors(embedder: Embedder, queries: list[str]) -> NDArray[np.float32]:
    """Return the checked vectors of queries, one row each: by `embed_queries` if the embedder has it, or by `embed`."""
    if not _embeds_queries(embedder):
        return checked_vectors(embedder, queries)
    given = cast("Any", embedder).embed_queries(queries)
    return _checked(embedder, "embed_queries", given, len(queries))


def _checked(embedder: Embedder, method: str, given: Any, n_texts: int) -> NDArray[np.float32]:
    """Check the vectors that a method of an embedder has returned. See `checked_vectors`."""
    # An embedder given by the caller may keep a reference to the array it returns; ours does not.
    ours = isinstance(embedder, SentenceEmbedder) and given.flags.c_contiguous
    vectors = given if ours else _copied(embedder, method, given)
    if vectors.shape != (n_texts, embedder.dim):
        raise EmbedderError(
            f"the embedding model {embedder.name} must return an array of shape ({n_texts}, {embedder.dim}) for "
            f"{counted(n_texts, 'text')}, got {vectors.shape}"
        )
    if not np.isfinite(vectors).all():
        raise EmbedderError(f"the embedding model {embedder.name} returned a vector that is not finite")
    _check_norms(embedder, method, vectors)
    return vectors


def _copied(embedder: Embedder, method: str, given: object) -> NDArray[np.float32]:
    """Return a copy of an embedder's result. Imaginary parts and masks are refused, never silently dropped."""
    try:
        array = np.asarray(given)
        if array.dtype.kind not in "biufO" or np.ma.is_masked(given):
            what = "a masked array" if np.ma.is_masked(given) else f"an array of {array.dtype}"
            raise TypeError(f"got {what}, not an array of real numbers")
        with np.errstate(over="ignore"):  # a value too large for float32 becomes infinite, and is refused
            return np.array(array, dtype=np.float32, order="C")
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor with a gradient
        raise EmbedderError(
            f"the embedding model {embedder.name} returned no vectors: {error}. `{method}` must return an array of "
            "floats."
        ) from error


def _check_norms(embedder: Embedder, method: str, vectors: NDArray[np.float32]) -> None:
    """Check that each vector has norm 1, or is zero. The scale of the clustering relies on this."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    (wrong,) = np.nonzero((np.abs(norms - 1) > NORM_TOLERANCE) & (norms > 0))
    if len(wrong):
        raise EmbedderError(
            f"the embedding model {embedder.name} must return vectors of unit norm, got another for {len(wrong)} of "
            f"{counted(len(norms), 'vector')}, the first of norm {norms[wrong[0]]:.4g}. Let `{method}` return "
            "vectors / np.linalg.norm(vectors, axis=1, keepdims=True)."
        )
