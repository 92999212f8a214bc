"""Options for requests to a model server, which a store keeps, and the server's key, which it does not keep."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from erase_core.checks import integer
from erase_core.errors import ParameterError
from erase_core.examples.example import unstorable
from erase_core.llm.protocol import MAX_TOKENS

__all__ = ["DEFAULT_KEY", "ServerOptions", "check_key", "key_from"]

DEFAULT_KEY = "OPENAI_API_KEY"
# Capitals only. Nearly every key has a lower-case letter, so a key given by mistake is refused and not stored.
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
# Names of parameters whose values are secrets. `prompt_cache_key` and `stop_token_ids` are not among them.
SECRET = re.compile(
    r"api.?key|secret|passw|pwd|credential|authorization|bearer|jwt|(access|auth|id|refresh|session).?token|headers?$|"
    r"^(auth|token|key|cookies?)$",
    re.IGNORECASE,
)
MOST_DEPTH = 50
OWN = ("model", "messages", "max_tokens", "max_completion_tokens", "n", "stream")


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Options for requests to a model server.

    Parameters
    ----------
    timeout : float, default=60.0
        Seconds to wait for a reply, for each attempt.
    max_retries : int, default=2
        Further attempts, 0 to 100, after a failed connection, a timeout, or a status of 408, 409, 429 or at least 500.
    context_length : int or None, default=None
        Most tokens of prompt and answer together. None: from the server's list of models, if it contains the number.
    thinking_tokens : int, default=0
        Tokens that a model may use for thoughts, in addition to those of the answer.
    api_key_env : str or None, default=None
        Name, in capitals, of the environment variable with the server's key. None: OPENAI_API_KEY, if it is set.
    parameters : mapping of str to JSON values, default={}
        Further parameters of each request, such as ``{"reasoning_effort": "low"}``. The value None removes a default
        parameter: ``{"temperature": None}``.

    Raises
    ------
    ParameterError
        An option has the wrong type or is out of range.
    """

    timeout: float = 60.0
    max_retries: int = 2
    context_length: int | None = None
    thinking_tokens: int = 0
    api_key_env: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, (int, float)) or not _positive(self.timeout):
            raise ParameterError(f"server: timeout must be a positive number of seconds, got {self.timeout!r}")
        object.__setattr__(self, "timeout", float(self.timeout))
        object.__setattr__(self, "max_retries", integer("max_retries", self.max_retries, 0, 100))
        if self.context_length is not None:
            object.__setattr__(self, "context_length", integer("context_length", self.context_length, 1, 2**40))
        thoughts = integer("thinking_tokens", self.thinking_tokens, 0, MAX_TOKENS)
        object.__setattr__(self, "thinking_tokens", thoughts)
        if self.context_length is not None and thoughts >= self.context_length:
            raise ParameterError(
                f"thinking_tokens must be less than context_length={self.context_length}, got {thoughts}"
            )
        if self.api_key_env is not None and not (
            isinstance(self.api_key_env, str) and VARIABLE.fullmatch(self.api_key_env)
        ):
            # The value is not shown: it may be the key itself.
            raise ParameterError(
                "api_key_env must be the name of an environment variable, in capitals. Put the key into that variable."
            )
        object.__setattr__(self, "parameters", _checked(self.parameters))

    @classmethod
    def of(cls, given: object, base: ServerOptions | None = None) -> ServerOptions:
        """Return options given as `ServerOptions`, as a mapping, or as None. A mapping replaces options of `base`.

        Raises
        ------
        ParameterError
            `given` has another type, or a name is unknown.
        """
        if isinstance(given, ServerOptions):
            return given
        names = [option.name for option in fields(cls)]
        kept = {} if base is None else {name: getattr(base, name) for name in names}
        if given is None:
            return cls(**kept)
        if not isinstance(given, Mapping):
            raise ParameterError(
                f"server must be ServerOptions, a mapping of names to values, or None, got {type(given).__name__}"
            )
        unknown = [name for name in given if name not in names]
        if unknown:
            raise ParameterError(f"server must have only the options {', '.join(names)}, got {unknown[0]!r}")
        return cls(**{**kept, **given})


def check_key(key: object) -> str | None:
    """Return an API key without space around it, or None.

    Raises
    ------
    ParameterError
        The key cannot be sent in a header. The message does not show the key.
    """
    if key is None:
        return None
    if not isinstance(key, str):
        raise ParameterError(f"api_key must be text or None, got {type(key).__name__}")
    key = key.strip()
    # The client's own error would show the key.
    if not all("!" <= sign <= "~" for sign in key):
        raise ParameterError(
            "api_key must be printable ASCII without white space (it is not shown here). Check that it was copied "
            "correctly."
        )
    return key


def key_from(variable: str | None) -> str | None:
    """Return the key from an environment variable; by default from OPENAI_API_KEY, if it is set.

    Raises
    ------
    ParameterError
        The named variable is not set, or its value is not a valid key.
    """
    key = os.environ.get(variable or DEFAULT_KEY, "")
    if variable is not None and not key.strip():
        raise ParameterError(
            f"api_key_env names the variable {variable}, which is not set. Put the server's key into it."
        )
    try:
        return check_key(key) or None
    except ParameterError as error:
        raise ParameterError(f"{variable or DEFAULT_KEY}: {error}") from None


def _positive(number: float) -> bool:
    return 0 < number < math.inf


def _checked(given: object) -> dict[str, Any]:
    """Return a checked, independent copy of the parameters."""
    if not isinstance(given, Mapping) or not all(isinstance(name, str) and name for name in given):
        raise ParameterError("parameters must map names to JSON values, for example {'top_p': 1}")
    own = [name for name in given if name in OWN]
    if own:
        raise ParameterError(f"parameters must not have {own[0]!r}, which is set with each request. Leave it out.")
    secret = next(filter(SECRET.search, _names(given)), None)
    if secret is not None:
        raise ParameterError(
            f"parameters must contain no secret, since a store keeps them, but have {secret!r}. Give api_key."
        )
    try:
        text = json.dumps(dict(given), allow_nan=False)
        copy: dict[str, Any] = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise ParameterError(
            "parameters must map names to JSON values: text, finite numbers, lists, mappings"
        ) from None
    if unstorable(json.dumps(copy, ensure_ascii=False)):
        raise ParameterError("parameters must be text that can be sent. Remove lone surrogates and NUL characters.")
    return copy


def _names(given: object, depth: int = 0) -> Iterator[str]:
    """Yield the names in a mapping, and in the mappings and lists inside it, down to `MOST_DEPTH` levels."""
    if depth > MOST_DEPTH:
        return
    if isinstance(given, Mapping):
        yield from (name for name in given if isinstance(name, str))
    inner = given.values() if isinstance(given, Mapping) else given if isinstance(given, (list, tuple)) else ()
    for each in inner:
        yield from _names(each, depth + 1)
