"""The key that the caller keeps, with which the keys of the examples are wrapped. It is never stored."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from erase_core import checks
from erase_core.errors import ParameterError, os_reason

__all__ = ["KeySource", "user_key"]

KeySource = bytes | str | PathLike[str] | Callable[[], bytes]
"""Bytes; a file that contains them; ``env:NAME`` for an environment variable; or a function that returns them."""

SHORTEST = 32
VARIABLE = "env:"


def user_key(name: str, source: KeySource | None) -> bytes | None:
    """Return a caller's key as 32 bytes; None if there is none.

    Parameters
    ----------
    name : str
        What messages call the parameter.
    source : bytes, str, path, callable or None
        The key: at least 32 bytes, drawn at random. Line breaks at the end are ignored if 32 bytes are left. A ``str``
        is the path of a file, or ``env:NAME``.

    Raises
    ------
    ParameterError
        The source cannot be read, or the key is too short.
    """
    if source is None:
        return None
    content, place = _content(name, source)
    text = content.rstrip(b"\r\n")
    # 32 random bytes may end with what looks like a line break.
    content = text if len(text) >= SHORTEST else content
    if len(content) < SHORTEST:
        raise ParameterError(
            f"{name} must be a key of at least {SHORTEST} bytes, got {len(content)} from {place}. Make one with "
            "`openssl rand -hex 32`."
        )
    return hashlib.sha256(b"erase-core user key 1" + content).digest()


def _content(name: str, source: KeySource) -> tuple[bytes, str]:
    """Return the key, and words for where it is from."""
    if isinstance(source, bytes):
        return source, "the bytes given"
    if callable(source):
        content = source()
        if not isinstance(content, bytes):
            raise ParameterError(f"{name} must be a function that returns bytes, got {type(content).__name__}")
        return content, "the function given"
    path = checks.path(name, source)
    if isinstance(source, str) and source.startswith(VARIABLE):
        variable = source.removeprefix(VARIABLE)
        value = os.environ.get(variable)
        if value is None:
            raise ParameterError(f"{name}: the environment variable {variable!r} is not set")
        return os.fsencode(value), f"the environment variable {variable!r}"
    try:
        return Path(path).read_bytes(), f"the file {path}"
    except OSError as error:
        raise ParameterError(f"{name}: {path}: {os_reason(error)}") from error
