"""The address of a model server, split into a public part and credentials.

User name and password are kept only in memory, and sent only in a header. Errors never show what may be a secret.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from erase_core.errors import ParameterError
from erase_core.examples.example import unstorable

__all__ = ["Address", "check_no_credentials"]

ADVICE = "Leave it out, and give api_key"
# Names of query parameters whose values are secrets. Query parameters often appear in logs.
SECRET_NAME = re.compile(
    r"key|token|secret|passw|pwd|auth|credential|bearer|jwt|session|access|^(sig|signature|code|pass|sas|subscription)$"
)


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a server.

    Attributes
    ----------
    url : str
        The address without credentials and query.
    query : dict of str to str
        Query parameters of every request, such as an ``api-version``.
    credentials : str or None
        User name and password, decoded and separated by a colon. They are not part of the repr.
    """

    url: str
    query: dict[str, str]
    credentials: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, base_url: object) -> Address:
        """Parse an address.

        Raises
        ------
        ParameterError
            This is not the address of an HTTP server, or its query contains a secret.
        """
        parts = _split(base_url)
        if "@" in parts.path + parts.query + parts.fragment:
            # A slash in a password ends the host, so the rest of the password would be sent as part of the path.
            raise ParameterError("base_url must have no @ after the host. Write @ in a password or path as %40.")
        if parts.fragment:
            raise ParameterError("base_url must have no fragment, which is the part from # on. Leave it out.")
        if any(SECRET_NAME.search(name.lower()) for name in re.findall(r"([\w.-]+)=", parts.path)):
            raise ParameterError(f"base_url must contain no secret, but its path seems to have one. {ADVICE}.")
        user, at, host = parts.netloc.rpartition("@")
        url = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        return cls(url, _query(parts.query), unquote(user) if at else None)

    @property
    def authorization(self) -> str | None:
        """The value of the header for the credentials."""
        return None if self.credentials is None else "Basic " + b64encode(self.credentials.encode()).decode()

    @property
    def shown(self) -> str:
        """The address without its scheme, as part of a model's name."""
        return self.url.partition("://")[2]


def check_no_credentials(base_url: str) -> None:
    """Refuse an address with a user name or password, since a store would keep it.

    Raises
    ------
    ParameterError
    """
    if "@" in base_url:
        raise ParameterError(
            f"base_url must have no user name and no password, since a store keeps it. {ADVICE}, or give an OpenAILLM."
        )


def _split(base_url: object) -> SplitResult:
    if not isinstance(base_url, str):
        shown = "None" if base_url is None else type(base_url).__name__
        raise ParameterError(f"base_url must begin with http:// or https:// and a host, got {shown}")
    if any(sign.isspace() or not sign.isprintable() for sign in base_url) or unstorable(base_url):
        raise ParameterError("base_url must have no white space and no control characters. Remove them.")
    try:
        parts = urlsplit(base_url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        shown = "" if re.search("[@?#]", base_url) else f", got {base_url!r}"
        raise ParameterError(f"base_url must begin with http:// or https:// and a host, with a valid port{shown}")
    return parts


def _query(text: str) -> dict[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True)
    for name, _ in pairs:
        if SECRET_NAME.search(name.lower()):
            raise ParameterError(f"base_url must contain no secret, but its query has {name!r}. {ADVICE}.")
    if len(dict(pairs)) < len(pairs):
        raise ParameterError("base_url must have each name only once in its query. Leave out repeated names.")
    return dict(pairs)
