"""The settings of a store. They never change after creation: the state is a function of settings and examples."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from os import PathLike
from typing import Any, Literal, TypedDict, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray

from erase_core import checks
from erase_core.embedding.sentence import Embedder
from erase_core.errors import ParameterError
from erase_core.examples.control_tokens import OnControlTokens
from erase_core.examples.example import unstorable
from erase_core.llm import LLM
from erase_core.llm.address import check_no_credentials
from erase_core.llm.prompt import Context, Template
from erase_core.llm.protocol import check_options
from erase_core.llm.server_options import ServerOptions

__all__ = ["GivenSettings", "Settings", "Strategy", "is_name", "name_of"]

Strategy = Literal["knn", "routed", "kmeans", "random"]

# Prompts of the strategy "routed" if none are given, and the most demonstrations in one of them: the core keeps that
# many rows of each cluster at hand (rust/core/src/exemplar.rs).
N_PROMPTS = 16
MAX_ROUTED_SHOTS = 16

# The parameters of `Erase.create` that are not settings.
OTHERS = ("api_key", "receipts", "signing_key", "public_keys", "key", "timeout")


class GivenSettings(TypedDict, total=False):
    """Settings of a new store, as `Erase.create` takes them. See `Settings` for what each means.

    Attributes
    ----------
    n_shots : int, default=8
    strategy : {"knn", "routed", "kmeans", "random"}, default="knn"
    n_prompts : int or None, default=None
        Only for ``strategy="routed"``. None: 16.
    seed : int, default=0
    epsilon : float, default=1.0
    gamma : float, default=0.2
    max_iter : int, default=5
    panel : "auto", int or None, default="auto"
    projection : int, ndarray of shape (m, dim) or None, default=None
        A number of dimensions, or a matrix, for example from `principal_axes`. `dim` is the length of the embedding
        model's vectors. A matrix is stored beside the settings.
    template : Template, mapping of str to str or None, default=None
        None: the default template. For a BIG-bench task or chats, give ``read_examples(source).template``.
    options : iterable of str, default=()
        In an order, so not a set. For a BIG-bench task, give ``read_examples(task).options``.
    embedder, llm : str, path, an object or None, default=None
        Models by name, folder or file, or objects with the methods of `Embedder` and `LLM`. None: the packaged models.
        If you pass a model as an object, pass it to `open` again.
    base_url : str or None, default=None
        If it is given, `llm` must be the name of a model there.
    chat : bool, default=False
    context : {"auto", "joint", "windows"}, default="auto"
    calibrate : bool, default=True
    server : ServerOptions, mapping of str to object or None, default=None
        As a mapping, with any of the names `timeout`, `max_retries`, `context_length`, `thinking_tokens`,
        `api_key_env` and `parameters`. See `ServerOptions` for their defaults.
    on_control_tokens : {"keep", "refuse"}, default="keep"
    """

    n_shots: int
    strategy: Strategy
    n_prompts: int | None
    seed: int
    epsilon: float
    gamma: float
    max_iter: int
    panel: Literal["auto"] | int | None
    projection: int | NDArray[np.float64] | None
    template: Template | Mapping[str, str] | None
    options: Iterable[str]
    embedder: str | PathLike[str] | Embedder | None
    llm: str | PathLike[str] | LLM | None
    base_url: str | None
    chat: bool
    context: Context
    calibrate: bool
    server: ServerOptions | Mapping[str, object] | None
    on_control_tokens: OnControlTokens


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a store.

    Parameters
    ----------
    n_shots : int, default=8
        Demonstrations in a prompt. At most 16 for the strategy "routed".
    strategy : {"knn", "routed", "kmeans", "random"}, default="knn"
        How demonstrations are chosen. "knn": the examples nearest to the query. "routed": one prompt for each cluster,
        of the examples of the cluster that are nearest to its centre; a query gets the prompt of the centre that is
        nearest to it. "kmeans": the examples nearest to the cluster centres, the same for all queries (ERASE).
        "random": a draw by seed and id. docs/accuracy.md has what each is worth.
    n_prompts : int or None, default=None
        Number of clusters, and so of prompts, for the strategy "routed", 1 to 1024. None: 16 for this strategy; it must
        be None for the others.
    seed : int, default=0
        Seed of all random draws, 0 to 2**64 - 1.
    epsilon, gamma, max_iter, panel
        See `QKMeans`.
    projection : int or None, default=None
        See `QKMeans`. None also if the store was created with a matrix, which is stored beside the settings.
    template : Template or None, default=None
        Texts of the prompt. None: the default template.
    options : tuple of str, default=()
        Answers to choose from if a call gives none.
    embedder : str or None, default=None
        Hub id or folder of the embedding model. None: the packaged model.
    llm : str or None, default=None
        Hub id, folder or GGUF file of the language model, or its name at `base_url`. None: the packaged model.
    base_url : str or None, default=None
        Address of an OpenAI-compatible server, without user name and password.
    chat : bool, default=False
        Whether to use the model's chat template.
    context : {"auto", "joint", "windows"}, default="auto"
        How the language model reads demonstrations. "joint": one after the other. "windows": each by itself, so what
        the model keeps of an example is a function of that example alone, and nothing is computed again when another
        is forgotten. Only a model in this process can read windows: see `Prompt`. "auto": windows with
        ``strategy="knn"`` if the model can read them; otherwise joint.
    calibrate : bool, default=True
        Whether `Erase.choose` takes out what the prompt makes the model prefer, whatever is asked, with
        ``strategy="kmeans"`` and ``"random"``. This takes three more runs for a new prompt and none for a known one.
        With the other strategies, demonstrations are like the query, and what they make the model prefer is the answer.
    server : ServerOptions, default=ServerOptions()
        How to send requests to the server at `base_url`. The server's key is not part of the settings.
    on_control_tokens : {"keep", "refuse"}, default="keep"
        What to do with control tokens such as ``<|im_start|>`` in examples, queries and options. "keep": treat them as
        ordinary text. A model in this process then never receives the tokens themselves, but a server may still read
        them as control tokens. "refuse": such examples are not ingested, and such queries raise an error. Both the
        common families of control tokens and those of the language model, if its tokenizer is available, are detected.

    Raises
    ------
    ParameterError
        A setting has the wrong type or is out of range.
    """

    n_shots: int = 8
    strategy: Strategy = "knn"
    n_prompts: int | None = None
    seed: int = 0
    epsilon: float = 1.0
    gamma: float = 0.2
    max_iter: int = 5
    panel: Literal["auto"] | int | None = "auto"
    projection: int | None = None
    template: Template | None = None
    options: tuple[str, ...] = field(default=())
    embedder: str | None = None
    llm: str | None = None
    base_url: str | None = None
    chat: bool = False
    context: Context = "auto"
    calibrate: bool = True
    server: ServerOptions = field(default_factory=ServerOptions)
    on_control_tokens: OnControlTokens = "keep"

    def __post_init__(self) -> None:
        # The checks turn numpy numbers into Python numbers, which JSON can hold.
        checks.choice("strategy", self.strategy, get_args(Strategy))
        is_routed = self.strategy == "routed"
        most = MAX_ROUTED_SHOTS if is_routed else 1024
        object.__setattr__(self, "n_shots", checks.integer("n_shots", self.n_shots, 1, most))
        object.__setattr__(self, "n_prompts", _n_prompts(self.n_prompts, is_routed=is_routed))
        object.__setattr__(self, "seed", checks.integer("seed", self.seed, 0, 2**64 - 1))
        checks.epsilon(self.epsilon)
        checks.gamma(self.gamma)
        for name in ("epsilon", "gamma"):
            object.__setattr__(self, name, float(getattr(self, name)))
        object.__setattr__(self, "max_iter", checks.integer("max_iter", self.max_iter, 1, checks.MAX_ITER))
        panel = checks.panel(self.panel, self.n_clusters)
        object.__setattr__(self, "panel", "auto" if self.panel == "auto" else panel)
        if self.projection is not None:
            columns = checks.integer("projection", self.projection, 1, checks.MAX_DIM)
            object.__setattr__(self, "projection", columns)
        if self.template is not None and not isinstance(self.template, Template):
            raise ParameterError(f"template must be a Template, a mapping or None, got {type(self.template).__name__}")
        object.__setattr__(self, "options", check_options(self.options, may_be_empty=True))
        for name in ("embedder", "llm", "base_url"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise ParameterError(f"{name} must be text that is not blank, or None, got {value!r}")
            if value is not None and (reason := unstorable(value)):
                raise ParameterError(f"{name} must be text that can be stored, but {value!r} {reason}. Rename it.")
        checks.flag("chat", self.chat)
        checks.flag("calibrate", self.calibrate)
        checks.choice("context", self.context, get_args(Context))
        if self.context == "windows" and self.base_url is not None:
            raise ParameterError(
                'context="windows" needs a model in this process, since a server reads demonstrations one after the '
                'other. Leave out base_url, or use context="joint".'
            )
        if not isinstance(self.server, ServerOptions):
            raise ParameterError(f"server must be ServerOptions, got {type(self.server).__name__}")
        if self.base_url is not None:
            check_no_credentials(self.base_url)
        checks.choice("on_control_tokens", self.on_control_tokens, get_args(OnControlTokens))
        if self.base_url is not None and self.llm is None:
            raise ParameterError("llm must be the name of a model at base_url, got None")

    @property
    def n_clusters(self) -> int:
        """Number of clusters of the store's model."""
        return self.n_shots if self.n_prompts is None else self.n_prompts

    @classmethod
    def of(cls, given: GivenSettings) -> Settings:
        """Return the settings that a caller gives.

        Raises
        ------
        ParameterError
            A value is invalid, or a name is not a setting.
        """
        values: dict[str, Any] = {**given}
        names = [setting.name for setting in fields(cls)]
        unknown = next((name for name in values if name not in names), None)
        if unknown is not None:
            near = get_close_matches(unknown, [*names, *OTHERS], 1)
            hint = f"Did you mean {near[0]}?" if near else f"Those are {', '.join([*OTHERS, *names])}."
            raise ParameterError(f"{unknown}: Erase.create has no such parameter. {hint}")
        if not isinstance(values.get("projection"), (int, np.integer)):  # a matrix, which the store keeps
            values["projection"] = None
        if isinstance(values.get("template"), Mapping):
            values["template"] = Template.from_dict(values["template"])
        if "server" in values:
            values["server"] = ServerOptions.of(values["server"])
        for name in ("embedder", "llm"):
            if name in values:
                values[name] = name_of(name, values[name])
        return cls(**values)

    @property
    def prompt_template(self) -> Template:
        """The template, or the default one."""
        return self.template or Template()

    def to_json(self) -> str:
        """Return the settings as JSON. Equal settings give equal text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return the settings from the JSON of `to_json`."""
        values = json.loads(text)
        if values["template"] is not None:
            values["template"] = Template.from_dict(values["template"])
        values["server"] = ServerOptions.of(values["server"])
        return cls(**{**values, "options": tuple(values["options"])})


def _n_prompts(value: object, *, is_routed: bool) -> int | None:
    """Return the number of prompts; None for the strategies that have no such number."""
    if is_routed:
        return checks.integer("n_prompts", N_PROMPTS if value is None else value, 1, 1024)
    if value is not None:
        raise ParameterError(f'n_prompts is only for strategy="routed", got {value!r}. Leave it out.')
    return None


def is_name(model: object) -> TypeGuard[str | PathLike[str]]:
    """Whether a model is given as a name or folder, not as an object."""
    return isinstance(model, (str, PathLike))


def name_of(name: str, model: object) -> str | None:
    """Return the name of a model given by name or folder; None for an object or None."""
    if is_name(model):
        # An absolute path stays valid when the store is opened from another working directory.
        return os.path.abspath(model) if os.path.exists(model) else os.fspath(model)
    if model is not None and not hasattr(model, "name"):
        raise ParameterError(f"{name} must be a name, a folder, a model or None, got {model!r}")
    return None
