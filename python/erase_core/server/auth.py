"""Bearer tokens with scopes. A file of tokens has only their hashes, so whoever reads it cannot use them.

Each line of the file is ``SCOPES sha256:HEX``, with the scopes separated by commas; a line that begins with # is a
comment. A token is 32 random bytes, so a fast hash is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from erase_core.errors import ParameterError, os_reason
from erase_core.server.errors import ApiError

__all__ = ["SCOPES", "TOKEN", "Tokens", "is_local", "new_token", "route_for"]

SCOPES = {
    "ask": "chats, and the list of models",
    "ingest": "adding examples",
    "forget": "forgetting, receipts, verifying",
    "metrics": "the metrics",
}
LINE = re.compile(r"([a-z,]+)\s+sha256:([0-9a-f]{64})")
PREFIX = "erase_"
# For the description of routes. `route_for` checks the token.
TOKEN = Security(HTTPBearer(auto_error=False))


class Entry(NamedTuple):
    """The scopes of a token, and its hash."""

    scopes: frozenset[str]
    hash: str


class Tokens:
    """The tokens that a server accepts.

    Parameters
    ----------
    entries : sequence of Entry or None, default=None
        None: no token is needed. Then only requests that name this machine as their host are accepted, so that a page
        in a browser cannot reach the server under another name.
    """

    def __init__(self, entries: Sequence[Entry] | None = None) -> None:
        self._entries = None if entries is None else tuple(entries)

    @classmethod
    def read(cls, file: Path) -> Tokens:
        """Read a file of tokens.

        Raises
        ------
        ParameterError
            The file cannot be read, a line has another form, or there is no token.
        """
        try:
            lines = file.read_text("utf-8").splitlines()
        except OSError as error:
            raise ParameterError(f"--token-file: {file}: {os_reason(error)}") from error
        except UnicodeDecodeError:
            raise ParameterError(f"--token-file: {file} is not in UTF-8. Save it in that encoding.") from None
        entries = []
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            match = LINE.fullmatch(line.strip())
            if match is None:  # the line is not shown: it may be a token
                raise ParameterError(
                    f"--token-file: {file}: line {number} must be SCOPES sha256:HEX. Make tokens by --new-token."
                )
            scopes = _scopes_in(match[1], f"--token-file: {file}: line {number}")
            entries.append(Entry(scopes, match[2]))
        if not entries:
            raise ParameterError(f"--token-file: {file} has no token, so nobody could use the server. Add one.")
        return cls(entries)

    def check(self, request: Request, scope: str | None) -> None:
        """Check that a request may do what needs this scope. None: what any token may do.

        Raises
        ------
        ApiError
            401: the token is missing or wrong. 403: it does not have the scope, or the host is another one.
        """
        if self._entries is None:
            if not is_local(re.sub(r":\d*$", "", request.headers.get("host", "")).strip("[]")):
                raise ApiError(403, "wrong_host", "Without tokens, this server answers only as localhost or 127.0.0.1.")
            if request.headers.get("sec-fetch-site") == "cross-site":
                raise ApiError(403, "wrong_host", "Without tokens, this server does not answer pages of other sites.")
            return
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        given = hashlib.sha256(token.strip().encode("latin-1", "replace")).hexdigest()
        # All are compared, so that the time does not depend on which one it is.
        matching = [entry for entry in self._entries if hmac.compare_digest(entry.hash, given)]
        if kind.lower() != "bearer" or not matching:
            raise ApiError(
                401,
                "invalid_api_key",
                "The token is missing or wrong. Send the header `Authorization: Bearer TOKEN`.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if scope is not None and not any(scope in entry.scopes for entry in matching):
            raise ApiError(403, "insufficient_scope", f"The token does not have the scope {scope}.")


def is_local(host: str) -> bool:
    """Whether an address or a name means this machine, which only itself reaches by it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def new_token(scopes: str, file: Path) -> str:
    """Make a token, append its hash to a file, which is made if there is none, and return the token.

    Raises
    ------
    ParameterError
        A scope is unknown, or the file cannot be written.
    """
    given = _scopes_in(scopes, "--new-token")
    named = ",".join(scope for scope in SCOPES if scope in given)
    token = PREFIX + secrets.token_urlsafe(32)
    line = f"{named} sha256:{hashlib.sha256(token.encode()).hexdigest()}\n"
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with open(descriptor, "r+b") as opened:
            opened.seek(0, os.SEEK_END)
            if opened.tell():
                opened.seek(-1, os.SEEK_END)
                line = line if opened.read(1) == b"\n" else f"\n{line}"
            opened.write(line.encode())
    except OSError as error:
        raise ParameterError(f"--token-file: {file}: {os_reason(error)}") from error
    return token


def _scopes_in(text: str, where: str) -> frozenset[str]:
    scopes = text.split(",")
    if not all(scope in SCOPES for scope in scopes):  # the text is not shown: it may be a token
        raise ParameterError(f"{where} must have some of the scopes {','.join(SCOPES)}, separated by commas.")
    return frozenset(scopes)


def route_for(scope: str | None) -> type[APIRoute]:
    """Return a class of routes that check the token before they read the body."""

    class Guarded(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                request.app.state.service.tokens.check(request, scope)
                return await handler(request)

            return guarded

    return Guarded
