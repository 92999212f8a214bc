"""What a store was created with: fixed from then on, since the state is a function of it and of the examples."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

from erase_core import checks
from erase_core.errors import ParameterError
from erase_core.examples.control_tokens import OnControlTokens
from erase_core.examples.example import unstorable
from erase_core.llm.address import check_no_credentials, without_credentials
from erase_core.llm.prompt import Template
from erase_core.llm.protocol import check_options
from erase_core.llm.server_options import ServerOptions

__all__ = ["Settings", "Strategy"]

Strategy = Literal["kmeans", "knn", "random"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a store.

    Parameters
    ----------
    n_shots : int, default=8
        Demonstrations in a prompt.
    strategy : {"kmeans", "knn", "random"}, default="kmeans"
        How they are chosen: the examples nearest to the centres, one prompt for all queries (ERASE); those nearest to
        each query; or a draw by seed and id.
    seed : int, default=0
        Seed of every draw, 0 to 2**64 - 1.
    epsilon, gamma, max_iter, panel
        As for `QKMeans`.
    projection : int or None, default=None
        As for `QKMeans`. A matrix of public axes, where there is one, is kept by the store.
    template : Template or None, default=None
        Texts of the prompt; None for the plain ones.
    options : tuple of str, default=()
        Answers to choose from where a call names none.
    embedder : str or None, default=None
        Hub id or folder of the embedding model; None for the packaged one.
    llm : str or None, default=None
        Hub id, folder or GGUF file of the language model, or its name at `base_url`; None for the packaged one.
    base_url : str or None, default=None
        Address of an OpenAI-compatible server, without user name and password.
    chat : bool, default=False
        Whether the model's chat template is used.
    server : ServerOptions, default=ServerOptions()
        How the server at `base_url` is asked. Its key is not among them.
    on_control_tokens : {"keep", "refuse"}, default="keep"
        What to do with control tokens such as ``<|im_start|>`` in examples, queries and options. "keep": they are text
        like any other. A model in this process is then never given the tokens themselves; a server cannot be kept from
        reading them as such. "refuse": such an example is not taken in, and such a query is an error. Looked for are
        the common families, and the tokens of the language model where its tokenizer is at hand.

    Raises
    ------
    ParameterError
        A value is none of what is listed.
    """

    n_shots: int = 8
    strategy: Strategy = "kmeans"
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
    server: ServerOptions = field(default_factory=ServerOptions)
    on_control_tokens: OnControlTokens = "keep"

    def __post_init__(self) -> None:
        # What numpy made is turned into what JSON knows.
        object.__setattr__(self, "n_shots", checks.integer("n_shots", self.n_shots, 1, 1024))
        if self.strategy not in get_args(Strategy):
            raise ParameterError(f"strategy must be one of {', '.join(get_args(Strategy))}, got {self.strategy!r}")
        object.__setattr__(self, "seed", checks.integer("seed", self.seed, 0, 2**64 - 1))
        checks.ratio("epsilon", self.epsilon, 0, checks.MAX_EPSILON)
        checks.ratio("gamma", self.gamma, None, 1)
        for name in ("epsilon", "gamma"):
            object.__setattr__(self, name, float(getattr(self, name)))
        object.__setattr__(self, "max_iter", checks.integer("max_iter", self.max_iter, 1, checks.MAX_ITER))
        panel = checks.panel(self.panel, self.n_shots)
        object.__setattr__(self, "panel", "auto" if self.panel == "auto" else panel)
        if self.projection is not None:
            columns = checks.integer("projection", self.projection, 1, checks.MAX_DIM)
            object.__setattr__(self, "projection", columns)
        if self.template is not None and not isinstance(self.template, Template):
            raise ParameterError(f"template must be a Template or None, got {type(self.template).__name__}")
        none = isinstance(self.options, (list, tuple)) and not self.options
        object.__setattr__(self, "options", () if none else check_options(self.options))
        for name in ("embedder", "llm", "base_url"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise ParameterError(f"{name} must be text that is not blank, or None, got {value!r}")
            if value is not None and (reason := unstorable(value)):
                raise ParameterError(f"{name} must be text that can be stored, but {value!r} {reason}; rename it")
        if not isinstance(self.chat, bool):
            raise ParameterError(f"chat must be True or False, got {self.chat!r}")
        if not isinstance(self.server, ServerOptions):
            raise ParameterError(f"server must be ServerOptions, got {type(self.server).__name__}")
        if self.base_url is not None:
            check_no_credentials(self.base_url)
        checks.choice("on_control_tokens", self.on_control_tokens, get_args(OnControlTokens))
        if self.base_url is not None and self.llm is None:
            raise ParameterError("llm must name the model that the server at base_url is to run")

    def to_json(self) -> str:
        """Return the settings as JSON, the same for the same settings."""
        values = asdict(self)
        if self.server == ServerOptions():  # so that versions without it read what does not need it
            del values["server"]
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return the settings that `to_json` wrote."""
        values = json.loads(text)
        if values["template"] is not None:
            values["template"] = Template.from_dict(values["template"])
        if values["base_url"] is not None:  # older versions kept a password that was in it
            values["base_url"] = without_credentials(values["base_url"])
        values["server"] = ServerOptions.of(values.get("server"))
        return cls(**{**values, "options": tuple(values["options"])})
